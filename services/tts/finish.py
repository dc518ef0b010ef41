"""Verb: a voice comes to its end: its object is stored, its record committed, its end told.

The record's compare-and-set is the commit: only who owns the voice says how it ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from services.tts import record
from services.tts.audio import pcm
from services.tts.audio.captions import webvtt
from services.tts.job import seconds_between
from services.tts.ports import StoredObject
from shared.contract import CONTENT_TYPES, AudioFailed, Finish, Stored
from shared.errors import (
    Failure,
    Full,
    ParleyError,
    StorageRefused,
    StorageUnavailable,
    Superseded,
)
from shared.process.failpoints import failpoint

if TYPE_CHECKING:
    from services.tts.job import Job, Rules
    from services.tts.ports import Label, Publish, TurnText, VoiceDependencies
    from services.tts.progress import Progress
    from services.tts.record import SpeechRecord
    from shared.contract import Error
    from shared.nats.documents import Held


class GivenUp(ParleyError):
    """The voice has failed, and `end` was told; its request belongs among the dead letters."""

    def __init__(self, reason: Failure, end: Stored | AudioFailed) -> None:
        super().__init__(str(reason))
        self.reason, self.end = reason, end


async def store(
    job: Job,
    rules: Rules,
    label: Label,
    progress: Progress,
    finish: Finish,
    held: Held[SpeechRecord],
    *,
    text: TurnText,
    deps: VoiceDependencies,
) -> Stored | AudioFailed:
    """Stores what is done and ends the voice with it; or with a failure, as `commit` does.

    Raises:
        StorageUnavailable: nothing is stored; this execution does not count.
        GivenUp: nor will it be, after so long.
        Superseded: another worker has the voice; what was stored for nothing is taken back.
    """
    await deps.publish.drained()
    failpoint("tts.drained")
    if progress.samples:
        if finish is Finish.CANCELLED:
            whole = await text.whole()
            label = label if whole is None else replace(label, text=whole)
        kept = await _put(job, rules, label, progress, held, deps)
    else:
        kept = _nothing(label, deps)
    for earlier in range(1, label.attempt):  # of a worker that died before its commit
        await deps.store.remove(replace(label, attempt=earlier))
    end = _stored(label, kept, progress, finish)
    try:
        told = await commit(job, end, held, deps)
    except Superseded:
        # Before the commit the object is ours alone; after it, it is what everybody hears of.
        if kept.key is not None and not await _is_committed(kept.key, deps):
            await deps.store.remove(label)
        raise
    if kept.key is not None and told is not end:
        await deps.store.remove(label)
    return told


async def _put(
    job: Job,
    rules: Rules,
    label: Label,
    progress: Progress,
    held: Held[SpeechRecord],
    deps: VoiceDependencies,
) -> StoredObject:
    since = deps.clock.utc()
    try:
        with deps.span.upload():
            return await deps.store.put(deps.recording, webvtt(progress.done), label)
    except StorageUnavailable as exc:
        await _not_stored(job, rules, exc, since, held, deps)
        raise


async def _not_stored(
    job: Job,
    rules: Rules,
    reason: StorageUnavailable,
    since: str,
    held: Held[SpeechRecord],
    deps: VoiceDependencies,
) -> None:
    """Raises GivenUp after so long; else the record says since when, and it is handed back."""
    refused = isinstance(reason, StorageRefused)

    def noted(found: SpeechRecord) -> SpeechRecord:
        # In good order, and through no fault of the turn: this execution does not count.
        back = record.handed_back(found, job.execution)
        return record.not_stored(back, since=since, refused=refused)

    now, then = deps.clock.utc(), noted(held.value)
    away = seconds_between(then.away_since, now) >= rules.store_give_up
    if away or (refused and seconds_between(then.refused_since, now) >= rules.store_refused):
        await give_up(job, reason, held, deps)
    try:
        await deps.records.amend(noted, held)
    except Full:  # nobody would know since when
        await give_up(job, reason, held, deps)


def _nothing(label: Label, deps: VoiceDependencies) -> StoredObject:
    return StoredObject(
        bucket=deps.store.bucket,
        key=None,
        url=None,
        captions_key=None,
        captions_url=None,
        content_type=CONTENT_TYPES[label.format],
        bytes=0,
        sha256="",
    )


def _stored(label: Label, kept: StoredObject, progress: Progress, finish: Finish) -> Stored:
    return Stored(
        label.conversation_id,
        label.turn_id,
        label.attempt,
        bucket=kept.bucket,
        key=kept.key,
        url=kept.url,
        content_type=kept.content_type,
        bytes=kept.bytes,
        sha256=kept.sha256,
        duration_ms=pcm.milliseconds(progress.samples * pcm.SAMPLE_WIDTH),
        captions_key=kept.captions_key,
        captions_url=kept.captions_url,
        pieces=len(progress.done),
        characters=progress.characters,
        finish=finish,
        cost_usd=None if progress.cost is None else round(progress.cost, 8),
    )


async def _is_committed(key: str, deps: VoiceDependencies) -> bool:
    found = (await deps.records.load()).value
    return found.stored is not None and found.stored.key == key


async def fail(
    job: Job, error: Error, held: Held[SpeechRecord], deps: VoiceDependencies
) -> Stored | AudioFailed:
    """Ends the voice without an object. Raises Superseded."""
    end = AudioFailed(job.conversation_id, job.turn_id, held.value.attempt, error=error)
    return await commit(job, end, held, deps)


async def fail_without_room(job: Job, told: int, deps: VoiceDependencies) -> AudioFailed:
    """Ends a voice whose record cannot say that it begins; `told`: as in `record.begin`."""
    begun = (await deps.records.load()).value.attempt
    end = _no_room(job, max(begun, told) + 1)
    await deps.publish.end(end)
    return end


def _no_room(job: Job, attempt: int) -> AudioFailed:
    error = StorageUnavailable("there is no room to keep this voice").as_error()
    return AudioFailed(job.conversation_id, job.turn_id, attempt, error=error)


async def give_up(
    job: Job, reason: Failure, held: Held[SpeechRecord], deps: VoiceDependencies
) -> NoReturn:
    """Raises GivenUp, Superseded."""
    end = await fail(job, reason.as_error(), held, deps)
    raise GivenUp(reason, end) from reason


async def commit(
    job: Job, end: Stored | AudioFailed, held: Held[SpeechRecord], deps: VoiceDependencies
) -> Stored | AudioFailed:
    """Saves the end, then tells it; returns what was told.

    Where the record finds no room that is a failure, which the stream alone knows: whoever takes
    the voice up again finds it there. Raises Superseded.
    """
    await deps.publish.drained()
    failpoint("tts.put")
    told = end
    try:
        await deps.records.amend(lambda r: record.ended(r, job.execution, end), held)
    except Full:
        told = _no_room(job, end.attempt)
    failpoint("tts.committed")
    await deps.publish.end(told)
    failpoint("tts.ended")
    return told


async def tell_committed(found: SpeechRecord, publish: Publish) -> Stored | AudioFailed | None:
    """The end that another worker committed, where it died before it said so; else None."""
    end = found.end
    if end is None or (await publish.replay(found.since)).end is not None:
        return None
    await publish.end(end)
    return end
