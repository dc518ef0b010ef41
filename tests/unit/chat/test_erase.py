"""A conversation is stopped, waited for, and erased."""

from __future__ import annotations

import pytest

from services.chat.conversation import Conversation
from services.chat.erase import STOP_SECONDS, Dependencies, erase
from shared.contract import CancelRequest, Started
from shared.errors import NatsError, StorageUnavailable
from tests.fakes import Clock, ListedVoices, MemoryConversations, MemoryHistory, SentCancels

NOW = "2026-01-02T03:04:05.678Z"
STARTED = Started("c1", "t1", 1, 0, model="m", metadata={}, speech=False, created_at=NOW)


class Bench:
    """A conversation with its text and voice, and somebody who erases it."""

    def __init__(self, *queued: str) -> None:
        self.conversations = MemoryConversations()
        self.conversations.put("c1", Conversation(system="Be kind.", ended=["t1"]))
        self.history = MemoryHistory(self.conversations)
        self.history.stored = [(1, STARTED)]
        self.history.queued = list(queued)
        self.voices = ListedVoices()
        self.voices.spoken = ["t1"]
        self.cancels = SentCancels()
        self.clock = Clock()

    async def erase(self) -> None:
        await erase(
            "c1",
            Dependencies(
                conversations=self.conversations,
                remains=self.history,
                voices=self.voices,
                cancels=self.cancels,
                clock=self.clock,
            ),
        )

    @property
    def is_whole(self) -> bool:
        return "c1" in self.conversations and bool(self.history.stored) and bool(self.voices.spoken)

    @property
    def is_gone(self) -> bool:
        text = "c1" in self.conversations or self.history.stored or self.history.queued
        return not text and not self.voices.spoken


async def test_document_text_and_voice_are_erased() -> None:
    bench = Bench()
    await bench.erase()

    assert bench.is_gone
    assert bench.clock.pauses == []


async def test_a_conversation_that_nobody_knows_is_erased_too() -> None:
    bench = Bench()
    bench.conversations.remove("c1")
    bench.history.stored.clear()
    await bench.erase()

    assert bench.is_gone


async def test_what_runs_and_what_waits_is_stopped_and_waited_for() -> None:
    bench = Bench("t2", "t3")

    def end() -> None:
        assert bench.is_whole
        bench.history.queued.pop(0)

    bench.clock.on_pause = end
    await bench.erase()

    assert bench.is_gone
    assert len(bench.clock.pauses) == 2
    first, *others = bench.cancels.sent
    assert first == CancelRequest("c1")
    assert sorted(request.turn_id or "" for request in others) == ["t2", "t3"]


async def test_no_turn_begins_before_it_is_all_gone() -> None:
    bench = Bench("t2")
    until: list[int] = []

    def look() -> None:
        until.append(bench.conversations["c1"].erased_until)
        bench.history.queued.clear()

    bench.clock.on_pause = bench.voices.on_erase = look
    await bench.erase()

    assert len(until) == 2
    assert all(until)


async def test_what_nobody_ends_in_time_is_dropped_and_erased() -> None:
    bench = Bench("t2")
    await bench.erase()

    assert bench.is_gone
    assert STOP_SECONDS <= sum(bench.clock.pauses) < STOP_SECONDS + 1


async def test_a_voice_that_cannot_be_erased_is_told() -> None:
    bench = Bench()
    bench.voices.away = True
    with pytest.raises(StorageUnavailable):
        await bench.erase()

    assert "c1" not in bench.conversations
    assert not bench.history.stored
    bench.voices.away = False
    await bench.erase()

    assert bench.is_gone


async def test_where_nats_is_away_nothing_is_erased() -> None:
    bench = Bench()

    def fail(_request: CancelRequest) -> None:
        raise NatsError("away")

    bench.cancels.on_cancel = fail
    with pytest.raises(NatsError):
        await bench.erase()

    assert bench.is_whole


async def test_a_conversation_that_cannot_be_read_is_erased_too() -> None:
    bench = Bench()
    bench.conversations.damage("c1")
    await bench.erase()

    assert bench.is_gone
