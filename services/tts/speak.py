"""Verb: the text of one turn becomes pieces, chunks of audio, a stored object.

A piece is done when all its audio was published and its `piece_done` after that; pieces done are
never said again.
"""

from __future__ import annotations

import contextlib
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from services.tts import record
from services.tts.finish import fail, fail_without_room, give_up, store, tell_committed
from services.tts.ports import Label, SpokenWord, Unvoiced
from services.tts.progress import Progress
from services.tts.record import Repeated
from services.tts.script import Ending, Script
from services.tts.speaker import Next, Speaker
from services.tts.text.language import SpokenLanguage
from services.tts.text.segments import Piece
from shared.contract import Error, Finish, Started
from shared.errors import (
    Cancelled,
    Failure,
    Full,
    Internal,
    ProviderBroken,
    ProviderError,
    ProviderRefused,
    ProviderStalled,
    StorageUnavailable,
    Superseded,
    Torn,
)
from shared.process.failpoints import failpoint
from shared.retry import PROVIDER
from shared.spans import OFF, Operation, Span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable
    from contextlib import AbstractAsyncContextManager

    from services.tts.job import Job, Rules
    from services.tts.ports import (
        Offer,
        TurnText,
        Voice,
        VoiceDependencies,
        VoiceParams,
        VoiceTurn,
    )
    from services.tts.progress import SaidPiece
    from services.tts.record import SpeechRecord
    from services.tts.resume import Replay
    from shared.contract import AudioFailed, Delta, Stored
    from shared.nats.documents import Held
    from shared.process.cancel import CancelToken


MAX_TORN: Final = 8  # bursts in a row; then somebody else takes the voice over


async def speak(
    job: Job, rules: Rules, text: TurnText, deps: VoiceDependencies
) -> Stored | AudioFailed | None:
    """Speaks the turn to its end and returns that; None when it had ended before.

    Raises:
        Superseded: another worker has the voice; nothing more was published.
        StorageUnavailable: all is spoken and nothing stored; another try needs no speech model.
        GivenUp: it was begun too often, or could not be stored for too long.
        Repeated: another message in the queue has this voice, and answers for both.
    """
    told = await _told(job, deps)
    if told is not None and told.end is not None:
        return None  # what the record knew of it is gone
    attempts = told.attempt if told is not None else 0
    try:
        held = await _begin(job, attempts, deps)
    except Full:
        return await fail_without_room(job, attempts, deps)
    await _confirm(held, deps)
    found = held.value
    if found.end is not None:
        return await tell_committed(found, deps.publish)
    failpoint("tts.begun")
    if found.executions > rules.max_executions:
        reason = Internal(f"begun {rules.max_executions} times and never finished")
        await give_up(job, reason, held, deps)
    progress = Progress(deps.price)
    intact = 0
    if found.attempt > 1:
        replay = await deps.publish.replay(found.since)
        if replay.end is not None:  # the record had no room to say so
            return None
        intact = replay.intact
        _resume(progress, replay, deps)
    return await _Speaking(job, rules, text, deps, progress, held, intact).run()


async def _told(job: Job, deps: VoiceDependencies) -> Replay | None:
    """What listeners know of a voice that was begun, and that its record knows nothing of."""
    if not job.redelivered or (await deps.records.load()).value.begun:
        return None
    return await deps.publish.replay(job.since)


async def _begin(job: Job, told: int, deps: VoiceDependencies) -> Held[SpeechRecord]:
    """Raises Repeated, Full."""
    gone = 0
    while True:
        try:
            return await deps.records.amend(
                lambda r: record.begin(
                    r,
                    execution=job.execution,
                    since=job.since,
                    request=job.sequence,
                    gone=gone,  # noqa: B023  called before the next round
                    told=told,
                )
            )
        except Repeated as exc:
            # While it is in the queue somebody speaks the voice, or will.
            if await deps.requests.is_there(exc.request):
                raise
            gone = exc.request


async def _confirm(held: Held[SpeechRecord], deps: VoiceDependencies) -> None:
    """A worker that was frozen must not bring back what was erased. Raises Superseded."""
    try:
        await deps.confirm()
    except Superseded:
        if held.value.attempt == 1:  # nobody else has begun it
            await deps.records.erase()
        raise


def _resume(progress: Progress, replay: Replay, deps: VoiceDependencies) -> None:
    for model, characters in replay.submitted.items():
        progress.count(model, characters)
    for piece, audio in replay.in_order():
        progress.done.append(piece)
        deps.recording.append(audio)


