"""The chat service's wiring: which subject goes to which verb."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from faststream.nats import NatsBroker, NatsMessage

from services.chat import conversation
from services.chat.answer import GivenUp, Job, Rules, World, answer
from services.chat.nats.conversations import NatsConversations
from services.chat.nats.deltas import NatsDeltas
from services.chat.nats.heard import NatsHeard
from services.chat.nats.history import NatsHistory
from services.chat.nats.intake import NatsIntake
from services.chat.nats.queue import Lines
from services.chat.request import understand
from services.chat.together.chat import TogetherChat
from services.chat.turn import Turn
from services.chat.wait_in_line import Repeated, wait_in_line
from shared.contract import (
    CHAT_CANCEL,
    CHAT_DEAD,
    CHAT_REQUEST,
    CHAT_REQUESTS_STREAM,
    CHAT_WORKERS,
    H_ATTEMPT,
    H_CONVERSATION,
    H_TURN,
    H_TYPE,
    HISTORY_DELETE,
    HISTORY_GET,
    MSG_ID,
    AudioFailed,
    CancelRequest,
    ChatRequest,
    Done,
    Failed,
    Kind,
    Speech,
    SpeechRequest,
    chat_delta,
    encode,
    tts_audio,
    tts_request,
)
from shared.errors import Busy, Cancelled, Failure, ParleyError
from shared.nats.connection import Connection
from shared.nats.dead_letters import dead_letter
from shared.nats.publish import publish
from shared.nats.replies import answer_with, as_bytes, decode_request
from shared.nats.work import Delivery, LeaseFence, Work
from shared.process.cancel import Stop
from shared.process.metrics import (
    FIRST_TOKEN,
    REFUSED,
    TOKENS,
    TURN_SECONDS,
    TURNS,
    TURNS_UNDER_WAY,
    WAITING,
    carried,
)
from shared.process.tracing import Span, span
from shared.refuse import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from services.chat.config import Config

log = logging.getLogger(__name__)

IDS_BYTES = 512
EXECUTIONS = 5  # workers that may begin a turn before it is given up


class _Clock:
    """Now, bound to a turn."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def monotonic(self) -> float:
        return time.monotonic()

    def utc(self) -> str:
        return utc_now()

    async def pause(self, seconds: float) -> None:
        await self._stop.guard(asyncio.sleep(seconds))

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311  jitter, not a secret


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ChatWorker:
    """Implements shared.process.lifecycle.Worker."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.model = TogetherChat(
            base_url=config.base_url,
            api_key=config.api_key,
            connect_timeout=config.connect_timeout,
            first_token_timeout=config.first_token_timeout,
            token_timeout=config.token_timeout,
        )
        self.rules = Rules(
            model=config.model,
            fallback_model=config.fallback_model,
            system_prompt=config.system_prompt,
            context_tokens=config.context_tokens,
            context_messages=config.context_messages,
            turns_per_minute=config.turns_per_minute,
            max_tokens=config.max_output_tokens,
            turn_timeout=config.turn_timeout,
            tries=config.tries,
            executions=EXECUTIONS,
            output_chars=config.max_output_tokens * 16,
        )
        self.stops: dict[tuple[str, str], Stop] = {}  # of the turns held here, waiting or running
        self.under_way: dict[str, str] = {}  # conversation -> the turn that runs here
        # Ends without a start, at once: a flood of them must not crowd out those who run.
        self.ending = asyncio.Semaphore(4)

    # ------------------------------------------------------------ life

    def subscribe(self, broker: NatsBroker) -> None:
        """The requests that FastStream takes; the queues are pulled by shared/work.py.

        Taking one message through FastStream's pull costs 370 µs, which would make a flood of 500
        in one conversation hold up all others; the pull of nats_bus.py costs a tenth.
        """

        @broker.subscriber(HISTORY_GET, queue="chat", no_reply=True, decoder=as_bytes)
        async def on_history(body: bytes, message: NatsMessage) -> None:
            await self._reply(message, self.history.get(body))

        @broker.subscriber(HISTORY_DELETE, queue="chat", no_reply=True, decoder=as_bytes)
        async def on_delete(body: bytes, message: NatsMessage) -> None:
            await self._reply(message, self.history.delete(body))

        # Every replica hears a cancel; the one that holds the turn stops it.
        @broker.subscriber(CHAT_CANCEL, no_reply=True, decoder=as_bytes)
        async def on_cancel(body: bytes) -> None:
            with contextlib.suppress(ParleyError):  # refused below, once for all replicas
                self.cancel(decode_request(body, CancelRequest))

        # One replica answers, refuses, and amends the history of a turn that has ended.
        @broker.subscriber(CHAT_CANCEL, queue="chat", no_reply=True, decoder=as_bytes)
        async def on_cancel_once(body: bytes, message: NatsMessage) -> None:
            await self._reply(message, self.history.cancelled(body))

    async def _reply(self, message: NatsMessage, work: Awaitable[object]) -> None:
        await answer_with(self.connection, message.raw_message, work, to=CHAT_DEAD)

    async def start(self, connection: Connection) -> None:
        self.connection = connection
        self.conversations = NatsConversations(connection)
        self.history = NatsHistory(connection, self.conversations)
        self.lines = Lines(connection)
        self.intake = NatsIntake(
            connection, max_bytes=self.config.max_request_bytes, refuse=self._refuse
        )
        self.work = Work(
            connection,
            CHAT_REQUESTS_STREAM,
            CHAT_WORKERS,
            places=self.config.max_turns,
            handle=self._handle,
            dead_letter=self._dead_letter,
        )
        await self.work.start()
        self._intake = asyncio.create_task(self.intake.run())
        TURNS_UNDER_WAY.labels("chat").set_function(lambda: len(self.under_way))
        WAITING.set_function(lambda: len(self.stops) - len(self.under_way))

    async def failed(self) -> None:
        work = asyncio.create_task(self.work.failed())
        try:
            await asyncio.wait({work, self._intake}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, self._intake):
                if task.done():
                    await task
        finally:
            work.cancel()

    async def drain(self, grace: float) -> None:
        await self.intake.drain()
        self._intake.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._intake
        await self.intake.hand_over()
        await self.work.drain(grace)
        await self.model.close()

    # ------------------------------------------------------------ a request

    async def _handle(self, delivery: Delivery) -> None:
        found = understand(
            delivery.subject,
            delivery.data,
            delivery.headers,
            delivery.sequence,
            unique=delivery.unique,
            # The intake has added ids and spelled out what was plain text.
            max_bytes=self.config.max_request_bytes + IDS_BYTES,
        )
        if isinstance(found, Refused):
            await self._refuse(delivery, found)
            await delivery.ack()
            return
        stop = Stop()
        key = (str(found.conversation_id), str(found.turn_id))
        self.stops[key] = stop
        try:
            await self._turn(delivery, found, stop)
        finally:
            if self.stops.get(key) is stop:
                del self.stops[key]
            self.lines.ended(key[0])

    async def _turn(self, delivery: Delivery, request: ChatRequest, stop: Stop) -> None:
        conversation_id, turn_id = str(request.conversation_id), str(request.turn_id)
        try:
            async with self.lines.place(conversation_id, delivery.sequence, stop) as line:
                await wait_in_line(line, turn_id, request.on_busy, self.config.max_queued)
        except Repeated:
            await delivery.ack()
            return
        except (Busy, Cancelled) as exc:
            async with self.ending:
                await self._end_unstarted(delivery, request, exc)
            return
        async with self.work.place(delivery):
            self.under_way[conversation_id] = turn_id
            try:
                with span("chat.turn", delivery.headers) as traced:
                    await self._answer(delivery, request, stop, traced)
            finally:
                self.under_way.pop(conversation_id, None)

    async def _answer(
        self, delivery: Delivery, request: ChatRequest, stop: Stop, traced: Span
    ) -> None:
        conversation_id, turn_id = str(request.conversation_id), str(request.turn_id)
        job = Job(
            conversation_id=conversation_id,
            turn_id=turn_id,
            request=request,
            execution=uuid.uuid4().hex,
            voice=self._speaks(request),
        )
        deltas = self._deltas(delivery, job, traced.headers)
        began, wall = time.monotonic(), utc_now()
        world = World(
            conversations=self.conversations,
            model=self.model.model_for(stop),
            publish=deltas,
            heard=NatsHeard(self.connection, wall),
            now=_Clock(stop),
            heard_ms=lambda: stop.heard_ms,
            price=self.config.prices.of,
        )
        try:
            end = await answer(job, self.rules, world)
        except Busy as exc:
            await self._end_unstarted(delivery, request, exc)
            return
        except GivenUp as exc:
            await self._dead_letter(delivery, exc)
            end = None
        finally:
            deltas.close()
        await delivery.ack()
        self._count(end, time.monotonic() - began)
        if end is not None:
            traced.note(
                parley__conversation=conversation_id,
                parley__turn=turn_id,
                parley__attempt=end.attempt,
                gen_ai__request__model=request.model or self.rules.model,
                gen_ai__usage__output_tokens=(
                    end.usage.completion_tokens if isinstance(end, Done) else 0
                ),
            )

    def _speaks(self, request: ChatRequest) -> bool:
        if request.speech is None:
            return self.config.speech
        return isinstance(request.speech, Speech)

    def _deltas(self, delivery: Delivery, job: Job, trace: dict[str, str]) -> NatsDeltas:
        async def look() -> None:
            document, _ = await self.conversations.load(job.conversation_id)
            # Not even the end of a turn that we committed: whoever has the work now tells it.
            conversation.owned(document, job.turn_id, job.execution)

        return NatsDeltas(
            self.connection,
            job.conversation_id,
            job.turn_id,
            LeaseFence(delivery, look),
            trace,
        )

    def _count(self, end: Done | Failed | None, seconds: float) -> None:
        if end is None:
            return
        outcome = end.finish_reason if isinstance(end, Done) else end.error.code
        TURNS.labels("chat", outcome.value).inc()
        TURN_SECONDS.labels("chat").observe(seconds)
        if isinstance(end, Done):
            TOKENS.labels("prompt").inc(end.usage.prompt_tokens)
            TOKENS.labels("completion").inc(end.usage.completion_tokens)
            if end.first_token_ms is not None:
                FIRST_TOKEN.observe(end.first_token_ms / 1000)
        log.info(
            "chat.turn_ended",
            extra={
                "conversation": end.conversation_id,
                "turn": end.turn_id,
                "attempt": end.attempt,
                "outcome": outcome.value,
                "seconds": round(seconds, 3),
            },
        )

    # ------------------------------------------------------------ what does not run

    async def _end_unstarted(
        self, delivery: Delivery, request: ChatRequest, why: Busy | Cancelled
    ) -> None:
        """Refused, or stopped while it waited: an end without a start, and the voice ends too."""
        conversation_id, turn_id = str(request.conversation_id), str(request.turn_id)
        turn = Turn(conversation_id, turn_id)
        end: Done | Failed
        if isinstance(why, Cancelled):
            end = turn.stopped(request.metadata)
        else:
            end = turn.failed(why.as_error())
        sequence = await self._publish_end(delivery, end)
        if self._speaks(request):
            await self._end_voice(delivery, request, end, sequence)
        await delivery.ack()
        self._count(end, 0.0)

    async def _end_voice(
        self, delivery: Delivery, request: ChatRequest, end: Done | Failed, sequence: int
    ) -> None:
        if isinstance(end, Done):  # the speech worker says what is kept of it: nothing
            speech = request.speech if isinstance(request.speech, Speech) else Speech()
            voice = SpeechRequest(end.conversation_id, end.turn_id, speech, start_sequence=sequence)
            subject, body = tts_request(end.conversation_id), encode(voice)
        else:  # a flood of refusals must not become work for the speech workers
            failed = AudioFailed(end.conversation_id, end.turn_id, 1, error=end.error)
            subject, body = tts_audio(end.conversation_id), encode(failed)
        headers = self._headers(delivery, end, "voice")
        if isinstance(end, Failed):
            headers |= {H_TYPE: Kind.FAILED.value, H_ATTEMPT: "1"}
        await publish(self.connection, subject, body, headers)

    def _headers(self, delivery: Delivery, end: Done | Failed, what: str) -> dict[str, str]:
        """Of what follows from this one message, whatever else is said of the same turn."""
        return {
            MSG_ID: f"unstarted.{delivery.unique}.{what}",
            H_CONVERSATION: end.conversation_id,
            H_TURN: end.turn_id,
            **carried(delivery.headers),
        }

    async def _publish_end(self, delivery: Delivery, end: Done | Failed) -> int:
        """Returns its sequence in the stream."""
        headers = self._headers(delivery, end, "end")
        return (
            await publish(self.connection, chat_delta(end.conversation_id), encode(end), headers)
        ).seq

    async def _refuse(self, delivery: Delivery, refused: Refused) -> None:
        """A failed event where the conversation is known, a dead letter always."""
        REFUSED.labels(CHAT_REQUEST, refused.error.code.value).inc()
        if refused.conversation_id is not None:
            document, _ = await self.conversations.load(refused.conversation_id)
            # A bad copy of a good request must not end that one's turn.
            if not conversation.knows(document, refused.turn_id):
                turn = Turn(refused.conversation_id, refused.turn_id)
                await self._publish_end(delivery, turn.failed(refused.error.as_error()))
        await self._dead_letter(delivery, refused.error)

    async def _dead_letter(self, delivery: Delivery, error: Failure) -> None:
        await dead_letter(
            self.connection,
            CHAT_DEAD,
            subject=delivery.subject,
            data=delivery.data,
            headers=delivery.headers,
            error=error,
            deliveries=delivery.deliveries,
            unique=f"dead.{delivery.unique}",
        )

    # ------------------------------------------------------------ cancel

    def cancel(self, request: CancelRequest) -> None:
        """Stops the turn if it is held here."""
        turn_id = request.turn_id or self.under_way.get(request.conversation_id)
        if turn_id is None:
            return
        stop = self.stops.get((request.conversation_id, turn_id))
        if stop is not None:
            stop.request(request.heard_ms)
