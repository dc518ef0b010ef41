"""The speech worker's wiring: which subject goes to which verb, and what the verbs are given."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from faststream.nats import NatsBroker

from services.tts import record
from services.tts.audio.spool import ReplaySpool, Spool
from services.tts.erase import erase
from services.tts.handle import Dependencies, KnownVoices, handle, hopeless, note_cancel
from services.tts.held_voices import HeldVoices
from services.tts.job import Defaults, Rules, seconds_between
from services.tts.link import link
from services.tts.minio.store import MinioStore
from services.tts.nats.audio import NatsAudio
from services.tts.nats.ends import NatsEnds
from services.tts.nats.erase import NatsVoices
from services.tts.nats.records import NatsRecords
from services.tts.nats.requests import NatsRequests
from services.tts.nats.text import NatsText
from services.tts.ports import VoiceDependencies
from services.tts.process.metrics import (
    CHARACTERS,
    LATE_AUDIO,
    SOCKET_EVENTS,
    SOCKETS,
    SOCKETS_LIMIT,
    STORE_AWAY,
    WAITING_FOR_SLOT,
)
from services.tts.request import understand
from services.tts.speak import speak
from services.tts.together.connection import Endpoint
from services.tts.together.counts import Happened
from services.tts.together.end_of_audio import Patience
from services.tts.together.pool import Limits
from services.tts.together.protocol import OptionalParameters
from services.tts.together.voice import TogetherVoice
from shared.contract import (
    CHAT_CANCEL,
    HISTORY_DELETE,
    TTS_DEAD,
    TTS_ERASE,
    TTS_LINK,
    TTS_REQUEST,
    TTS_REQUESTS_STREAM,
    TTS_WORKERS,
    CancelRequest,
    Deleted,
    DeleteRequest,
    Finish,
    Link,
    LinkRequest,
    Stored,
    tts_request,
)
from shared.errors import DeadlineExceeded, NatsError, ParleyError, Unsendable
from shared.nats.dead_letters import NatsDeadLetters
from shared.nats.lease import LeaseFence, confirm
from shared.nats.provision import consumer
from shared.nats.refusals import Refusals
from shared.nats.replies import answer_with, decode_body, decode_request, named_by, overhear, serve
from shared.nats.work import Work
from shared.process import logs, metrics
from shared.process.cancel import CancelToken
from shared.process.clock import SystemClock
from shared.process.metrics import (
    ATTEMPTS,
    COST,
    HANDED_BACK,
    PROVIDER_RETRIES,
    QUEUE_WAIT,
    REFUSED,
    TURN_SECONDS,
    TURNS,
    TURNS_UNDER_WAY,
    WAITING,
)
from shared.process.tracing import Tracing, onward
from shared.refuse import Refused, Unqueued

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nats.aio.msg import Msg

    from services.tts.config import Config
    from services.tts.job import Job
    from services.tts.ports import TurnText
    from shared.contract import AudioFailed
    from shared.errors import Failure, ProviderError
    from shared.nats.connection import Connection
    from shared.nats.lease import Delivery
    from shared.nats.wire import Incoming
    from shared.refuse import Message
    from shared.spans import Span

T = TypeVar("T")

log = logging.getLogger(__name__)

SERVICE = "tts"
EXECUTIONS = 5  # workers that may begin a voice before it is given up
RECOVER_AFTER = 8  # pieces of the fallback model before the first one is tried again
STORE_AGAIN_SECONDS = 3.0  # before a turn whose object could not be stored is taken up again
STORE_REFUSED_SECONDS = 60.0  # somebody may be changing its keys at this moment
# Of the deadline for a piece's first audio: a provider that was away for all of it is there again.
PATIENCE_FACTOR = 1.5


class TtsWorker:
    """Implements shared.process.lifecycle.Worker."""

    def __init__(self, config: Config) -> None:
        metrics.begin(SERVICE, outcomes=Finish, reasons=(*metrics.HAND_BACKS, metrics.NO_STORE))
        self.config = config
        self.store = MinioStore(config.minio)
        self.voice = TogetherVoice(
            Endpoint(
                url=config.url,
                api_key=config.api_key,
                optional=OptionalParameters(segment=config.segment, sample_rate=config.sample_rate),
                connect_timeout=config.connect_timeout,
            ),
            model=config.model,
            voice=config.voice,
            patience=Patience(first_audio=config.first_audio_timeout, audio=config.audio_timeout),
            limits=_limits(config),
            count=_counts(),
        )
        self.held = HeldVoices(CancelToken)
        self.rules, self.clock = _rules(config), SystemClock()
        self.tracing = Tracing("tts", config.url)

    # ------------------------------------------------------------ life

    def subscribe(self, broker: NatsBroker) -> None:
        # Every replica stops what it speaks, see start(). One of them notes a cancel, for who takes
        # the voice up later; one erases what was said.
        serve(broker, CHAT_CANCEL, self._note_cancel, queue="tts")
        serve(broker, TTS_ERASE, self._erase_once, queue="tts", literal=False)
        serve(broker, TTS_LINK, self._link, queue="tts", literal=False)

    async def _link(self, msg: Msg) -> None:
        await answer_with(self.connection, msg, self._linked(msg), to=TTS_DEAD)

    async def _linked(self, msg: Msg) -> Link:
        conversation_id = named_by(msg.subject)
        turn_id = decode_body(msg.data, LinkRequest).turn_id
        records = self._records(conversation_id, turn_id)
        return await link(
            conversation_id, turn_id, records=records, objects=self.store, clock=self.clock
        )

    async def _cancel(self, msg: Msg) -> None:
        with contextlib.suppress(ParleyError):  # refused by the chat service
            self.held.cancel(decode_request(msg, CancelRequest))

    async def _note_cancel(self, msg: Msg) -> None:
        with contextlib.suppress(ParleyError):
            await note_cancel(decode_request(msg, CancelRequest), self._records, self._requests)

    async def _cancel_all(self, msg: Msg) -> None:
        with contextlib.suppress(ParleyError):
            asked = decode_request(msg, DeleteRequest)
            self.held.cancel(CancelRequest(asked.conversation_id))

    async def _erase_once(self, msg: Msg) -> None:
        await answer_with(self.connection, msg, self._erase(msg), to=TTS_DEAD)

    async def start(self, connection: Connection) -> None:
        self.connection = connection
        dead_letters = NatsDeadLetters(connection, TTS_DEAD)
        self.work = Work(
            connection,
            consumer(TTS_WORKERS),
            slots=self.config.max_turns,
            handle=self._handle,
            hopeless=self._hopeless,
            ids=_ids,
        )
        self.deps = Dependencies(
            rules=self.rules,
            defaults=_defaults(self.config),
            slots=self.work,
            held=self.held,
            turns=KnownVoices(self._records, NatsEnds(connection)),
            dead_letters=dead_letters,
            follow=partial(NatsText, connection, idle_seconds=self.config.text_timeout),
            new_execution=lambda: uuid.uuid4().hex,
            clock=self.clock,
            report=_Report(),
            trace_refused=self._trace_refused,
        )
        await overhear(connection, CHAT_CANCEL, self._cancel)
        await overhear(connection, HISTORY_DELETE, self._cancel_all)
        await overhear(connection, TTS_ERASE, self._cancel_all)
        await self.voice.__aenter__()
        self._bucket = asyncio.create_task(self.store.prepare())
        self._begun = asyncio.create_task(self._begin())
        self.refusals = Refusals(
            connection,
            subjects=[tts_request("*")],
            queue="tts",
            dead=TTS_DEAD,
            check=self._check,
        )
        await self.refusals.start()
        TURNS_UNDER_WAY.labels(SERVICE).set_function(lambda: self.work.running)
        WAITING.labels(SERVICE).set_function(lambda: self.work.waiting)
        STORE_AWAY.set_function(lambda: self.store.away)
        SOCKETS_LIMIT.set_function(lambda: self.voice.max_sockets)
        SOCKETS.set_function(lambda: self.voice.open_sockets)
        WAITING_FOR_SLOT.set_function(lambda: self.voice.waiting_turns)

    async def _begin(self) -> None:
        """Where the store refuses, others may do better: work is left to them for a while.

        Then it is taken, so that the voices learn of it, if there are no others.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.rules.store_refused):
                await self.store.usable.wait()
        await self.work.start()

    async def failed(self) -> None:
        await asyncio.shield(self._begun)
        await self.work.failed()

    async def waiting(self) -> Mapping[str, str]:
        if self.store.refusal or not self.store.usable.is_set():
            return {"store": self.store.refusal or "it has not answered yet"}
        return {}

    def _check(self, msg: Incoming) -> Failure | None:
        found = understand(Unqueued(msg.subject, msg.data, msg.headers or {}))
        return found.error if isinstance(found, Refused) else None

    async def drain(self, grace: float) -> None:
        self._begun.cancel()
        await self.refusals.stop()
        await self.work.drain(grace)
        self._bucket.cancel()
        await self.voice.close()

    # ------------------------------------------------------------ what the verbs are given

    async def _handle(self, delivery: Delivery) -> None:
        await handle(delivery, partial(self._speak, delivery), self.deps)

    async def _hopeless(self, delivery: Delivery, error: Failure) -> None:
        await hopeless(delivery, error, self.deps)

    async def _speak(
        self, delivery: Delivery, job: Job, text: TurnText, token: CancelToken
    ) -> Stored | AudioFailed | None:
        seconds = self.config.turn_timeout
        with (
            self._traced(delivery, job.conversation_id, job.turn_id) as span,
            closing(Spool()) as spool,
            closing(ReplaySpool()) as replay_spool,
            closing(self._audio(delivery, job, span, replay_spool)) as audio,
        ):
            deps = VoiceDependencies(
                records=self._records(job.conversation_id, job.turn_id),
                requests=self._requests(job.conversation_id, job.turn_id),
                publish=audio,
                voice=self.voice,
                recording=spool,
                store=self.store,
                clock=SystemClock(token),
                token=token,
                confirm=lambda: confirm(self.connection, delivery, TTS_REQUESTS_STREAM),
                price=self.config.prices.of,
                report=_VoiceReport(seconds_between(job.since, self.clock.utc())),
                span=span,
            )
            with token.deadline(seconds, DeadlineExceeded(f"it took longer than {seconds:g} s")):
                end = await self._handed_back_uncounted(job, speak(job, self.rules, text, deps))
            if end is not None:
                _note(span, end)
            return end

    def _traced(self, message: Message, conversation_id: str, turn_id: str) -> Span:
        ids = conversation_id, turn_id
        return self.tracing.turn(message.headers, *ids, message.taken_at, message.deliveries)

    def _trace_refused(self, message: Message, refused: Refused) -> None:
        with self._traced(message, refused.conversation_id or "", refused.turn_id) as span:
            span.failed(refused.error)

    async def _handed_back_uncounted(self, job: Job, speaking: Awaitable[T]) -> T:
        """A worker that stops, or that NATS has left, was no try of the voice."""
        try:
            return await speaking
        except (asyncio.CancelledError, NatsError) as exc:
            if not isinstance(exc, Unsendable):  # that is the voice's own fault
                with contextlib.suppress(ParleyError):
                    records = self._records(job.conversation_id, job.turn_id)
                    await records.amend(lambda found: record.handed_back(found, job.execution))
            raise

    def _audio(self, delivery: Delivery, job: Job, span: Span, spool: ReplaySpool) -> NatsAudio:
        async def look() -> None:
            found = (await self._records(job.conversation_id, job.turn_id).load()).value
            # Not even an end that we committed: whoever has the work now tells it.
            record.owned(found, job.execution)

        fence = LeaseFence(delivery, look)
        context = onward(span, delivery.headers)
        logs.note(trace_id=logs.trace_id(context))
        return NatsAudio(
            self.connection,
            job.conversation_id,
            job.turn_id,
            fence,
            context,
            spool,
            warnings=job.warnings,
            asked_at=job.taken_at,
        )

    def _requests(self, conversation_id: str, turn_id: str) -> NatsRequests:
        return NatsRequests(self.connection, conversation_id, turn_id)

    def _records(self, conversation_id: str, turn_id: str) -> NatsRecords:
        return NatsRecords(self.connection, conversation_id, turn_id)

    async def _erase(self, msg: Msg) -> Deleted:
        conversation_id = decode_request(msg, DeleteRequest).conversation_id
        objects = await erase(
            conversation_id,
            voices=NatsVoices(self.connection),
            objects=self.store,
            clock=self.clock,
        )
        log.info("tts.voice_erased", extra={"objects": objects})
        return Deleted(conversation_id)


