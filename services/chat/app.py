"""The chat service's wiring: which subject goes to which verb, and what each verb is given."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import uuid
from typing import TYPE_CHECKING, Final

from faststream.nats import NatsBroker

from services.chat import answer, ask, cancel, conversation, erase, handle
from services.chat.allowance import Allowance
from services.chat.held_turns import HeldTurns
from services.chat.nats.cancels import NatsCancels
from services.chat.nats.conversations import NatsConversations
from services.chat.nats.deltas import NatsDeltas
from services.chat.nats.ends import NatsEnds
from services.chat.nats.heard import NatsHeard
from services.chat.nats.history import NatsHistory
from services.chat.nats.intake import NatsIntake
from services.chat.nats.queue import NatsQueue
from services.chat.nats.replay import NatsReplay
from services.chat.nats.requests import NatsRequests
from services.chat.nats.voices import NatsVoices
from services.chat.process.metrics import FIRST_TOKEN, TOKENS
from services.chat.prompt import Context, Contexts
from services.chat.request import asked_at, speech_of, understand, warnings_of
from services.chat.show import show
from services.chat.together.chat import TogetherChat
from services.chat.turn import seconds_since
from shared.contract import (
    CHAT_ASK,
    CHAT_CANCEL,
    CHAT_DEAD,
    CHAT_REPLAY,
    CHAT_REQUEST,
    CHAT_REQUESTS_STREAM,
    CHAT_WORKERS,
    HISTORY_DELETE,
    HISTORY_GET,
    Asked,
    CancelRequest,
    ChatRequest,
    Deleted,
    DeleteRequest,
    Done,
    Failed,
    FinishReason,
    History,
    HistoryRequest,
    ReplayRequest,
    everywhere,
)
from shared.errors import NatsError, ParleyError, Unsendable
from shared.nats.connection import Connection
from shared.nats.dead_letters import NatsDeadLetters
from shared.nats.lease import Delivery, LeaseFence, confirm
from shared.nats.provision import consumer
from shared.nats.refusals import Refusals
from shared.nats.replies import (
    ANSWERED,
    answer_with,
    decode_body,
    decode_request,
    is_inbox,
    named_by,
    overhear,
    serve,
)
from shared.nats.work import Work
from shared.process import logs, metrics
from shared.process.cancel import CancelToken
from shared.process.clock import SystemClock
from shared.process.metrics import (
    ATTEMPTS,
    COST,
    PROVIDER_RETRIES,
    QUEUE_WAIT,
    REFUSED,
    TURN_SECONDS,
    TURNS,
    TURNS_UNDER_WAY,
    WAITING,
)
from shared.process.tracing import Tracing, carried, onward
from shared.refuse import Refused, Unqueued, refuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nats.aio.msg import Msg

    from services.chat.config import Config
    from shared.contract import Usage
    from shared.errors import Cancelled, Failure, ProviderError
    from shared.nats.wire import Incoming
    from shared.refuse import Message
    from shared.spans import Span

log = logging.getLogger(__name__)

SERVICE: Final = "chat"
EXECUTIONS: Final = 5  # workers that may begin a turn before it is given up
ENDING: Final = 4  # turns that end without a start at once


class ChatWorker:
    """Implements shared.process.lifecycle.Worker."""

    def __init__(self, config: Config) -> None:
        metrics.begin(SERVICE, outcomes=FinishReason)
        self.config = config
        self.model = TogetherChat(
            base_url=config.base_url,
            api_key=config.api_key,
            connect_timeout=config.connect_timeout,
            first_token_timeout=config.first_token_timeout,
            token_timeout=config.token_timeout,
        )
        self.admission = handle.Admission(
            max_bytes=config.max_request_bytes,
            max_queued=config.max_queued,
            speech=config.speech,
        )
        self.rules = answer.Rules(
            model=config.model,
            fallback_model=config.fallback_model,
            turns_per_minute=config.turns_per_minute,
            turn_timeout=config.turn_timeout,
            tries=config.tries,
            patience=config.first_token_timeout,
            executions=EXECUTIONS,
            output_chars=config.max_output_tokens * 16,
        )
        self.contexts = Contexts(
            Context(
                system=config.system_prompt,
                max_context_tokens=config.context_tokens,
                max_messages=config.context_messages,
                max_tokens=config.max_output_tokens,
            )
        )
        self.held = HeldTurns(CancelToken)
        self.clock = SystemClock()
        self.allowance = Allowance(config.asks_per_minute, config.characters_per_day)
        self.tracing = Tracing("chat", config.base_url)

    # ------------------------------------------------------------ life

    def subscribe(self, broker: NatsBroker) -> None:
        """The requests that FastStream takes; the queues are pulled by shared/nats/work.py.

        Taking one message through FastStream's pull costs 370 µs, which would make a flood of 500
        in one conversation hold up all others; our own pull costs a tenth.
        """

        # One replica answers.
        for subject, answering in {CHAT_ASK: self._ask, CHAT_REPLAY: self._replay}.items():
            reply = functools.partial(self._reply, answering)
            serve(broker, subject, reply, queue="chat", literal=False)
        for subject, answering in {
            HISTORY_GET: self._show,
            HISTORY_DELETE: self._erase,
            CHAT_CANCEL: self._cancel,  # and amends the history of a turn that has ended
        }.items():
            serve(broker, subject, functools.partial(self._reply, answering), queue="chat")

    async def _stop(self, msg: Msg) -> None:
        with contextlib.suppress(ParleyError):  # refused by the one that answers
            self.held.cancel(decode_request(msg, CancelRequest))

    async def _reply(self, answering: Callable[[Msg], Awaitable[object]], msg: Msg) -> None:
        await answer_with(self.connection, msg, answering(msg), to=CHAT_DEAD)

    async def start(self, connection: Connection) -> None:
        self.connection = connection
        self.conversations = NatsConversations(connection)
        self.history = NatsHistory(connection, self.conversations)
        self.heard, self.cancels = NatsHeard(connection), NatsCancels(connection)
        ends, dead_letters = NatsEnds(connection), NatsDeadLetters(connection, CHAT_DEAD)
        turns = handle.KnownTurns(self.conversations, ends)
        self.intake = NatsIntake(
            connection,
            max_bytes=self.config.max_request_bytes,
            refuse=self._refuse,
        )
        self.work = Work(
            connection,
            consumer(CHAT_WORKERS),
            slots=self.config.max_turns,
            handle=self._handle,
            hopeless=self._hopeless,
            ids=self._ids,
        )
        self.queue = queue = NatsQueue(connection)
        self.replay, voices = NatsReplay(connection), NatsVoices(connection)
        self.cancelling = cancel.Dependencies(
            conversations=self.conversations,
            queue=queue,
            voices=voices,
            heard=self.heard,
        )
        self.handling = handle.Dependencies(
            conversations=self.conversations,
            queue=queue,
            slots=self.work,
            held=self.held,
            cancels=self.cancels,
            voices=voices,
            heard=self.heard,
            ends=ends,
            ending=asyncio.Semaphore(ENDING),
            turns=turns,
            dead_letters=dead_letters,
            count_refused=count_refused,
            count_ended=count_ended,
            trace_unstarted=self._trace_unstarted,
            clock=self.clock,
        )
        self.refusals = Refusals(
            connection,
            subjects=everywhere(CHAT_REQUEST),
            queue="chat",
            dead=CHAT_DEAD,
            check=self._check,
        )
        await self.refusals.start()
        # Every replica hears a cancel; the one that holds the turn stops it.
        await overhear(connection, CHAT_CANCEL, self._stop)
        await self.work.start()
        self._intake = asyncio.create_task(self.intake.run())
        TURNS_UNDER_WAY.labels(SERVICE).set_function(lambda: self.held.running)
        WAITING.labels(SERVICE).set_function(lambda: self.held.waiting)

    async def failed(self) -> None:
        work = asyncio.create_task(self.work.failed())
        try:
            await asyncio.wait({work, self._intake}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, self._intake):
                if task.done():
                    await task
        finally:
            work.cancel()

    async def waiting(self) -> Mapping[str, str]:
        return {}  # nothing but NATS and the streams

    def _check(self, msg: Incoming) -> Failure | None:
        found = understand(
            Unqueued(msg.subject, msg.data, msg.headers),
            max_bytes=self.config.max_request_bytes,
        )
        return found.error if isinstance(found, Refused) else None

    async def drain(self, grace: float) -> None:
        await self.refusals.stop()
        await self.intake.drain()
        self._intake.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._intake
        await self.intake.hand_over()
        await self.work.drain(grace)
        await self.model.close()

    # ------------------------------------------------------------ requests

    def _ids(self, delivery: Delivery) -> dict[str, object]:
        found = understand(delivery, max_bytes=self.config.max_request_bytes)
        return logs.ids(found.conversation_id, found.turn_id, delivery.headers)

    async def _handle(self, delivery: Delivery) -> None:
        answering = functools.partial(self._answer, delivery)
        await handle.handle(delivery, answering, self.admission, self.handling)

    async def _hopeless(self, delivery: Delivery, error: Failure) -> None:
        await handle.hopeless(delivery, error, self.admission, self.handling)

    async def _answer(
        self, delivery: Delivery, request: ChatRequest, stop: CancelToken
    ) -> Done | Failed | None:
        job = answer.Job(
            conversation_id=str(request.conversation_id),
            turn_id=str(request.turn_id),
            request=request,
            execution=uuid.uuid4().hex,
            asked_at=asked_at(delivery),
            speech=speech_of(request, default=self.admission.speech),
            warnings=warnings_of(delivery),
            redelivered=delivery.deliveries > 1,
        )
        with self._traced(delivery, job.conversation_id, job.turn_id) as span:
            deltas = self._deltas(delivery, job, span)
            needs = answer.Dependencies(
                conversations=self.conversations,
                pages=self.conversations,
                model=self.model.model_for(stop),
                contexts=self.contexts,
                publish=deltas,
                heard=self.heard,
                clock=SystemClock(stop),
                heard_ms=lambda: stop.heard_ms,
                confirm=lambda: confirm(self.connection, delivery, CHAT_REQUESTS_STREAM),
                price=self.config.prices.of,
                report=_Report(seconds_since(job.asked_at, self.clock.utc())),
                span=span,
            )
            try:
                end = await answer.answer(job, self.rules, needs)
            except (asyncio.CancelledError, NatsError) as exc:
                if not isinstance(exc, Unsendable):  # that is the turn's own fault
                    await self._hand_back_uncounted(job)
                raise
            finally:
                deltas.close()
            if isinstance(end, Done):
                now = self.clock.monotonic()
                self.allowance.spend(job.conversation_id, len(end.text), now)
            if end is not None:
                note(span, end)
            return end

    def _traced(self, message: Message, conversation_id: str, turn_id: str) -> Span:
        ids = conversation_id, turn_id
        return self.tracing.turn(message.headers, *ids, asked_at(message), message.deliveries)

    def _trace_unstarted(
        self, message: Message, conversation_id: str, turn_id: str, why: Failure | Cancelled
    ) -> None:
        with self._traced(message, conversation_id, turn_id) as span:
            span.failed(why)

    async def _refuse(self, message: Message, refused: Refused) -> None:
        """What the intake does not hand on."""
        await refuse(
            message,
            refused,
            turns=self.handling.turns,
            dead_letters=self.handling.dead_letters,
            count=count_refused,
        )
        ids = refused.conversation_id or "", refused.turn_id
        self._trace_unstarted(message, *ids, refused.error)

    async def _hand_back_uncounted(self, job: answer.Job) -> None:
        """A worker that stops, or that NATS has left, was no try of the turn."""
        with contextlib.suppress(ParleyError):
            await self.conversations.amend(
                job.conversation_id,
                lambda found: conversation.handed_back(found, job.turn_id, job.execution),
            )

    def _deltas(self, delivery: Delivery, job: answer.Job, span: Span) -> NatsDeltas:
        async def look() -> None:
            held = await self.conversations.load(job.conversation_id)
            # Not even the end of a turn that we committed: whoever has the work now tells it.
            conversation.owned(held.value, job.turn_id, job.execution)

        fence = LeaseFence(delivery, look)
        context = onward(span, delivery.headers)
        logs.note(trace_id=logs.trace_id(context))
        return NatsDeltas(self.connection, job.conversation_id, job.turn_id, fence, context)

    async def _show(self, msg: Msg) -> History:
        return await show(
            decode_request(msg, HistoryRequest),
            conversations=self.conversations,
            pages=self.conversations,
            past=self.history,
        )

    async def _erase(self, msg: Msg) -> Deleted:
        conversation_id = decode_request(msg, DeleteRequest).conversation_id
        needs = erase.Dependencies(
            conversations=self.conversations,
            remains=self.history,
            voices=self.cancelling.voices,
            cancels=self.cancels,
            clock=self.clock,
        )
        await erase.erase(conversation_id, needs)
        return Deleted(conversation_id)

    async def _ask(self, msg: Msg) -> Asked:
        headers = msg.headers or {}
        needs = ask.Dependencies(
            conversations=self.conversations,
            queue=self.queue,
            requests=NatsRequests(self.connection, carried(headers)),
            take=lambda conversation_id, characters: self.allowance.take(
                conversation_id, characters, self.clock.monotonic()
            ),
        )
        asked = Unqueued(msg.subject, msg.data, headers)
        return await ask.ask(asked, needs, max_bytes=self.config.max_request_bytes)

    async def _replay(self, msg: Msg) -> object:
        conversation_id = named_by(msg.subject)
        request = decode_body(msg.data, ReplayRequest)
        if is_inbox(msg.reply):
            await self.replay.send(conversation_id, request, msg.reply)
        return ANSWERED

    async def _cancel(self, msg: Msg) -> CancelRequest:
        request = decode_request(msg, CancelRequest)
        await cancel.cancel(request, self.cancelling)
        return request


# ---------------------------------------------------------------- what operators see


def count_refused(error: Failure) -> None:
    REFUSED.labels(CHAT_REQUEST, error.code.value).inc()


def count_ended(end: Done | Failed, seconds: float) -> None:
    if isinstance(end, Done):
        outcome, code = end.finish_reason.value, ""
    else:
        outcome, code = metrics.FAILED, end.error.code.value
    TURNS.labels(SERVICE, outcome, code).inc()
    if seconds:
        TURN_SECONDS.labels(SERVICE).observe(seconds)
    log.info(
        "chat.turn_ended",
        extra={
            "conversation_id": end.conversation_id,
            "turn_id": end.turn_id,
            "attempt": end.attempt,
            "outcome": outcome,
            "code": code or None,
            "seconds": round(seconds, 3),
        },
    )


class _Report:
    """Implements Report; `waited`: seconds that the request was in the queue by now."""

    def __init__(self, waited: float) -> None:
        self._waited = waited

    def begun(self, attempt: int) -> None:
        logs.note(attempt=attempt)
        ATTEMPTS.labels(SERVICE).inc()
        if attempt == 1:  # else another worker has begun it before
            QUEUE_WAIT.labels(SERVICE).observe(self._waited)

    def first_token(self, seconds: float) -> None:
        FIRST_TOKEN.observe(seconds)

    def retried(self, error: ProviderError) -> None:
        PROVIDER_RETRIES.labels(SERVICE, error.code.value).inc()

    def spent(self, usage: Usage, cost: float | None) -> None:
        TOKENS.labels("prompt").inc(usage.prompt_tokens or 0)
        TOKENS.labels("completion").inc(usage.completion_tokens or 0)
        COST.labels(SERVICE).inc(cost or 0)


def note(span: Span, end: Done | Failed) -> None:
    """How a turn has ended, on its span."""
    if isinstance(end, Failed):
        span.ended("failed", end.error.code.value, attempt=end.attempt)
    else:
        span.ended(end.finish_reason.value, attempt=end.attempt)