class _Speaking:
    """A voice that this execution owns, on its way."""

    def __init__(
        self,
        job: Job,
        rules: Rules,
        text: TurnText,
        deps: VoiceDependencies,
        progress: Progress,
        held: Held[SpeechRecord],
        intact: int,
    ) -> None:
        self.intact = intact  # pieces that an earlier worker has told in order
        self.job, self.rules, self.text, self.deps = job, rules, text, deps
        self.progress, self.held = progress, held
        self.script = Script(
            max_chars=job.params.max_partial_length,
            code_blocks=rules.code_blocks,
            max_characters=rules.max_characters,
        )
        self.speaker = Speaker(job.params, rules)
        self.language = SpokenLanguage(job.params.language)
        self.context = _Context(deps.voice, deps.token)
        self._spoken: VoiceParams | None = None
        self._spoken_of: tuple[VoiceParams, str | None] | None = None
        self.asked: SaidPiece | None = None  # the piece that the speech model is asked for
        self.ready: deque[Piece] = deque()  # pieces of the text that are not said yet
        self.anew = False  # the text has started over since a piece was said
        self.unvoiced: ProviderError | None = None  # why a piece was done without a sound
        self.attempt: Span = OFF

    @property
    def record(self) -> SpeechRecord:
        return self.held.value

    async def run(self) -> Stored | AudioFailed:
        await self._tell_started()
        failpoint("tts.started")
        if self.intact < len(self.progress.done):  # an earlier worker's burst was torn
            await self._tell_again()
        try:
            try:
                finish = await self._follow()
            finally:
                await self.context.close()
            return await self._store(finish)
        except Cancelled:
            return await self._store(Finish.CANCELLED)
        except StorageUnavailable:
            raise
        except Failure as exc:
            await self._release()
            await self._drained()
            return await fail(self.job, exc.as_error(), self.held, self.deps)

    async def _store(self, finish: Finish) -> Stored | AudioFailed:
        await self._release()
        await self._drained()
        label = Label(
            conversation_id=self.job.conversation_id,
            turn_id=self.job.turn_id,
            attempt=self.record.attempt,
            model=self.speaker.params.model,
            voice=self.speaker.params.voice,
            text=self.script.text,
            format=self.job.format,
        )
        return await store(
            self.job,
            self.rules,
            label,
            self.progress,
            finish,
            self.held,
            text=self.text,
            deps=self.deps,
        )

    # ------------------------------------------------------------ the text

    async def _follow(self) -> Finish:
        """Says each piece as soon as it is there; returns how the voice ends."""
        if self.record.cancelled:  # while nobody spoke it
            return Finish.CANCELLED
        pieces = await self._say_all()
        await self._hear_the_rest()
        if self.script.error is not None:
            raise _TextFailed(self.script.error)
        if self.script.ending is Ending.CANCELLED:
            return Finish.CANCELLED
        await self._release()
        if self.progress.reaches(pieces):
            await self._forget_from(pieces)  # it was answered anew, and shorter
        if self.progress.done and not self.progress.samples:
            raise self.unvoiced or Unvoiced("nothing of the text was heard")
        return Finish.TRUNCATED if self.script.truncated else Finish.COMPLETE

    async def _say_all(self) -> int:
        """To the end of the text; returns how many pieces it has."""
        pieces = 0
        events = self.text.events(self._read)
        async with aclosing(self.deps.token.items(events)) as wakes:
            async for _ in wakes:
                while self.ready or self.anew:
                    if self.anew:
                        self.anew, pieces = False, 0
                        self.language.begin()
                        continue
                    piece = self.ready.popleft()
                    await self._say(piece)
                    pieces = piece.index + 1
                if self.script.ending is not Ending.OPEN:
                    break
        return pieces

    def _read(self, event: Delta) -> bool:
        """Draws from the text what can be said; False where there is something to be done."""
        if isinstance(event, Started):
            self.ready.clear()
            self.anew = True
        self.ready += self.script.add(event)
        return not (self.ready or self.anew) and self.script.ending is Ending.OPEN

    # ------------------------------------------------------------ attempts

    async def _next_attempt(self) -> None:
        await self._drained()
        await self._start_anew()

    async def _start_anew(self) -> None:
        self.held = await self.deps.records.amend(
            lambda r: record.next_attempt(r, self.job.execution), self.held
        )
        await self._tell_started()

    async def _tell_started(self) -> None:
        self.attempt = self.deps.span.attempt(self.record.attempt)
        await self.deps.publish.started(self.record.attempt, self.speaker.params)
        self.deps.report.begun(self.record.attempt)

    async def _forget_from(self, index: int) -> None:
        """The text was answered anew and differs from what was said: the rest is said again."""
        self.progress.forget_from(index)
        self.deps.recording.cut(self.progress.samples)
        await self._next_attempt()

    async def _recover(self) -> None:
        """Back to the first model, in an attempt of its own: `started` says who speaks."""
        await self.context.close()
        self.speaker.go_back()
        await self._next_attempt()

    async def _try_again(self, exc: ProviderError) -> bool:
        """Makes ready for the next try; False when there is none."""
        asked, self.asked = self.asked, None
        await self._drop()
        clock = self.deps.clock
        if isinstance(exc, ProviderRefused) and self.language.guessed:
            self.language.withdraw()
        else:
            heard = asked is not None and asked.samples > 0
            then = self.speaker.after(
                exc, asked=asked is not None, heard=heard, now=clock.monotonic()
            )
            if then is Next.NOBODY:
                self.asked = asked
                return False
            if then is Next.AGAIN:
                await clock.pause(self.speaker.pause(exc, clock.uniform))
            if then is Next.AGAIN and asked is None:
                return True  # nobody was told of a piece that has to be told anew
        self.attempt.failed(exc)
        await self._next_attempt()
        return True

    async def _drop(self) -> None:
        """What the context still says of pieces that are not done is not heard."""
        await self.context.close()
        # Before anything else: a turn that is stopped from here on is stored as it is.
        self.deps.recording.cut(self.progress.samples)

    # ------------------------------------------------------------ pieces

    @property
    def _params(self) -> VoiceParams:
        """The same object as long as nothing of it changes."""
        now = self.speaker.params, self.language.name
        if self._spoken is None or self._spoken_of != now:
            self._spoken_of = now
            self._spoken = replace(self.speaker.params, language=self.language.name)
        return self._spoken

    async def _say(self, piece: Piece) -> None:
        self.language.read(piece.text)
        if self.speaker.is_due_back or self.context.differs(self._params):
            await self._hear_the_rest()  # its context is closed after this piece
        await self._release()
        if self.progress.has(piece):
            return
        if self.progress.reaches(piece.index):
            await self._forget_from(piece.index)
        if self.speaker.is_due_back:
            await self._recover()
        await self._until_said(piece)

    async def _until_said(self, piece: Piece) -> None:
        """Raises ProviderError where nothing can be heard of this piece, nor of the voice."""
        while True:
            try:
                await self._say_once(piece)
            except ProviderError as exc:
                if await self._try_again(exc):
                    self.deps.report.retried(exc)
                    continue
                self._pass_over(exc)
            self.speaker.said()
            return

    def _pass_over(self, exc: ProviderError) -> None:
        """A piece that the speech model never voices is done without a sound; or raises `exc`."""
        asked, self.asked = self.asked, None
        heard = self.progress.samples > 0
        if asked is None or asked.samples or not _is_of_the_piece(exc, heard=heard):
            raise exc
        if not heard and self.unvoiced is not None:
            raise exc  # the second in vain: nobody speaks here
        self.unvoiced = exc
        self.progress.held = asked

    async def _say_once(self, piece: Piece) -> None:
        with self.attempt.piece(piece.index, len(piece.text)) as span:
            await self._say_within(span, piece)

    async def _say_within(self, span: Span, piece: Piece) -> None:
        params = self._params
        voice = await self.context.open(params)
        said = self.asked = self.progress.begin(piece)
        await self._tell(self.deps.publish.piece(piece))
        failpoint("tts.piece")
        cost = self.progress.count(params.model, len(piece.text))
        self.deps.report.submitted(len(piece.text), cost)
        try:
            with span.call(Operation.SPEECH, params.model) as call:
                await self._hear(said, voice.say(piece.text, self._offering(said, call)), call)
        except Cancelled:
            if said.samples:  # what was heard of it is kept
                self.progress.held = said
            raise
        self.asked, self.progress.held = None, said

    def _offering(self, said: SaidPiece, call: Span) -> Offer:
        """Audio is published where it comes, as long as nothing stands in the way."""
        token, publish, recording = self.deps.token, self.deps.publish, self.deps.recording

        def offer(part: bytes) -> bool:
            if token.cancelled or not publish.offer(said.piece.index, part):
                return False
            if not said.samples:
                call.first("audio")
            recording.append(part)
            said.add(part)
            failpoint("tts.chunk")
            return True

        return offer

    async def _hear(
        self, said: SaidPiece, parts: AsyncGenerator[bytes | SpokenWord, None], call: Span
    ) -> None:
        async with aclosing(self.deps.token.items(parts)) as heard:
            async for part in heard:
                if isinstance(part, SpokenWord):
                    said.mark(part)
                    continue
                if not said.samples:
                    call.first("audio")
                self.deps.recording.append(part)
                said.add(part)
                await self._tell(self.deps.publish.chunk(said.piece.index, part))
                failpoint("tts.chunk")

    async def _hear_the_rest(self) -> None:
        """The last piece is over when it has been quiet: nothing else tells that no more comes."""
        breaks = 0
        while (said := self.progress.held) is not None and self.context.turn is not None:
            before = said.samples
            try:
                await self._hear(said, self.context.turn.finish(self._offering(said, OFF)), OFF)
            except ProviderError as exc:
                breaks += 1
                if said.samples == before or breaks >= self.rules.max_tries:
                    return  # all that was promised had come: what broke is the silence after it
                await self._say_anew(said.piece, exc, breaks)
            else:
                return

    async def _say_anew(self, piece: Piece, exc: ProviderError, failures: int) -> None:
        """What came late of this piece broke off."""
        self.progress.held = None
        await self._drop()
        clock = self.deps.clock
        await clock.pause(PROVIDER.scattered(failures, exc.wait, uniform=clock.uniform))
        self.attempt.failed(exc)
        await self._next_attempt()
        self.deps.report.retried(exc)
        await self._until_said(piece)

    async def _release(self) -> None:
        """The piece that was said last is done; told when the next begins or the turn ends."""
        done = self.progress.release()
        if done is not None:
            await self._tell(self.deps.publish.piece_done(done.index, done.samples, done.words))
            failpoint("tts.piece_done")

    # ------------------------------------------------------------ torn bursts

    async def _tell(self, event: Awaitable[None]) -> None:
        """Publishes what progress and recording have already: where that tears, it is in there."""
        try:
            await event
        except Torn:
            await self._tell_again()

    async def _drained(self) -> None:
        for _ in range(MAX_TORN):
            try:
                return await self.deps.publish.drained()
            except Torn:
                await self._tell_again()
        return await self.deps.publish.drained()

    async def _tell_again(self) -> None:
        """What listeners cannot join is told in a higher attempt; nothing is spoken again."""
        for _ in range(MAX_TORN):
            with contextlib.suppress(Torn):
                return await self._tell_from(await self._intact())
        return await self._tell_from(await self._intact())

    async def _intact(self) -> int:
        return await self.deps.publish.intact(self.record.since)

    async def _tell_from(self, intact: int) -> None:
        await self._start_anew()
        before = sum(done.samples for done in self.progress.done[:intact])
        for done in self.progress.done[intact:]:
            piece = Piece(done.index, done.text, done.start, done.end)
            await self._tell_recorded(piece, before, done.samples)
            await self.deps.publish.piece_done(done.index, done.samples, done.words)
            before += done.samples
        said = self.asked or self.progress.held
        if said is not None and not self.progress.reaches(said.piece.index):
            await self._tell_recorded(said.piece, said.before, said.samples)

    async def _tell_recorded(self, piece: Piece, start: int, samples: int) -> None:
        await self.deps.publish.piece(piece)
        if samples:
            audio = self.deps.recording.read(start, samples)
            await self.deps.publish.chunk(piece.index, audio)


