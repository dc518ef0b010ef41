"""A conversation is stopped, waited for, and erased."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.chat.conversation import Conversation, TurnRecord
from services.chat.erase import STOP_SECONDS, VOICE_SECONDS, Dependencies, erase
from shared.contract import CancelRequest, Failed, Started
from shared.errors import Busy, Internal, NatsError, StorageUnavailable
from tests.fakes import Clock, MemoryConversations, MemoryHistory, SentCancels

NOW = "2026-01-02T03:04:05.678Z"
STARTED = Started("c1", "t1", 1, 0, model="m", metadata={}, speech=False, created_at=NOW)
ENDED = Failed("c1", "t1", 1, 1, error=Internal("x").as_error())
QUIET = Conversation(system="Be kind.", ended=["t1"])
RUNNING = replace(QUIET, turn=TurnRecord("t2", 1, 1, "e", NOW))


class Bench:
    """A conversation with its text, and somebody who erases it."""

    def __init__(self, document: Conversation = QUIET) -> None:
        self.conversations = MemoryConversations()
        self.conversations.put("c1", document)
        self.history = MemoryHistory(self.conversations)
        self.history.stored = [(1, STARTED), (2, ENDED)]
        self.cancels = SentCancels()
        self.clock = Clock()

    async def erase(self) -> None:
        await erase(
            "c1",
            Dependencies(
                conversations=self.conversations,
                remains=self.history,
                cancels=self.cancels,
                clock=self.clock,
            ),
        )

    @property
    def is_whole(self) -> bool:
        return "c1" in self.conversations and bool(self.history.stored)

    @property
    def is_gone(self) -> bool:
        return "c1" not in self.conversations and not self.history.stored


async def test_document_and_text_are_erased() -> None:
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


async def test_a_turn_under_way_is_stopped_and_waited_for() -> None:
    bench = Bench(RUNNING)

    def end() -> None:
        assert bench.cancels.sent == [CancelRequest("c1")]
        assert bench.is_whole
        if len(bench.clock.pauses) == 3:
            bench.conversations.put("c1", QUIET)

    bench.clock.on_pause = end
    await bench.erase()

    assert bench.is_gone
    assert len(bench.clock.pauses) == 3


async def test_nothing_is_erased_before_the_last_end_was_told() -> None:
    bench = Bench()
    bench.history.stored = [(1, STARTED)]

    def tell() -> None:
        assert bench.is_whole
        bench.history.stored.append((2, ENDED))

    bench.clock.on_pause = tell
    await bench.erase()

    assert bench.is_gone


@pytest.mark.parametrize("untold", [True, False])
async def test_a_turn_that_does_not_stop_in_time_keeps_everything(*, untold: bool) -> None:
    bench = Bench(QUIET if untold else RUNNING)
    if untold:
        bench.history.stored = [(1, STARTED)]
    with pytest.raises(Busy):
        await bench.erase()

    assert bench.is_whole
    assert STOP_SECONDS <= sum(bench.clock.pauses) < STOP_SECONDS + 1


async def test_the_voice_is_waited_for() -> None:
    bench = Bench()
    bench.history.voice_stays = 3
    await bench.erase()

    assert len(bench.clock.pauses) == 3


async def test_a_voice_that_stays_is_told() -> None:
    bench = Bench()
    bench.history.voice_stays = 1_000_000
    with pytest.raises(StorageUnavailable):
        await bench.erase()

    assert bench.is_gone
    assert VOICE_SECONDS <= sum(bench.clock.pauses) < VOICE_SECONDS + 1


async def test_where_nats_is_away_nothing_is_erased() -> None:
    bench = Bench()

    def fail(_request: CancelRequest) -> None:
        raise NatsError("away")

    bench.cancels.on_cancel = fail
    with pytest.raises(NatsError):
        await bench.erase()

    assert bench.is_whole
