"""Verb: the text of one turn becomes pieces, chunks of audio, a stored object.

A piece is done when all its audio was published and its `piece_done` after that; pieces done are
never said again. The record's compare-and-set is the commit: only who owns it says how it ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from services.tts import record
from services.tts.audio import pcm
from services.tts.audio.captions import webvtt
from services.tts.ports import Label, SpokenWord, StoredObject, VoiceParams
from services.tts.record import Begin, SpeechRecord
from services.tts.resume import DonePiece, Replay
from services.tts.script import Ending
from shared.contract import (
    CONTENT_TYPES,
    AudioFailed,
    AudioFormat,
    Error,
    Finish,
    Started,
    Stored,
    Word,
)
from shared.errors import (
    Cancelled,
    Conflict,
    Failure,
    Internal,
    ProviderError,
    StorageUnavailable,
    Superseded,
)
from shared.process.failpoints import failpoint
from shared.retry import PROVIDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from services.tts.ports import AudioStore, Now, Publish, Recording, Records, Voice, VoiceTurn
    from services.tts.script import Script
    from services.tts.text.segments import Piece
    from shared.contract import Delta

SAVE_TRIES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The service's limits for a turn's voice."""

    tries: int  # of one piece, on the same model
    executions: int  # workers that may begin one voice before it is given up
    fallback: tuple[str, str] | None  # model and voice
    recover_after: int  # pieces spoken by the fallback before the first model is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    conversation_id: str
    turn_id: str
    execution: str
    since: str
    params: VoiceParams
    format: AudioFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    records: Records
    publish: Publish
    voice: Voice
    recording: Recording
    store: AudioStore
    now: Now
    price: Callable[[str, int], float | None]  # model, characters -> dollars
    whole_text: Callable[[], Awaitable[str | None]]  # of a turn that was stopped before its end


class GivenUp(Internal):
    """Begun too often: it belongs among the dead letters."""


async def speak(
    job: Job, rules: Rules, world: World, *, text: AsyncIterator[Delta], script: Script
) -> Stored | AudioFailed | None:
    """Speaks the turn to its end and returns that; None when it had ended before.

    Raises:
        Superseded: another worker has the voice; nothing more was published.
        StorageUnavailable: all is spoken and nothing stored; another try needs no speech model.
        GivenUp: it was begun too often; its failure was published.
    """
    return await _Speaker(job, rules, world, script).run(text)


@dataclass(slots=True)
class _UnderWay:
    """A piece as far as it was said; `before`: samples of the pieces before it."""

    piece: Piece
    before: int
    samples: int = 0
    words: list[Word] = field(default_factory=list)


