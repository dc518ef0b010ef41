"""The speech worker's wiring: which subject goes to which verb."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from faststream.nats import NatsBroker

from services.tts import record
from services.tts.audio.spool import ReplaySpool, Spool
from services.tts.minio.store import MinioStore
from services.tts.nats.audio import NatsAudio
from services.tts.nats.erase import erase_voice
from services.tts.nats.records import NatsRecords
from services.tts.ports import VoiceParams
from services.tts.request import understand
from services.tts.script import Script
from services.tts.speak import GivenUp, Job, Rules, World, speak
from services.tts.together.connection import Endpoint
from services.tts.together.end_of_audio import Patience
from services.tts.together.pool import Limits
from services.tts.together.voice import TogetherVoice
from shared.contract import (
    CHAT_CANCEL,
    H_ATTEMPT,
    H_CONVERSATION,
    H_TURN,
    H_TYPE,
    HISTORY_DELETE,
    MSG_ID,
    TTS_DEAD,
    TTS_REQUEST,
    TTS_WORKERS,
    Alignment,
    AudioFailed,
    CancelRequest,
    Delta,
    Done,
    FinishReason,
    HistoryRequest,
    Kind,
    Speech,
    SpeechRequest,
    Stored,
    Text,
    Usage,
    encode,
    tts_audio,
)
from shared.errors import Conflict, NatsError, ParleyError, StorageUnavailable
from shared.nats.connection import Connection
from shared.nats.dead_letters import NatsDeadLetters
from shared.nats.follow import follow
from shared.nats.lease import Delivery, LeaseFence
from shared.nats.provision import consumer
from shared.nats.publish import publish
from shared.nats.replies import as_bytes, decode_request
from shared.nats.work import Work
from shared.process.cancel import CancelToken
from shared.process.metrics import (
    CHARACTERS,
    REFUSED,
    SOCKET_EVENTS,
    SOCKETS,
    TURN_SECONDS,
    TURNS,
    TURNS_UNDER_WAY,
)
from shared.process.tracing import Span, carried, span
from shared.refuse import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from services.tts.config import Config
    from services.tts.ports import SpokenWord, Voice, VoiceTurn

log = logging.getLogger(__name__)

EXECUTIONS = 5  # workers that may begin a voice before it is given up
RECOVER_AFTER = 8  # pieces of the fallback model before the first one is tried again
STORE_AGAIN_SECONDS = 3.0  # before a turn whose object could not be stored is taken up again
STORE_GIVE_UP_SECONDS = 3600.0  # since the request; then the voice fails
END_OF_TEXT_SECONDS = 2.0  # after a stop: the chat service heard of it, too
SLICE = 512  # characters of a given text that are cut into pieces at once


@dataclass(frozen=True, slots=True)
class _StoppableTurn:
    """A voice that notices a stop while it waits for audio."""

    turn: VoiceTurn
    stop: CancelToken

    async def say(self, text: str) -> AsyncGenerator[bytes | SpokenWord, None]:
        async for part in self.stop.items(self.turn.say(text)):
            yield part

    async def finish(self) -> AsyncGenerator[bytes | SpokenWord, None]:
        async for part in self.stop.items(self.turn.finish()):
            yield part


@dataclass(frozen=True, slots=True)
class _StoppableVoice:
    voice: Voice
    stop: CancelToken

    @asynccontextmanager
    async def turn(self, params: VoiceParams) -> AsyncIterator[VoiceTurn]:
        manager = self.voice.turn(params)
        turn = await self.stop.guard(manager.__aenter__())
        try:
            yield _StoppableTurn(turn, self.stop)
        finally:
            await manager.__aexit__(None, None, None)


class _Clock:
    def __init__(self, stop: CancelToken) -> None:
        self._stop = stop

    def monotonic(self) -> float:
        return time.monotonic()

    async def pause(self, seconds: float) -> None:
        await self._stop.guard(asyncio.sleep(seconds))

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311  jitter, not a secret


class TtsWorker:
    """Implements shared.process.lifecycle.Worker."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = MinioStore(config.minio)
        self.voice = TogetherVoice(
            Endpoint(
                url=config.url,
                api_key=config.api_key,
                segment=config.segment,
                connect_timeout=config.connect_timeout,
            ),
            model=config.model,
            voice=config.voice,
            patience=Patience(first_audio=config.first_audio_timeout, audio=config.audio_timeout),
            limits=Limits(sockets=config.sockets),
            count=lambda happened: SOCKET_EVENTS.labels(happened).inc(),
        )
        self.rules = Rules(
            tries=config.tries,
            executions=EXECUTIONS,
            fallback=config.fallback,
            recover_after=RECOVER_AFTER,
        )
        self.stops: dict[tuple[str, str], CancelToken] = {}
        self.newest: dict[str, str] = {}  # conversation -> its last turn taken up here

    # ------------------------------------------------------------ life

    def subscribe(self, broker: NatsBroker) -> None:
        # Every replica hears a cancel; the one that speaks the turn stops it.
        @broker.subscriber(CHAT_CANCEL, no_reply=True, decoder=as_bytes)
        async def on_cancel(body: bytes) -> None:
            with contextlib.suppress(ParleyError):  # refused by the chat service
                self.cancel(decode_request(body, CancelRequest))

        # A voice that nobody speaks at this moment is found cancelled by who takes it up.
        @broker.subscriber(CHAT_CANCEL, queue="tts", no_reply=True, decoder=as_bytes)
        async def on_cancel_once(body: bytes) -> None:
            with contextlib.suppress(ParleyError, NatsError):
                await self._note_cancel(decode_request(body, CancelRequest))

        # Every replica stops speaking; one of them erases what was said.
        @broker.subscriber(HISTORY_DELETE, no_reply=True, decoder=as_bytes)
        async def on_delete(body: bytes) -> None:
            with contextlib.suppress(ParleyError):  # refused by the chat service
                self.stop_all(decode_request(body, HistoryRequest).conversation_id)

        @broker.subscriber(HISTORY_DELETE, queue="tts", no_reply=True, decoder=as_bytes)
        async def on_delete_once(body: bytes) -> None:
            with contextlib.suppress(ParleyError, NatsError):  # the chat service tells the asker
                conversation_id = decode_request(body, HistoryRequest).conversation_id
                await erase_voice(self.connection, self.store, conversation_id)

    async def start(self, connection: Connection) -> None:
        self.connection = connection
        self.dead_letters = NatsDeadLetters(connection, TTS_DEAD)
        self.work = Work(
            connection,
            consumer(TTS_WORKERS),
            slots=self.config.max_turns,
            handle=self._handle,
            dead_letters=self.dead_letters,
        )
        await self.voice.__aenter__()
        self._bucket = asyncio.create_task(self.store.prepare())
        await self.work.start()
        TURNS_UNDER_WAY.labels("tts").set_function(lambda: len(self.stops))
        SOCKETS.set_function(lambda: self.voice.open_sockets)

    async def failed(self) -> None:
        await self.work.failed()

    async def drain(self, grace: float) -> None:
        await self.work.drain(grace)
        self._bucket.cancel()
        await self.voice.close()

    # ------------------------------------------------------------ a request

    async def _handle(self, delivery: Delivery) -> None:
        found = understand(
            delivery.subject,
            delivery.data,
            delivery.headers,
            delivery.sequence,
            max_characters=self.config.max_characters,
        )
        if isinstance(found, Refused):
            await self._refuse(delivery, found)
            await delivery.ack()
            return
        conversation_id, turn_id = str(found.conversation_id), str(found.turn_id)
        stop = CancelToken()
        key = (conversation_id, turn_id)
        async with self.work.slot(delivery):
            self.stops[key] = stop
            self.newest[conversation_id] = turn_id
            try:
                with span("tts.turn", delivery.headers) as traced:
                    await self._speak(delivery, found, stop, traced)
            finally:
                if self.stops.get(key) is stop:
                    del self.stops[key]
                if self.newest.get(conversation_id) == turn_id:
                    del self.newest[conversation_id]

    async def _speak(
        self, delivery: Delivery, request: SpeechRequest, stop: CancelToken, traced: Span
    ) -> None:
        conversation_id, turn_id = str(request.conversation_id), str(request.turn_id)
        records = NatsRecords(self.connection, conversation_id, turn_id)
        job = Job(
            conversation_id=conversation_id,
            turn_id=turn_id,
            execution=uuid.uuid4().hex,
            since=_rfc3339(delivery.taken_at),
            params=self._params(request.speech),
            format=request.speech.format or self.config.format,
        )

        async def look() -> None:
            found, _ = await records.load()
            # Not even an end that we committed: whoever has the work now tells it.
            record.owned(found, job.execution)

        replay_spool = ReplaySpool()
        audio = NatsAudio(
            self.connection,
            conversation_id,
            turn_id,
            LeaseFence(delivery, look),
            traced.headers,
            replay_spool,
        )
        script = Script(
            max_chars=job.params.max_partial_length,
            code_blocks="announce" if self.config.code_blocks == "announce" else "skip",
            max_characters=self.config.max_characters,
        )
        spool = Spool()
        began = time.monotonic()
        world = World(
            records=records,
            publish=audio,
            voice=_StoppableVoice(self.voice, stop),
            recording=spool,
            store=self.store,
            now=_Clock(stop),
            price=self.config.prices.of,
            whole_text=lambda: self._whole_text(request),
        )
        source = self._text(request, turn_id)
        try:
            end = await speak(job, self.rules, world, text=stop.items(source), script=script)
        except StorageUnavailable as exc:
            await self._store_later(delivery, exc, records, job, audio)
            return
        except GivenUp as exc:
            await self.dead_letters.add(delivery, exc)
            end = None
        finally:
            await source.aclose()
            audio.close()
            replay_spool.close()
            spool.close()
        await delivery.ack()
        self._count(end, time.monotonic() - began)
        if end is not None:
            traced.note(
                parley__conversation=conversation_id,
                parley__turn=turn_id,
                parley__attempt=end.attempt,
                gen_ai__request__model=job.params.model,
                parley__characters=end.characters if isinstance(end, Stored) else 0,
            )

    async def _store_later(
        self,
        delivery: Delivery,
        error: StorageUnavailable,
        records: NatsRecords,
        job: Job,
        audio: NatsAudio,
    ) -> None:
        """Hands the turn back: nothing has to be spoken again when the store is there."""
        if time.time() - delivery.taken_at.timestamp() < STORE_GIVE_UP_SECONDS:
            log.warning("tts.store_later", extra={"turn": job.turn_id, "reason": str(error)})
            await delivery.nak(STORE_AGAIN_SECONDS)
            return
        found, revision = await records.load()
        failed = AudioFailed(
            job.conversation_id, job.turn_id, found.attempt, error=error.as_error()
        )
        with contextlib.suppress(Conflict):
            await records.save(record.ended(found, job.execution, failed), revision)
            await audio.end(failed)
        await self.dead_letters.add(delivery, error)
        await delivery.ack()

    def _params(self, speech: Speech) -> VoiceParams:
        config = self.config
        return VoiceParams(
            model=speech.model or config.model,
            voice=speech.voice or config.voice,
            language=speech.language or config.language,
            speed=speech.speed or config.speed,
            word_timestamps=(speech.alignment or config.alignment) is Alignment.WORD,
            pronunciations=tuple(
                {**config.pronunciations, **(speech.pronunciations or {})}.items()
            ),
            max_partial_length=speech.max_partial_length or config.max_partial_length,
        )

    async def _whole_text(self, request: SpeechRequest) -> str | None:
        """Of a turn that was stopped while its text came: that ends soon, too."""
        if request.text is not None:
            return request.text
        with contextlib.suppress(TimeoutError, ParleyError, NatsError):
            async with (
                asyncio.timeout(END_OF_TEXT_SECONDS),
                contextlib.aclosing(self._text(request, str(request.turn_id))) as events,
            ):
                async for event in events:
                    if isinstance(event, Done):
                        return event.text
        return None

    async def _text(self, request: SpeechRequest, turn_id: str) -> AsyncGenerator[Delta, None]:
        conversation_id = str(request.conversation_id)
        if request.text is None:
            async for event in follow(
                self.connection,
                conversation_id,
                turn_id,
                start=request.start_sequence,
                idle=self.config.text_timeout,
            ):
                yield event
            return
        for seq, at in enumerate(range(0, len(request.text), SLICE)):
            yield Text(conversation_id, turn_id, 1, seq, text=request.text[at : at + SLICE])
        yield Done(
            conversation_id,
            turn_id,
            1,
            -1,
            finish_reason=FinishReason.STOP,
            text=request.text,
            usage=Usage(0, 0),
            first_token_ms=None,
            duration_ms=0,
            metadata={},
        )

    def _count(self, end: Stored | AudioFailed | None, seconds: float) -> None:
        if end is None:
            return
        outcome = end.finish.value if isinstance(end, Stored) else end.error.code.value
        TURNS.labels("tts", outcome).inc()
        TURN_SECONDS.labels("tts").observe(seconds)
        if isinstance(end, Stored):
            CHARACTERS.inc(end.characters)
        log.info(
            "tts.turn_ended",
            extra={
                "conversation": end.conversation_id,
                "turn": end.turn_id,
                "attempt": end.attempt,
                "outcome": outcome,
                "seconds": round(seconds, 3),
            },
        )

    # ------------------------------------------------------------ what cannot be spoken

    async def _refuse(self, delivery: Delivery, refused: Refused) -> None:
        """A failed event where the conversation is known, a dead letter always."""
        REFUSED.labels(TTS_REQUEST, refused.error.code.value).inc()
        if refused.conversation_id is not None:
            records = NatsRecords(self.connection, refused.conversation_id, refused.turn_id)
            # A bad copy of a good request must not end that one's voice.
            if not (await records.load())[1]:
                await self._publish_failed(delivery, refused.conversation_id, refused)
        await self.dead_letters.add(delivery, refused.error)

    async def _publish_failed(
        self, delivery: Delivery, conversation_id: str, refused: Refused
    ) -> None:
        event = AudioFailed(conversation_id, refused.turn_id, 1, error=refused.error.as_error())
        headers = {
            MSG_ID: f"refused.{delivery.unique}",
            H_TYPE: Kind.FAILED.value,
            H_ATTEMPT: "1",
            H_CONVERSATION: conversation_id,
            H_TURN: refused.turn_id,
            **carried(delivery.headers),
        }
        await publish(self.connection, tts_audio(conversation_id), encode(event), headers)

    # ------------------------------------------------------------ cancel

    def cancel(self, request: CancelRequest) -> None:
        """Stops the voice if it is spoken here."""
        turn_id = request.turn_id or self.newest.get(request.conversation_id)
        stop = self.stops.get((request.conversation_id, turn_id or ""))
        if stop is not None:
            stop.cancel(request.heard_ms)

    def stop_all(self, conversation_id: str) -> None:
        for (conversation, _), stop in self.stops.items():
            if conversation == conversation_id:
                stop.cancel()

    async def _note_cancel(self, request: CancelRequest) -> None:
        if request.turn_id is None:
            return
        records = NatsRecords(self.connection, request.conversation_id, request.turn_id)
        for _ in range(3):
            found, revision = await records.load()
            if not revision or found.end is not None or found.cancelled:
                return
            with contextlib.suppress(Conflict):
                changed = msgspec.structs.replace(found, cancelled=True)
                await records.save(changed, revision)
                return


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