def _ids(delivery: Delivery) -> dict[str, object]:
    found = understand(delivery)
    return logs.ids(found.conversation_id, found.turn_id, delivery.headers)


def _limits(config: Config) -> Limits:
    return Limits(
        sockets=config.sockets,
        turns=config.max_turns,
        slot_timeout=config.place_timeout,
        stand_in=config.fallback[0] if config.fallback else None,
        stand_in_after=config.first_audio_timeout if config.fallback else None,
    )


def _rules(config: Config) -> Rules:
    return Rules(
        max_tries=config.tries,
        patience=PATIENCE_FACTOR * config.first_audio_timeout,
        max_executions=EXECUTIONS,
        fallback=config.fallback,
        recover_after=RECOVER_AFTER,
        max_characters=config.max_characters,
        code_blocks=config.code_blocks,
        store_again=STORE_AGAIN_SECONDS,
        store_give_up=config.minio.give_up,
        store_refused=min(STORE_REFUSED_SECONDS, config.minio.give_up / 10),
    )


def _defaults(config: Config) -> Defaults:
    return Defaults(
        model=config.model,
        voice=config.voice,
        language=config.language,
        speed=config.speed,
        alignment=config.alignment,
        pronunciations=config.pronunciations,
        max_partial_length=config.max_partial_length,
        format=config.format,
    )