class _Speaker:
    def __init__(self, job: Job, rules: Rules, world: World, script: Script) -> None:
        self.job, self.rules, self.world, self.script = job, rules, world, script
        self.record, self.revision = SpeechRecord(), 0
        self.done: list[DonePiece] = []
        self.characters = 0
        self.params = job.params
        self.on_fallback = 0  # pieces said by the fallback model in a row
        self.cost: float | None = None
        self.held: _UnderWay | None = None  # said, and not yet told that it is done
        self.open_voice: tuple[AbstractAsyncContextManager[VoiceTurn], VoiceTurn] | None = None

    # ------------------------------------------------------------ life

    async def run(self, text: AsyncIterator[Delta]) -> Stored | AudioFailed | None:
        began = await self._begin()
        if began is Begin.ENDED:
            return await self._tell_what_was_committed()
        if self.record.attempt > 1:
            self._resume(await self.world.publish.replay(self.record.since))
        if began is Begin.GIVEN_UP:
            error = GivenUp(f"begun {self.rules.executions} times and never finished")
            await self._end(self._failed(error.as_error()))
            raise error
        await self.world.publish.started(self.record.attempt, self.params)
        failpoint("tts.started")
        try:
            try:
                finish = await self._follow(text)
            finally:
                await self._close_voice()
            return await self._store(finish)
        except Cancelled:
            return await self._store(Finish.CANCELLED)
        except StorageUnavailable:
            raise
        except Failure as exc:
            await self._release()
            return await self._end(self._failed(exc.as_error()))

    async def _follow(self, text: AsyncIterator[Delta]) -> Finish:
        """Says each piece as soon as it is there; returns how the voice ends."""
        if self.record.cancelled:  # while nobody spoke it
            return Finish.CANCELLED
        said = 0
        async for event in text:
            if isinstance(event, Started):
                said = 0
            for piece in self.script.add(event):
                await self._say(piece)
                said = piece.index + 1
            if self.script.ending is not Ending.OPEN:
                break
        await self._hear_the_rest()
        if self.script.error is not None:
            raise _TextFailed(self.script.error)
        if self.script.ending is Ending.CANCELLED:
            return Finish.CANCELLED
        await self._release()
        if said < len(self.done):
            await self._forget_from(said)  # it was answered anew, and shorter
        return Finish.COMPLETE

    # ------------------------------------------------------------ the record

    async def _begin(self) -> Begin:
        for _ in range(SAVE_TRIES):
            found, revision = await self.world.records.load()
            began, changed = record.begin(
                found,
                execution=self.job.execution,
                since=self.job.since,
                give_up_after=self.rules.executions,
            )
            self.record, self.revision = changed, revision
            if began is Begin.ENDED:
                return began
            try:
                self.revision = await self.world.records.save(changed, revision)
            except Conflict:
                continue
            failpoint("tts.begun")
            return began
        raise Internal("the voice's record could not be saved")

    async def _change(self, change: Callable[[SpeechRecord], SpeechRecord]) -> None:
        """Saves a change of the voice that this execution owns. Raises Superseded."""
        for _ in range(SAVE_TRIES):
            changed = change(self.record)
            try:
                self.revision = await self.world.records.save(changed, self.revision)
            except Conflict:
                self.record, self.revision = await self.world.records.load()
            else:
                self.record = changed
                return
        raise Internal("the voice's record could not be saved")

    def _resume(self, replay: Replay) -> None:
        for model, characters in replay.submitted.items():
            self._count(model, characters)
        for piece, audio in replay.in_order():
            self.done.append(piece)
            self.world.recording.append(audio)

    async def _tell_what_was_committed(self) -> Stored | AudioFailed | None:
        """Another worker committed the end and may have died before it said so."""
        end = self.record.end
        replay = await self.world.publish.replay(self.record.since)
        if end is None or replay.end is not None:
            return None
        await self.world.publish.end(end)
        return end

    # ------------------------------------------------------------ pieces

    async def _say(self, piece: Piece) -> None:
        if self.on_fallback > self.rules.recover_after:
            await self._hear_the_rest()  # its voice is closed after this piece
        await self._release()
        if piece.index < len(self.done):
            known = self.done[piece.index]
            if (known.text, known.start, known.end) == (piece.text, piece.start, piece.end):
                return
            await self._forget_from(piece.index)
        if self.on_fallback > self.rules.recover_after:
            await self._recover()
        number = 1
        while True:
            try:
                await self._say_once(piece)
            except ProviderError as exc:
                number = await self._before_next_try(number + 1, exc)
            else:
                self.on_fallback += bool(self.on_fallback)
                return

    async def _forget_from(self, index: int) -> None:
        """The text was answered anew and differs from what was said: the rest is said again."""
        del self.done[index:]
        self.world.recording.cut(sum(p.samples for p in self.done))
        await self._next_attempt()

    async def _next_attempt(self) -> None:
        await self.world.publish.drained()
        await self._change(lambda r: record.next_attempt(r, self.job.execution))
        await self.world.publish.started(self.record.attempt, self.params)

    async def _before_next_try(self, number: int, exc: ProviderError) -> int:
        """Returns which try on its model the next one is; raises `exc` when none is left."""
        await self._close_voice()
        # Before anything else: a turn that is stopped from here on is stored as it is.
        self.world.recording.cut(sum(p.samples for p in self.done))
        fallback = self.rules.fallback
        on_fallback = fallback is not None and self.params.model == fallback[0]
        if not exc.retryable or number > self.rules.tries:
            if fallback is None or on_fallback:
                raise exc
            self.params = replace(self.params, model=fallback[0], voice=fallback[1])
            self.on_fallback, number = 1, 1
        else:
            now = self.world.now
            await now.pause(PROVIDER.scattered(number - 1, exc.wait, uniform=now.uniform))
        await self._next_attempt()
        return number

    async def _recover(self) -> None:
        """Back to the first model, in an attempt of its own: `started` says who speaks."""
        await self._close_voice()
        self.params, self.on_fallback = self.job.params, 0
        await self._next_attempt()

    async def _say_once(self, piece: Piece) -> None:
        under_way = _UnderWay(piece, sum(p.samples for p in self.done))
        await self.world.publish.piece(piece)
        failpoint("tts.piece")
        self._count(self.params.model, len(piece.text))
        try:
            voice = await self._open_voice()
            async for part in voice.say(piece.text):
                await self._take(under_way, part)
        except Cancelled:
            if under_way.samples:  # what was heard of it is kept
                self.held = under_way
            raise
        self.held = under_way

    async def _take(self, under_way: _UnderWay, part: bytes | SpokenWord) -> None:
        if isinstance(part, SpokenWord):
            under_way.words.append(_word(part, under_way.before))
            return
        self.world.recording.append(part)
        under_way.samples += pcm.samples(len(part))
        await self.world.publish.chunk(under_way.piece.index, part)
        failpoint("tts.chunk")

    async def _hear_the_rest(self) -> None:
        """The last piece is over when it has been quiet: nothing else tells that no more comes."""
        while self.held is not None and self.open_voice is not None:
            one, before = self.held, self.held.samples
            try:
                async for part in self.open_voice[1].finish():
                    await self._take(one, part)
            except ProviderError as exc:
                if one.samples == before:
                    return  # all that was promised had come: what broke is the silence after it
                self.held = None
                await self._before_next_try(2, exc)
                await self._say(one.piece)
            else:
                return

    async def _release(self) -> None:
        """The piece that was said last is done; told when the next begins or the turn ends."""
        if self.held is None:
            return
        one, self.held = self.held, None
        piece = one.piece
        self.done.append(
            DonePiece(
                piece.index, piece.text, piece.start, piece.end, one.samples, tuple(one.words)
            )
        )
        await self.world.publish.piece_done(piece.index, one.samples, one.words)
        failpoint("tts.piece_done")

    async def _open_voice(self) -> VoiceTurn:
        """The turn's own context, opened by its first piece and kept for the others."""
        if self.open_voice is None:
            manager = self.world.voice.turn(self.params)
            self.open_voice = (manager, await manager.__aenter__())
        return self.open_voice[1]

    async def _close_voice(self) -> None:
        """Stops the audio under way and frees the context."""
        if self.open_voice is not None:
            manager, self.open_voice = self.open_voice[0], None
            await manager.__aexit__(None, None, None)

    def _count(self, model: str, characters: int) -> None:
        self.characters += characters
        cost = self.world.price(model, characters)
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost

    # ------------------------------------------------------------ the end

    def _failed(self, error: Error) -> AudioFailed:
        return AudioFailed(
            self.job.conversation_id, self.job.turn_id, self.record.attempt, error=error
        )

    async def _store(self, finish: Finish) -> Stored:
        await self._release()
        await self.world.publish.drained()
        failpoint("tts.drained")
        samples = sum(p.samples for p in self.done)
        shown = None
        if samples and finish is Finish.CANCELLED:
            shown = await self.world.whole_text()
        label = Label(
            conversation_id=self.job.conversation_id,
            turn_id=self.job.turn_id,
            attempt=self.record.attempt,
            model=self.params.model,
            voice=self.params.voice,
            text=self.script.text if shown is None else shown,
            format=self.job.format,
        )
        kept = await self._put(label) if samples else self._nothing()
        for earlier in range(1, self.record.attempt):  # of a worker that died before its commit
            await self.world.store.remove(replace(label, attempt=earlier))
        end = Stored(
            self.job.conversation_id,
            self.job.turn_id,
            self.record.attempt,
            bucket=kept.bucket,
            key=kept.key,
            url=kept.url,
            content_type=kept.content_type,
            bytes=kept.bytes,
            sha256=kept.sha256,
            duration_ms=pcm.milliseconds(samples * pcm.SAMPLE_WIDTH),
            captions_key=kept.captions_key,
            pieces=len(self.done),
            characters=self.characters,
            finish=finish,
            cost_usd=None if self.cost is None else round(self.cost, 8),
        )
        try:
            await self._end(end)
        except Superseded:
            # Before the commit the object is ours alone; after it, it is what everybody hears of.
            if kept.key is not None and not await self._is_committed(kept.key):
                await self.world.store.remove(label)
            raise
        return end

    async def _is_committed(self, key: str) -> bool:
        found, _ = await self.world.records.load()
        return found.stored is not None and found.stored.key == key

    def _nothing(self) -> StoredObject:
        return StoredObject(
            bucket=self.world.store.bucket,
            key=None,
            url=None,
            captions_key=None,
            content_type=CONTENT_TYPES[self.job.format],
            bytes=0,
            sha256="",
        )

    async def _put(self, label: Label) -> StoredObject:
        try:
            return await self.world.store.put(self.world.recording, webvtt(self.done), label)
        except StorageUnavailable:
            # In good order, and through no fault of the turn: this execution does not count.
            await self._change(lambda r: record.handed_back(r, self.job.execution))
            raise

    async def _end(self, end: Stored | AudioFailed) -> Stored | AudioFailed:
        await self.world.publish.drained()
        failpoint("tts.put")
        await self._change(lambda r: record.ended(r, self.job.execution, end))
        failpoint("tts.committed")
        await self.world.publish.end(end)
        failpoint("tts.ended")
        return end


class _TextFailed(Failure):
    """The text failed, so the voice does, with the text's own error."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self._error = error

    def as_error(self) -> Error:
        return self._error


def _word(part: SpokenWord, said: int) -> Word:
    before = said / pcm.SAMPLE_RATE
    return Word(part.text, round((before + part.start) * 1000), round((before + part.end) * 1000))
