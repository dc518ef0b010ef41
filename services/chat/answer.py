"""Verb: a request becomes a document, events, a commit, an end.

The order is what makes a turn survive its worker: the document says that the turn runs, the words
go out and are acked, the document says how it ended (the commit), the end goes out. Whoever comes
later reads the document and knows what is left to do.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from msgspec.structs import replace

from services.chat import conversation
from services.chat.conversation import Begin
from services.chat.heard import heard_text
from services.chat.ports import Finished, Said, Told
from services.chat.prompt import Asking
from services.chat.spent import Spent
from services.chat.tries import Tries
from services.chat.turn import Turn, seconds_since
from shared.contract import (
    ChatRequest,
    Done,
    Failed,
    FinishReason,
    Speech,
    SpeechRequest,
    Usage,
)
from shared.errors import (
    Busy,
    Cancelled,
    ContextTooLong,
    DeadlineExceeded,
    Failure,
    Full,
    Internal,
    ProviderBroken,
    ProviderError,
    StorageUnavailable,
    Superseded,
    Torn,
)
from shared.process.failpoints import failpoint
from shared.spans import OFF, Operation, Span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from services.chat.conversation import Conversation, TurnRecord
    from services.chat.ports import (
        Clock,
        Conversations,
        Heard,
        Model,
        Pages,
        Publish,
        Report,
    )
    from services.chat.prompt import Contexts, Prompt
    from shared.nats.documents import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The service's defaults and limits for a turn."""

    model: str
    fallback_model: str | None
    turns_per_minute: int  # of one conversation; 0 for any number
    turn_timeout: float
    tries: int  # of the model's request, before or after its first word
    patience: float  # seconds for which a provider that is away is tried however often
    executions: int  # workers that may begin one turn before it is given up
    output_chars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, understood. `execution` is new each time that a worker takes it up."""

    conversation_id: str
    turn_id: str
    request: ChatRequest
    execution: str
    asked_at: datetime  # when the stream took the request; of another machine's clock
    speech: Speech | None  # how it is spoken; None where it is not
    warnings: Sequence[str] = ()  # what the request may have misspelled
    redelivered: bool = False  # somebody may have begun it


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    conversations: Conversations
    pages: Pages
    model: Model
    contexts: Contexts  # of all turns of this process
    publish: Publish
    heard: Heard
    clock: Clock
    heard_ms: Callable[[], int | None]
    # Raises Superseded where the request may be somebody else's and is in the queue no more.
    confirm: Callable[[], Awaitable[None]]
    price: Callable[[str, int, int], float | None]  # model, tokens given and made -> dollars
    report: Report
    span: Span = OFF  # of the turn


MAX_TORN: Final = 8  # bursts of one turn; then somebody else begins anew


class GivenUp(Internal):
    """Begun too often: it belongs among the dead letters. `end` was told."""

    def __init__(self, message: str, end: Done | Failed) -> None:
        super().__init__(message)
        self.end = end


async def answer(job: Job, rules: Rules, needs: Dependencies) -> Done | Failed | None:
    """Runs the turn to its end and returns that; None when it had ended before.

    Raises:
        Superseded: another worker has the turn; nothing more was published.
        GivenUp: it was begun too often; its failure was published.
        Busy: too many turns of the conversation within a minute; nothing was published.
        StorageUnavailable: there is no room for its document; nothing was published.
        Cancelled: it was stopped before it began; nothing was published.
    """
    return await _Answer(job, rules, needs).run()


class _Answer:
    def __init__(self, job: Job, rules: Rules, needs: Dependencies) -> None:
        self.job, self.rules, self.needs = job, rules, needs
        self.turn = Turn(job.conversation_id, job.turn_id)
        self.held: Held[Conversation] | None = None
        self.began = needs.clock.monotonic()
        self.until = self.began + rules.turn_timeout
        self.asked = self.began - seconds_since(job.asked_at, needs.clock.utc())
        self.first_token_ms: int | None = None
        self.delta_sequence = 1
        self.context = needs.contexts.of(self._first_model)
        self.halved = False  # less is asked than of other turns; not yet known whether it will do
        self.prompt: Prompt | None = None  # as it was asked last
        self.outdated = False  # what was published is of an earlier try than the one under way
        self.spent = Spent(needs.price)
        self.created_at = ""
        self.model = ""  # that `started` named last
        self.attempt: Span = OFF

    async def run(self) -> Done | Failed | None:
        try:
            found = await self._begin()
        except Full as exc:
            return await self._not_begun(exc)
        match found:
            case Begin.TOLD:
                return None
            case Begin.ENDED:
                return await self._finish_what_was_committed()
            case Begin.TOO_MANY:
                raise Busy(f"{self.rules.turns_per_minute} turns of this conversation in a minute")
            case Begin.DROPPED:
                raise Cancelled
            case Begin.STOPPED:
                return await self._attempts(self._say_again())
            case Begin.GIVEN_UP:
                await self._give_up(f"begun {self.rules.executions} times and never finished")
        return await self._attempts(self._until_said(self._first_model))

    # ------------------------------------------------------------ the document

    @property
    def document(self) -> Conversation:
        """As it was read or saved last."""
        assert self.held is not None, "nothing is done before the document says that it begins"
        return self.held.value

    @property
    def record(self) -> TurnRecord:
        """Raises Superseded."""
        return conversation.owned(self.document, self.job.turn_id, self.job.execution)

    async def _told(self) -> Told:
        """What listeners know of a turn that was begun, and that the document knows nothing of."""
        job = self.job
        if job.redelivered:
            self.held = await self.needs.conversations.load(job.conversation_id)
            if not conversation.knows(self.document, job.turn_id):
                return await self.needs.publish.told(job.turn_id, job.asked_at.isoformat())
        return Told(0, ended=False)

    async def _begin(self) -> Begin:
        """Raises Full."""
        told, found = await self._told(), Begin.RUN
        if told.ended:
            return Begin.TOLD

        def begin(document: Conversation) -> Conversation:
            nonlocal found
            found, changed = conversation.begin(
                document,
                self.job.request,
                self.job.turn_id,
                execution=self.job.execution,
                now=self.needs.clock.utc(),
                give_up_after=self.rules.executions,
                max_per_minute=self.rules.turns_per_minute,
                told=told.attempt,
            )
            return changed

        await self._change(begin)
        await self._confirm()
        if found is Begin.RUN:
            failpoint("chat.begun")
        return found

    async def _not_begun(self, why: Full) -> Failed:
        """Ends what somebody else has begun; for a turn of which nothing was said, raises.

        Raises StorageUnavailable.
        """
        self.held = await self.needs.conversations.load(self.job.conversation_id)
        found = self.document.turn
        if found is None or found.turn_id != self.job.turn_id:
            raise StorageUnavailable(f"there is no room for more conversations: {why}") from why
        return await self._end_of_another(found)

    async def _end_of_another(self, found: TurnRecord) -> Failed:
        """Its document has no room to say that it is ours now: it says that the turn has ended."""
        await self._ask_for_voice(self.document.delta_sequence)
        end = await self._commit_without_room(found.attempt + 1, 0, found.execution)
        await self.needs.publish.end(end)
        return end

    async def _commit_without_room(self, attempt: int, seq: int, execution: str) -> Failed:
        """The end of a turn that cannot be kept. Raises Superseded."""
        ids = self.job.conversation_id, self.job.turn_id
        error = StorageUnavailable("there is no room to keep this turn")
        end = Failed(*ids, attempt, seq, error=error.as_error())
        # Where even that finds no room the next turn takes the place of this one.
        with contextlib.suppress(Full):
            await self._change(lambda d: conversation.ended_without_room(d, end, execution))
        return end

    async def _confirm(self) -> None:
        """A worker that was frozen must not bring back what was erased. Raises Superseded."""
        try:
            await self.needs.confirm()
        except Superseded:
            begun = self.document
            await self._change(
                lambda document: conversation.retracted(
                    document, self.job.turn_id, self.job.execution
                )
            )
            if self.document is not begun and conversation.is_blank(self.document):
                await self.needs.conversations.erase(self.job.conversation_id)
            raise

    async def _change(self, change: Callable[[Conversation], Conversation]) -> None:
        """Raises Superseded where `change` does: the turn is somebody else's."""
        self.held = await self.needs.conversations.amend(
            self.job.conversation_id, change, self.held
        )

    # ------------------------------------------------------------ attempts

    @property
    def _first_model(self) -> str:
        return self.job.request.model or self.rules.model

    async def _attempts(self, saying: Awaitable[Callable[[], Done | Failed]]) -> Done | Failed:
        try:
            make = await saying
        except Cancelled:
            make = self._done(FinishReason.CANCELLED)
        except Failure as exc:
            make = self._failed(exc)
        finally:
            self.needs.report.spent(self.spent.usage, self.spent.cost)
        return await self._end(make)

    async def _say_again(self) -> NoReturn:
        """What a listener knows of a turn that was stopped while nobody held it. Raises Cancelled.

        An attempt of its own has to say it: the one that was under way may still be spoken of.
        """
        publish = self.needs.publish
        said = await publish.said(self.job.turn_id, self.document.delta_sequence)
        await self._start(self._first_model)
        if said:
            self.turn.say(said)
            await self._publish_text()
        raise Cancelled

    async def _until_said(self, model: str) -> Callable[[], Done | Failed]:
        """Tries until the model has said all of it. Raises Cancelled, Failure."""
        clock, rules = self.needs.clock, self.rules
        await self._start(model)
        tries = Tries(
            model,
            fallback=rules.fallback_model,
            limit=rules.tries,
            patience=rules.patience,
            now=self.began,
            until=self.until,
        )
        while True:
            try:
                return self._done(await self._speak(tries.model, tries.patient_until))
            except ProviderError as exc:
                if isinstance(exc, ContextTooLong) and self._asks_less():
                    continue
                said = not self.turn.silent and not self.outdated
                before = tries.model
                then = tries.after(exc, said=said, now=clock.monotonic(), uniform=clock.uniform)
                if then is None:
                    raise
                self.needs.report.retried(exc)
                if then.model != before:
                    self.context, self.prompt = self.needs.contexts.of(then.model), None
                    self.halved = False
                if said or then.model != before:
                    self.attempt.failed(exc)
                    self.outdated = True
                if then.pause:
                    await clock.pause(then.pause)

    def _asks_less(self) -> bool:
        """Half of what was too much is asked from now on; False where nothing can be left away."""
        assert self.prompt is not None, "nobody refuses what was never asked"
        halved = self.context.halved(self.prompt)
        if halved is None:
            return False
        self.context, self.prompt, self.halved = halved, None, True
        self.outdated = self.outdated or not self.turn.silent
        return True

    async def _start(self, model: str) -> None:
        self.model = model
        self.turn = Turn(self.job.conversation_id, self.job.turn_id, self.record.attempt)
        self.attempt = self.needs.span.attempt(self.record.attempt)
        self.created_at = self.record.created_at
        self.delta_sequence = await self.needs.publish.started(
            self.turn.started(
                model=model,
                metadata=self.job.request.metadata,
                speech=self.job.speech or False,
                created_at=self.record.created_at,
                warnings=self.job.warnings,
            )
        )
        self.needs.report.begun(self.turn.attempt)
        failpoint("chat.started")
        await self._ask_for_voice(self.delta_sequence)
        failpoint("chat.voice_asked")

    async def _restart(self, model: str) -> None:
        """The next attempt, which has something to say: listeners forget what this one has said."""
        self.outdated = False
        with contextlib.suppress(Torn):  # nobody hears of it any more
            await self.needs.publish.drained(self.turn)
        await self._next_attempt(model)

    async def _next_attempt(self, model: str) -> None:
        await self._change(
            lambda document: conversation.next_attempt(
                document, self.job.turn_id, self.job.execution
            )
        )
        await self._start(model)

    async def _publish_text(self) -> None:
        await self._whole(lambda: self.needs.publish.text(self.turn))

    async def _drained(self) -> None:
        await self._whole(lambda: self.needs.publish.drained(self.turn))

    async def _whole(self, publish: Callable[[], Awaitable[None]]) -> None:
        """Where a burst was torn, a higher attempt says all of it again; the model goes on."""
        for _ in range(MAX_TORN):
            try:
                return await publish()
            except Torn:
                torn = self.turn
                await self._next_attempt(self.model)
                self.turn.repeat(torn)
        return await publish()

    async def _ask_for_voice(self, start_sequence: int) -> None:
        if self.job.speech is None:
            return
        await self.needs.publish.voice(
            SpeechRequest(
                self.job.conversation_id,
                self.job.turn_id,
                self.job.speech,
                start_sequence=start_sequence,
            )
        )

    async def _asked(self, model: str) -> Prompt:
        """What the model is asked; pages are read as long as their messages may fit."""
        if self.prompt is None or self.prompt.model != model:
            asking = Asking(self.document, self.job.request, self.context)
            while (number := asking.next_page) is not None:
                asking.page(await self.needs.pages.page(self.job.conversation_id, number))
            self.prompt = asking.prompt(model)
        return self.prompt

    async def _speak(self, model: str, patient_until: float) -> FinishReason:
        prompt = await self._asked(model)
        self.spent.begin(model)
        with self.attempt.call(Operation.CHAT, model) as call:
            try:
                return await self._hear(prompt, patient_until, call)
            finally:
                call.used(*self.spent.told_last)

    async def _hear(self, prompt: Prompt, patient_until: float, call: Span) -> FinishReason:
        length = 0
        parts = self.needs.model.answer(prompt, until=self.until, patient_until=patient_until)
        async for part in parts:
            if isinstance(part, Usage):
                self.spent.told(part)
                continue
            self._learn(prompt)
            if self.outdated:
                await self._restart(prompt.model)
            if isinstance(part, Finished):
                self.spent.told(part.usage)
                call.answered(part.model, part.reason.value)
                return part.reason
            if isinstance(part, Said):
                if not length:
                    call.first("token")
                if self.first_token_ms is None:
                    self.first_token_ms = self._ms_since_asked()
                    self.needs.report.first_token(self.first_token_ms / 1000)
                self.turn.say(part.text)
                length += len(part.text)
            else:
                self.turn.think(part.text)
            if not self.needs.publish.text_at_once(self.turn):
                await self._publish_text()
            failpoint("chat.text")
            if length > self.rules.output_chars:
                call.answered("", FinishReason.LENGTH.value)
                return FinishReason.LENGTH
        raise ProviderBroken("the answer ended without an end")

    def _learn(self, answered: Prompt) -> None:
        """The next turn is not refused again for what this one was."""
        if self.halved:
            self.halved = False
            self.needs.contexts.learn(answered.model, self.context, answered)

    def _ms_since_asked(self) -> int:
        return round((self.needs.clock.monotonic() - self.asked) * 1000)

    # ------------------------------------------------------------ the end

    def _done(self, reason: FinishReason) -> Callable[[], Done | Failed]:
        def done() -> Done:
            end = self.turn.done(
                finish_reason=reason,
                usage=self.spent.usage,
                first_token_ms=self.first_token_ms,
                duration_ms=self._ms_since_asked(),
                metadata=self.job.request.metadata,
            )
            return replace(end, cost_usd=self.spent.cost)

        return done

    def _failed(self, error: Failure) -> Callable[[], Done | Failed]:
        late = self.needs.clock.monotonic() >= self.until
        if late and not isinstance(error, DeadlineExceeded):
            error = DeadlineExceeded(f"the turn took longer than {self.rules.turn_timeout:g} s")
        return lambda: self.turn.failed(error.as_error())

    async def _end(self, make: Callable[[], Done | Failed]) -> Done | Failed:
        await self._drained()
        failpoint("chat.drained")
        end = make()
        try:
            await self._commit(end)
        except Full:
            end = await self._commit_without_room(end.attempt, end.seq, self.job.execution)
        failpoint("chat.committed")
        await self.needs.publish.end(end)
        failpoint("chat.ended")
        return end

    async def _commit(self, end: Done | Failed) -> None:
        """Asks once more what was heard where a stop came after the text was all said."""
        kept, heard_ms = await self._kept(end), self._heard_ms

        def commit(document: Conversation) -> Conversation:
            nonlocal heard_ms
            heard_ms = document.stops.get(end.turn_id, heard_ms)
            return conversation.commit(
                document,
                end,
                said=kept,
                execution=self.job.execution,
                now=self.needs.clock.utc(),
                delta_sequence=self.delta_sequence,
            )

        asked = heard_ms
        await self._change(commit)
        if heard_ms is not None and heard_ms != asked:
            text = await self._heard(end.turn_id, heard_ms, kept)
            await self._change(lambda document: conversation.heard(document, end.turn_id, text))

    async def _kept(self, end: Done | Failed) -> str:
        """What the history keeps of the answer: all of it, or what the listener heard."""
        if isinstance(end, Failed):
            return ""
        if end.finish_reason is not FinishReason.CANCELLED or self._heard_ms is None:
            return end.text
        return await self._heard(end.turn_id, self._heard_ms, end.text)

    @property
    def _heard_ms(self) -> int | None:
        told = self.needs.heard_ms()
        return self.document.stops.get(self.job.turn_id) if told is None else told

    async def _heard(self, turn_id: str, heard_ms: int, text: str) -> str:
        pieces = await self.needs.heard.pieces(self.job.conversation_id, turn_id, self.created_at)
        return text if pieces is None else heard_text(pieces, heard_ms, text)

    async def _finish_what_was_committed(self) -> Done | Failed | None:
        """Another worker committed the turn and may have died before it said so."""
        end, since = self.document.last_end, self.document.delta_sequence
        if end is None or end.turn_id != self.job.turn_id:
            # A later turn has begun since, and none does before this one's end was acked.
            return None
        if await self.needs.publish.ended(self.job.turn_id, since):
            return None
        await self._ask_for_voice(since)
        await self.needs.publish.end(end)
        return end

    async def _give_up(self, why: str) -> NoReturn:
        """The failure of a turn that other executions began. Raises GivenUp, Superseded."""
        found = self.document.turn
        assert found is not None, "only a turn under way is given up"
        try:
            await self._change(
                lambda document: conversation.taken_over(document, found, self.job.execution)
            )
        except Full:
            raise GivenUp(why, await self._end_of_another(found)) from None
        self.turn = Turn(self.job.conversation_id, self.job.turn_id, self.record.attempt)
        await self._ask_for_voice(self.document.delta_sequence)
        raise GivenUp(why, await self._end(self._failed(Internal(why))))
