from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from services.tts import record
from services.tts.erase import STOP_SECONDS, erase
from services.tts.record import SpeechRecord
from shared.contract import AudioFailed, Code, Error
from shared.errors import NatsError, StorageUnavailable
from tests.fakes_tts import NoTime

FAILED = AudioFailed("c", "t", 1, error=Error(Code.INTERNAL, "", retryable=False))
RUNNING = record.begin(SpeechRecord(), execution="w", since="now", request=7)
ENDED = replace(RUNNING, failed=FAILED)


@dataclass
class Kept:
    """Voices and Objects: keeps what is done, in order; `away` fails that step."""

    looks: list[list[SpeechRecord]] = field(default_factory=list)
    away: str = ""
    steps: list[str] = field(default_factory=list)

    def _step(self, name: str, error: Exception) -> None:
        if name == self.away:
            raise error
        self.steps.append(name)

    async def drop_requests(self, conversation_id: str) -> None:
        self._step(f"requests of {conversation_id}", NatsError("away"))

    async def records(self, conversation_id: str) -> list[SpeechRecord]:
        self._step("look", NatsError("away"))
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    async def erase(self, conversation_id: str) -> int:
        self._step(f"objects of {conversation_id}", StorageUnavailable("away"))
        return 3

    async def drop_events(self, conversation_id: str) -> None:
        self._step(f"events of {conversation_id}", NatsError("away"))

    async def drop_records(self, conversation_id: str) -> None:
        self._step(f"records of {conversation_id}", NatsError("away"))


async def erased(kept: Kept, clock: NoTime | None = None) -> int:
    return await erase("c", voices=kept, objects=kept, clock=clock or NoTime())


async def test_all_of_it_goes_the_records_last() -> None:
    kept = Kept([[ENDED, ENDED]])
    assert await erased(kept) == 3
    assert kept.steps == [
        "requests of c",
        "look",
        "objects of c",
        "events of c",
        "records of c",
    ]


async def test_a_voice_under_way_is_waited_for() -> None:
    kept = Kept([[RUNNING, ENDED], [RUNNING, ENDED], [ENDED, ENDED]])
    await erased(kept)
    assert kept.steps.count("look") == 3
    assert kept.steps.index("objects of c") > 3


async def test_a_voice_that_does_not_end_is_waited_for_no_longer_than_that() -> None:
    clock, kept = NoTime(), Kept([[RUNNING]])
    assert await erased(kept, clock) == 3
    assert STOP_SECONDS < clock.monotonic() < STOP_SECONDS + 1


@pytest.mark.parametrize("away", ["requests of c", "look", "objects of c", "events of c"])
async def test_where_something_is_away_the_records_stay(away: str) -> None:
    kept = Kept([[ENDED]], away=away)
    with pytest.raises((NatsError, StorageUnavailable)):
        await erased(kept)
    assert "records of c" not in kept.steps
