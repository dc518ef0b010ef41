from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from services.tts.erase import STOP_SECONDS, erase
from shared.errors import NatsError, StorageUnavailable, Unreadable
from tests.fakes_tts import NoTime


@dataclass
class Kept:
    """Voices and Objects: keeps what is done, in order; `away` fails that step.

    `queued` are the turns in the queue at each look; the last of these stays.
    """

    queued: list[list[str]] = field(default_factory=lambda: [[]])
    away: str = ""
    steps: list[str] = field(default_factory=list)

    unreadable: bool = False  # the records

    def _step(self, name: str, error: Exception) -> None:
        if name == self.away:
            raise error
        self.steps.append(name)

    async def requested(self, conversation_id: str) -> list[str]:
        self._step("look", NatsError("away"))
        return self.queued.pop(0) if len(self.queued) > 1 else self.queued[0]

    async def stop(self, conversation_id: str, turn_id: str) -> None:
        if self.unreadable:
            raise Unreadable("a speech record")
        self._step(f"stop {turn_id} of {conversation_id}", NatsError("away"))

    async def drop_requests(self, conversation_id: str) -> None:
        self._step(f"requests of {conversation_id}", NatsError("away"))

    async def erase(self, conversation_id: str) -> int:
        self._step(f"objects of {conversation_id}", StorageUnavailable("away"))
        return 3

    async def drop_events(self, conversation_id: str) -> None:
        self._step(f"events of {conversation_id}", NatsError("away"))

    async def drop_records(self, conversation_id: str) -> None:
        self._step(f"records of {conversation_id}", NatsError("away"))


async def erased(kept: Kept, clock: NoTime | None = None) -> int:
    return await erase("c", voices=kept, objects=kept, clock=clock or NoTime())


async def test_all_of_it_goes_also_when_no_record_is_left() -> None:
    kept = Kept()
    assert await erased(kept) == 3
    assert kept.steps == [
        "look",
        "requests of c",
        "objects of c",
        "events of c",
        "records of c",
    ]


async def test_voices_that_are_asked_for_are_stopped_once_and_waited_for() -> None:
    kept = Kept([["t"], ["t", "u"], []])
    await erased(kept)
    assert kept.steps[:5] == ["look", "stop t of c", "look", "stop u of c", "look"]
    assert kept.steps[5] == "requests of c"


async def test_a_voice_that_does_not_end_is_waited_for_no_longer_than_that() -> None:
    clock, kept = NoTime(), Kept([["t"]])
    assert await erased(kept, clock) == 3
    assert STOP_SECONDS < clock.monotonic() < STOP_SECONDS + 1


@pytest.mark.parametrize("away", ["look", "requests of c", "objects of c", "events of c"])
async def test_where_something_is_away_it_is_told(away: str) -> None:
    kept = Kept(away=away)
    with pytest.raises((NatsError, StorageUnavailable)):
        await erased(kept)
    assert "records of c" not in kept.steps


async def test_a_record_that_cannot_be_read_goes_too() -> None:
    kept = Kept(queued=[["t"], []], unreadable=True)
    await erased(kept)
    assert kept.steps[-1] == "records of c"