def _is_of_the_piece(exc: ProviderError, *, heard: bool) -> bool:
    """True for what may be wrong with one piece; `heard`: others were voiced.

    Not a provider that is away, nor one that refuses everything.
    """
    if isinstance(exc, ProviderRefused):
        return heard
    return isinstance(exc, ProviderBroken | ProviderStalled)


@dataclass(slots=True)
class _Context:
    """The turn's own context at the speech model: opened by its first piece, kept for all."""

    voice: Voice
    token: CancelToken
    turn: VoiceTurn | None = None
    _manager: AbstractAsyncContextManager[VoiceTurn] | None = None
    _params: VoiceParams | None = None

    def differs(self, params: VoiceParams) -> bool:
        """True when it is open, and to be spoken in another way."""
        return self.turn is not None and params != self._params

    async def open(self, params: VoiceParams) -> VoiceTurn:
        if self.differs(params):
            await self.close()
        if self.turn is None:
            manager = self.voice.turn(params)
            self.turn = await self.token.guard(manager.__aenter__())
            self._manager, self._params = manager, params
        return self.turn

    async def close(self) -> None:
        """Stops the audio under way and frees the context."""
        manager, self._manager, self.turn = self._manager, None, None
        if manager is not None:
            await manager.__aexit__(None, None, None)


class _TextFailed(Failure):
    """The text failed, so the voice does, with the text's own error."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self._error = error

    def as_error(self) -> Error:
        return self._error
