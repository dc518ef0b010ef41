"""A link to a stored voice, with its record and after it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from services.tts.link import link
from services.tts.ports import KeptObject
from services.tts.record import SpeechRecord
from shared.contract import AudioFailed, Code, Error, Finish, Link, Stored
from shared.errors import NotFound
from tests.fakes_tts import MemoryRecords, NoTime

STORED = Stored(
    "c",
    "t",
    2,
    bucket="b",
    key="c/t/2.opus",
    url="http://old",
    content_type="audio/ogg",
    bytes=10,
    sha256="0",
    duration_ms=1_500,
    captions_key="c/t/2.vtt",
    pieces=1,
    characters=3,
    finish=Finish.COMPLETE,
)
ENDED = SpeechRecord(attempt=2, stored=STORED)
VOICE, CAPTIONS = KeptObject("c/t/2.opus", 10), KeptObject("c/t/2.vtt", 5)


@dataclass
class MemoryLinks:
    """Links: the objects that the test puts there."""

    objects: list[KeptObject] = field(default_factory=list)
    link_seconds: float = 60.0
    told_ms: int | None = 2_500

    async def kept(self, conversation_id: str, turn_id: str) -> list[KeptObject]:
        return [
            each for each in self.objects if each.key.startswith(f"{conversation_id}/{turn_id}/")
        ]

    async def duration_ms(self, key: str) -> int | None:
        return self.told_ms

    def link(self, key: str) -> str:
        return f"http://store/{key}?signed"


async def linked(*objects: KeptObject, record: SpeechRecord | None = None) -> Link:
    records = MemoryRecords(record or SpeechRecord())
    links = MemoryLinks(list(objects))
    return await link("c", "t", records=records, objects=links, clock=NoTime())


async def test_a_stored_voice_has_links_that_are_signed_anew() -> None:
    assert await linked(VOICE, CAPTIONS, record=ENDED) == Link(
        url="http://store/c/t/2.opus?signed",
        captions_url="http://store/c/t/2.vtt?signed",
        content_type="audio/ogg",
        bytes=10,
        duration_ms=1_500,
        expires_at="2026-01-01T00:01:10.000Z",
    )


async def test_captions_that_are_gone_have_no_link() -> None:
    assert (await linked(VOICE, record=ENDED)).captions_url is None


async def test_where_the_record_has_expired_the_newest_object_is_the_voice() -> None:
    others = [KeptObject(f"c/t/{n}.wav", n) for n in (1, 10, 9)]
    found = await linked(*others, VOICE, CAPTIONS, KeptObject("c/t2/11.wav", 1))

    assert found.url == "http://store/c/t/10.wav?signed"
    assert (found.content_type, found.bytes, found.duration_ms) == ("audio/wav", 10, 2_500)


@pytest.mark.parametrize(
    ("name", "size", "duration_ms"),
    [("1.wav", 44 + 48_000, 1_000), ("1.pcm", 24_000, 500), ("1.wav", 10, 0), ("1.mp3", 9_999, 0)],
)
async def test_an_object_that_says_no_duration_has_that_of_its_samples(
    name: str, size: int, duration_ms: int
) -> None:
    links = MemoryLinks([KeptObject(f"c/t/{name}", size)], told_ms=None)
    found = await link("c", "t", records=MemoryRecords(), objects=links, clock=NoTime())
    assert found.duration_ms == duration_ms


@pytest.mark.parametrize(
    ("objects", "record"),
    [
        ([], None),
        ([CAPTIONS], None),
        ([], ENDED),
        ([VOICE], SpeechRecord(attempt=1)),
        (
            [VOICE],
            SpeechRecord(
                attempt=1, failed=AudioFailed("c", "t", 1, Error(Code.BUSY, "", retryable=True))
            ),
        ),
    ],
)
async def test_a_voice_that_is_not_there_is_not_found(
    objects: list[KeptObject], record: SpeechRecord | None
) -> None:
    with pytest.raises(NotFound):
        await linked(*objects, record=record)