# ------------------------------------------------------------ what operators see


class _Report:
    """Implements Report."""

    def refused(self, error: Failure) -> None:
        REFUSED.labels(TTS_REQUEST, error.code.value).inc()

    def handed_back(self, error: Failure) -> None:
        HANDED_BACK.labels(SERVICE, metrics.NO_STORE).inc()
        # The store's own line says that it is away: one for each voice and try says no more.
        log.debug("tts.store_later", extra={"reason": str(error)})

    def ended(self, end: Stored | AudioFailed, seconds: float) -> None:
        if isinstance(end, Stored):
            outcome, code = end.finish.value, ""
        else:
            outcome, code = metrics.FAILED, end.error.code.value
        TURNS.labels(SERVICE, outcome, code).inc()
        if seconds:
            TURN_SECONDS.labels(SERVICE).observe(seconds)
        log.info(
            "tts.turn_ended",
            extra={
                "conversation_id": end.conversation_id,
                "turn_id": end.turn_id,
                "attempt": end.attempt,
                "outcome": outcome,
                "code": code or None,
                "seconds": round(seconds, 3),
            },
        )


class _VoiceReport:
    """Implements VoiceReport; `waited`: seconds that the request was in the queue by now."""

    def __init__(self, waited: float) -> None:
        self._waited = max(0.0, waited)

    def begun(self, attempt: int) -> None:
        logs.note(attempt=attempt)
        ATTEMPTS.labels(SERVICE).inc()
        if attempt == 1:  # else another worker has begun it before
            QUEUE_WAIT.labels(SERVICE).observe(self._waited)

    def submitted(self, characters: int, cost: float | None) -> None:
        CHARACTERS.inc(characters)
        COST.labels(SERVICE).inc(cost or 0)

    def retried(self, error: ProviderError) -> None:
        PROVIDER_RETRIES.labels(SERVICE, error.code.value).inc()


def _counts() -> Callable[[Happened], None]:
    """A label is looked up once, not for each frame."""
    known = {
        each: LATE_AUDIO if each is Happened.STALE_AUDIO else SOCKET_EVENTS.labels(each.value)
        for each in Happened
    }

    def count(happened: Happened) -> None:
        known[happened].inc()

    return count


def _note(span: Span, end: Stored | AudioFailed) -> None:
    """How a voice has ended, on its span."""
    if isinstance(end, Stored):
        span.ended(end.finish.value, attempt=end.attempt)
    else:
        span.ended("failed", end.error.code.value, attempt=end.attempt)
