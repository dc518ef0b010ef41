"""Verb: a request becomes a document, events, a commit, an end.

The order is what makes a turn survive its worker: the document says that the turn runs, the words
go out and are acked, the document says how it ended (the commit), the end goes out. Whoever comes
later reads the document and knows what is left to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from services.chat import conversation
from services.chat.conversation import Begin
from services.chat.heard import heard_text
from services.chat.ports import Finished, Said
from services.chat.prompt import prompt_for
from services.chat.turn import Turn
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
    DeadlineExceeded,
    Failure,
    Internal,
    ProviderBroken,
    ProviderError,
    ProviderRefused,
)
from shared.process.failpoints import failpoint
from shared.retry import PROVIDER, worth_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.chat.conversation import Conversation, TurnRecord
    from services.chat.ports import Clock, Conversations, Heard, Model, Publish
    from services.chat.prompt import Context
    from shared.nats.documents import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The service's defaults and limits for a turn."""

    model: str
    fallback_model: str | None
    context: Context
    turns_per_minute: int  # of one conversation; 0 for any number
    turn_timeout: float
    tries: int  # of the model's request, before or after its first word
    executions: int  # workers that may begin one turn before it is given up
    output_chars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, understood. `execution` is new each time that a worker takes it up."""

    conversation_id: str
    turn_id: str
    request: ChatRequest
    execution: str
    speech: Speech | None  # how it is spoken; None where it is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    conversations: Conversations
    model: Model
    publish: Publish
    heard: Heard
    clock: Clock
    heard_ms: Callable[[], int | None]
    price: Callable[[str, int, int], float | None]  # model, tokens given and made -> dollars


class GivenUp(Internal):
    """Begun too often: it belongs among the dead letters."""


async def answer(job: Job, rules: Rules, needs: Dependencies) -> Done | Failed | None:
    """Runs the turn to its end and returns that; None when it had ended before.

    Raises:
        Superseded: another worker has the turn; nothing more was published.
        GivenUp: it was begun too often; its failure was published.
        Busy: too many turns of the conversation within a minute; nothing was published.
    """
    return await _Answer(job, rules, needs).run()


class _Answer:
    def __init__(self, job: Job, rules: Rules, needs: Dependencies) -> None:
        self.job, self.rules, self.needs = job, rules, needs
        self.turn = Turn(job.conversation_id, job.turn_id)
        self.held: Held[Conversation] | None = None
        self.began = needs.clock.monotonic()
        self.until = self.began + rules.turn_timeout
        self.first_token_ms: int | None = None
        self.delta_sequence = 1

    async def run(self) -> Done | Failed | None:
        match await self._begin():
            case Begin.ENDED:
                return await self._finish_what_was_committed()
            case Begin.TOO_MANY:
                raise Busy(f"{self.rules.turns_per_minute} turns of this conversation in a minute")
            case Begin.GIVEN_UP:
                error = GivenUp(f"begun {self.rules.executions} times and never finished")
                await self._give_up(error)
                raise error
        return await self._attempts()

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

    async def _begin(self) -> Begin:
        found = Begin.RUN

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
            )
            return changed

        await self._change(begin)
        if found is Begin.RUN:
            failpoint("chat.begun")
        return found

    async def _change(self, change: Callable[[Conversation], Conversation]) -> None:
        """Raises Superseded where `change` does: the turn is somebody else's."""
        self.held = await self.needs.conversations.amend(
            self.job.conversation_id, change, self.held
        )

    # ------------------------------------------------------------ attempts

    async def _attempts(self) -> Done | Failed:
        try:
            make = await self._until_said(self.job.request.model or self.rules.model)
        except Cancelled:
            make = self._done(FinishReason.CANCELLED, Usage(0, 0))
        except Failure as exc:
            make = self._failed(exc)
        return await self._end(make)

    async def _until_said(self, model: str) -> Callable[[], Done | Failed]:
        """Tries until the model has said all of it. Raises Cancelled, Failure."""
        number = 1
        await self._start(model)
        while True:
            try:
                finished = await self._speak(model)
                return self._done(finished.reason, finished.usage, model)
            except ProviderError as exc:
                number += 1
                next_model = self._next_model(model, exc, number)
                if next_model is None:
                    raise
                said, changed = not self.turn.silent, next_model != model
                model, number = next_model, 1 if changed else number
                if not changed:
                    uniform = self.needs.clock.uniform
                    pause = PROVIDER.scattered(number - 1, exc.wait, uniform=uniform)
                    await self.needs.clock.pause(pause)
            if said or changed:
                await self._restart(model)

    def _next_model(self, model: str, exc: ProviderError, number: int) -> str | None:
        """The model for try `number`; None when nothing is left to try."""
        left = self.until - self.needs.clock.monotonic()
        # A request that this model refuses another one may take; a key is refused by all.
        if left <= 0 or not (exc.retryable or isinstance(exc, ProviderRefused)):
            return None
        if exc.retryable and number <= self.rules.tries and worth_waiting(exc.wait, left):
            return model
        fallback = self.rules.fallback_model
        return None if fallback == model else fallback

    async def _start(self, model: str) -> None:
        self.turn = Turn(self.job.conversation_id, self.job.turn_id, self.record.attempt)
        self.delta_sequence = await self.needs.publish.started(
            self.turn.started(
                model=model,
                metadata=self.job.request.metadata,
                speech=self.job.speech or False,
                created_at=self.record.created_at,
            )
        )
        failpoint("chat.started")
        await self._ask_for_voice(self.delta_sequence)
        failpoint("chat.voice_asked")

    async def _restart(self, model: str) -> None:
        """The next attempt: listeners forget what this one has said."""
        await self.needs.publish.drained(self.turn)
        await self._change(
            lambda document: conversation.next_attempt(
                document, self.job.turn_id, self.job.execution
            )
        )
        await self._start(model)

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

    async def _speak(self, model: str) -> Finished:
        request, clock, turn = self.job.request, self.needs.clock, self.turn
        prompt = prompt_for(self.document, request, model=model, context=self.rules.context)
        length = 0
        async for part in self.needs.model.answer(prompt, until=self.until):
            if isinstance(part, Finished):
                return part
            if isinstance(part, Said):
                if self.first_token_ms is None:
                    self.first_token_ms = round((clock.monotonic() - self.began) * 1000)
                turn.say(part.text)
                length += len(part.text)
            else:
                turn.think(part.text)
            await self.needs.publish.text(turn)
            failpoint("chat.text")
            if length > self.rules.output_chars:
                return Finished(FinishReason.LENGTH, Usage(0, 0))
        raise ProviderBroken("the answer ended without an end")

    # ------------------------------------------------------------ the end

    def _done(
        self, reason: FinishReason, usage: Usage, model: str = ""
    ) -> Callable[[], Done | Failed]:
        # Where the provider did not tell the tokens, nobody knows what they cost.
        given, made = usage.prompt_tokens, usage.completion_tokens
        cost = self.needs.price(model, given or 0, made or 0) if given or made else None

        def done() -> Done:
            end = self.turn.done(
                finish_reason=reason,
                usage=usage,
                first_token_ms=self.first_token_ms,
                duration_ms=round((self.needs.clock.monotonic() - self.began) * 1000),
                metadata=self.job.request.metadata,
            )
            return replace(end, cost_usd=cost)

        return done

    def _failed(self, error: Failure) -> Callable[[], Done | Failed]:
        late = self.needs.clock.monotonic() >= self.until
        if late and not isinstance(error, DeadlineExceeded):
            error = DeadlineExceeded(f"the turn took longer than {self.rules.turn_timeout:g} s")
        return lambda: self.turn.failed(error.as_error())

    async def _end(self, make: Callable[[], Done | Failed]) -> Done | Failed:
        await self.needs.publish.drained(self.turn)
        failpoint("chat.drained")
        end = make()
        kept = await self._kept(end)
        await self._change(
            lambda document: conversation.commit(
                document,
                end,
                said=kept,
                execution=self.job.execution,
                now=self.needs.clock.utc(),
                delta_sequence=self.delta_sequence,
            )
        )
        failpoint("chat.committed")
        await self.needs.publish.end(end)
        failpoint("chat.ended")
        return end

    async def _kept(self, end: Done | Failed) -> str:
        """What the history keeps of the answer: all of it, or what the listener heard."""
        heard_ms = self.needs.heard_ms()
        if isinstance(end, Failed):
            return ""
        if end.finish_reason is not FinishReason.CANCELLED or heard_ms is None:
            return end.text
        pieces = await self.needs.heard.pieces(
            self.job.conversation_id, self.job.turn_id, self.record.created_at
        )
        return heard_text(pieces, heard_ms, end.text)

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

    async def _give_up(self, error: Failure) -> None:
        """The failure of a turn that other executions began. Raises Superseded."""
        found = self.document.turn
        assert found is not None, "only a turn under way is given up"
        await self._change(
            lambda document: conversation.taken_over(document, found, self.job.execution)
        )
        self.turn = Turn(self.job.conversation_id, self.job.turn_id, self.record.attempt)
        await self._ask_for_voice(self.document.delta_sequence)
        await self._end(self._failed(error))
