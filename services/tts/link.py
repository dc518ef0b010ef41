"""Verb: a link to the stored voice of a turn, for as long as its object lives."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.tts.audio.encode import duration_of
from shared.contract import CONTENT_TYPES, AudioFormat, Link, Stored
from shared.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.tts.ports import Clock, KeptObject, Links, Records


async def link(
    conversation_id: str, turn_id: str, *, records: Records, objects: Links, clock: Clock
) -> Link:
    """The record says which object it is; where there is none any more, the newest one.

    Raises:
        NotFound: there is no voice: not yet, not any more, or nothing was spoken.
        StorageUnavailable, NatsError: it could not be looked up.
    """
    record = (await records.load()).value
    stored = record.end if isinstance(record.end, Stored) else None
    if stored is None and record.begun:
        raise NotFound("the voice of this turn is not stored")
    kept = await objects.kept(conversation_id, turn_id)
    found = _newest(kept) if stored is None else _named(kept, stored.key)
    if found is None:
        raise NotFound("there is no stored voice of this turn")
    captions = _named(kept, found.key.rpartition(".")[0] + ".vtt")
    until = datetime.fromisoformat(clock.utc()) + timedelta(seconds=objects.link_seconds)
    return Link(
        url=objects.link(found.key),
        captions_url=None if captions is None else objects.link(captions.key),
        content_type=CONTENT_TYPES[AudioFormat(_extension(found))],
        bytes=found.bytes,
        duration_ms=stored.duration_ms if stored else await _duration_ms(found, objects),
        expires_at=until.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


async def _duration_ms(found: KeptObject, objects: Links) -> int:
    """As the object says; of one that does not, what its size says; 0 where that says nothing."""
    told = await objects.duration_ms(found.key)
    return (duration_of(found.bytes, AudioFormat(_extension(found))) or 0) if told is None else told


def _named(kept: Sequence[KeptObject], key: str | None) -> KeptObject | None:
    return next((each for each in kept if each.key == key), None)


def _newest(kept: Sequence[KeptObject]) -> KeptObject | None:
    """Of the last attempt: one that was superseded may have left its own."""
    voices = [each for each in kept if _extension(each) in set(AudioFormat)]
    return max(voices, key=_attempt, default=None)


def _extension(found: KeptObject) -> str:
    return found.key.rpartition(".")[2]


def _attempt(found: KeptObject) -> int:
    name = found.key.rpartition("/")[2].partition(".")[0]
    return int(name) if name.isdigit() else 0
