"""The provider's speech WebSocket: contexts, items, deltas, and all that may go wrong with them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from local import voices
from local.emulated_chat import bearer, error_body, for_ever, refusal, reset
from local.emulated_session import (
    Refused,
    Session,
    as_object,
    cut,
    delta_bytes,
    sentences,
    wav_header,
)
from local.record import Commit, Context, SocketCall
from local.scripts import Fault, FaultKind, Speech

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.record import Record
    from local.scripts import Faults

_CACHE_BYTES = 64 * 1024 * 1024
_LARGEST_MESSAGE = 16 * 1024 * 1024
_CLOSE_SECONDS = 1.0
_DEAD_SECONDS = 600.0  # a socket that plays dead is let go after this
_YIELD_EVERY = 8  # deltas, where none is waited for, so that other contexts get their turn
_DEFAULT_CONTEXT = "default"


@dataclass(slots=True)
class _Item:
    """Audio under one item id."""

    text: str
    seconds: float
    header: int  # bytes in front of the samples
    frames: deque[bytes]  # what is not sent yet, as deltas
    id: str = ""
    sent: int = 0  # bytes

    @property
    def samples(self) -> int:
        return max(self.sent - self.header, 0) // 2


@dataclass(slots=True)
class _Job:
    """A text on its way to being audio."""

    text: str
    session: Session
    commit: Commit
    faults: dict[FaultKind, Fault]
    ready_at: float  # no sound of it before this, on the loop's clock
    items: list[_Item] = field(default_factory=list)
    item: _Item | None = None  # the one under way


@dataclass(slots=True)
class _Voice:
    """One context: what is buffered, what is queued, who speaks."""

    name: str
    named: bool  # the client sent its id
    session: Session
    record: Context
    buffer: str = ""
    queue: deque[_Job] = field(default_factory=deque)
    job: _Job | None = None
    task: asyncio.Task[None] | None = None
    free_at: float = 0.0  # when the audio before is out, on the loop's clock
    seconds: float = 0.0  # of audio so far
    item: str = ""  # where a context is one item
    done_given: bool = False


class _Synthesis:
    """Audio by text, voice and speed; each is made once as long as it is remembered."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._bytes = 0

    async def pcm(self, text: str, session: Session, settings: Speech) -> bytes:
        sound, samples = settings.sound, settings.char_samples
        key = (sound, samples, text, session.voice, session.speed, session.language, session.rate)
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        if sound == "audible":
            pcm = await asyncio.to_thread(
                voices.audible, text, session.voice, session.speed, session.language
            )
        else:
            pcm = voices.computable(text, session.voice, session.speed, char_samples=samples)
        pcm = voices.resampled(pcm, session.rate)
        if key not in self._made:
            self._made[key] = pcm
            self._bytes += len(pcm)
        while self._bytes > _CACHE_BYTES:
            self._bytes -= len(self._made.popitem(last=False)[1])
        return pcm


class EmulatedSpeech:
    """Answers `GET /v1/audio/speech/websocket`."""

    def __init__(self, faults: Faults, record: Record) -> None:
        self.settings = Speech()
        self.faults = faults
        self.record = record
        self.synthesis = _Synthesis()
        self._sockets: set[_Socket] = set()

    def load(self, settings: Speech) -> None:
        self.settings = settings

    async def close(self) -> None:
        """Closes what is open."""
        await asyncio.gather(*(socket.close(1001, "stopped") for socket in list(self._sockets)))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call = self._opened(request)
        faults = self.faults.take("socket", request.query_string)
        call.faults = [str(kind) for kind in faults]
        try:
            return await self._accepted(request, call, faults)
        except (asyncio.CancelledError, ConnectionError):
            call.how = call.how or "client"
            raise
        finally:
            call.ended = time.monotonic()

    def _opened(self, request: web.Request) -> SocketCall:
        totals = self.record.totals
        call = SocketCall(
            id=self.record.number(),
            at=time.monotonic(),
            has_key=bool(bearer(request)),
            key_in_url=any("key" in name.lower() for name in request.query),
            query={k: v for k, v in request.query.items() if "key" not in k.lower()},
        )
        self.record.sockets.append(call)
        totals.sockets += 1
        totals.keys_in_urls += call.key_in_url
        totals.requests_without_key += not (call.has_key or call.key_in_url)
        return call

    async def _accepted(
        self, request: web.Request, call: SocketCall, faults: dict[FaultKind, Fault]
    ) -> web.StreamResponse:
        if fault := faults.get(FaultKind.SOCKET_REFUSE):
            call.how, call.status = "refused", fault.status
            return refusal(fault)
        if FaultKind.SOCKET_HANG in faults:
            await for_ever()
        wrong: Refused | None = None
        session = Session()
        try:
            session = session.changed(call.query)
            self._check(request, session)
        except Refused as exc:
            if not self.settings.refuse_late:
                call.how, call.status = "refused", exc.status
                return web.json_response({"error": exc.error}, status=exc.status)
            wrong = exc
        if fault := faults.get(FaultKind.SOCKET_FAILED):
            code, said = fault.code or "invalid_api_key", fault.message or "Not today."
            wrong = Refused(fault.status, code, said)
        ws = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS,
            autoping=False,
            compress=False,
            max_msg_size=_LARGEST_MESSAGE,
        )
        await ws.prepare(request)
        call.status = 101
        socket = _Socket(self, request, ws, call, session)
        self._sockets.add(socket)
        totals = self.record.totals
        totals.open_sockets += 1
        totals.peak_sockets = max(totals.peak_sockets, totals.open_sockets)
        try:
            await socket.live(wrong, silent=FaultKind.SOCKET_NO_SESSION in faults)
        finally:
            totals.open_sockets -= 1
            self._sockets.discard(socket)
        return ws

    def _check(self, request: web.Request, session: Session) -> None:
        settings = self.settings
        key = bearer(request) or request.query.get("api_key", "")
        if not key:
            raise Refused(401, "missing_api_key", "No API key was sent.")
        if settings.keys and key not in settings.keys:
            raise Refused(401, "invalid_api_key", "The API key is not valid.")
        if settings.max_sockets and len(self._sockets) >= settings.max_sockets:
            raise Refused(429, "dynamic_request_limited", "Too many sockets.")
        self.check_model(session)

    def check_model(self, session: Session) -> None:
        """Raises: Refused."""
        if self.settings.models and session.model not in self.settings.models:
            said = f"The model {session.model} is not available."
            raise Refused(400, "model_not_available", said, "model")


class _Socket:
    """One connection, from its 101 to its end."""

    def __init__(
        self,
        owner: EmulatedSpeech,
        request: web.Request,
        ws: web.WebSocketResponse,
        call: SocketCall,
        session: Session,
    ) -> None:
        self._owner = owner
        self._request = request
        self._ws = ws
        self._call = call
        self._session = session
        self._contexts: dict[str, _Voice] = {}
        self._items = 0
        self._deltas = 0
        self._dead = False
        self._one_at_a_time = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock()  # when something last moved
        self._handlers = {
            "input_text_buffer.append": self._on_append,
            "input_text_buffer.commit": self._on_commit,
            "input_text_buffer.clear": self._on_clear,
            "tts_session.updated": self._on_updated,
            "context.cancel": self._on_cancel,
        }

    @property
    def _settings(self) -> Speech:
        return self._owner.settings

    # ------------------------------------------------------------ life

    async def live(self, wrong: Refused | None, *, silent: bool) -> None:
        try:
            if not silent:
                await self._greet()
            if wrong is not None:
                await self._send({"type": "conversation.item.tts.failed", "error": wrong.error})
                await self.close(1008, "failed")
                return
            await self._listen()
        except ConnectionError:
            self._ended("client")
        finally:
            self._ended("client")
            await self._let_go()

    async def _greet(self) -> None:
        session = {
            "id": f"sess_{uuid.uuid4().hex}",
            "object": "realtime.tts.session",
            "modalities": ["text", "audio"],
            "model": self._session.model,
            "voice": self._session.voice,
        }
        event_id = f"event_{uuid.uuid4().hex}"
        await self._send({"type": "session.created", "event_id": event_id, "session": session})

    async def _listen(self) -> None:
        born = self._clock()
        while not self._ws.closed:
            try:
                message = await self._ws.receive(self._patience(born))
            except TimeoutError:
                if await self._expired(born):
                    return
                continue
            if self._dead:
                await self._play_dead()
                return
            if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED}:
                self._call.close_code = self._call.close_code or self._ws.close_code
                return
            if message.type is WSMsgType.ERROR:
                return
            await self._on_frame(message.type, message.data)

    async def _on_frame(self, kind: WSMsgType, data: Any) -> None:
        if kind is WSMsgType.PING:
            self._call.pings += 1
            self._owner.record.totals.pings += 1
            if self._settings.pings_count:
                self._last = self._clock()
            await self._ws.pong(data)
        elif kind is WSMsgType.TEXT:
            self._last = self._clock()
            await self._on_text(data)
        elif kind is WSMsgType.BINARY:
            await self._complain(None, "Binary messages are not understood.")

    def _patience(self, born: float) -> float | None:
        settings, now = self._settings, self._clock()
        ends = []
        if settings.idle_seconds:
            ends.append(self._last + settings.idle_seconds - now)
        if settings.lifetime_seconds:
            ends.append(born + settings.lifetime_seconds - now)
        # 0 would mean no timeout.
        return max(min(ends), 0.001) if ends else None

    async def _expired(self, born: float) -> bool:
        settings, now = self._settings, self._clock()
        if settings.lifetime_seconds and now >= born + settings.lifetime_seconds:
            await self.close(1001, "lifetime")
            return True
        if any(voice.job for voice in self._contexts.values()):
            self._last = now
        if settings.idle_seconds and now >= self._last + settings.idle_seconds:
            await self.close(settings.idle_close_code, "idle")
            return True
        return False

    async def close(self, code: int, how: str) -> None:
        """Says goodbye properly, if the other end still listens."""
        self._ended(how)
        if self._dead:
            reset(self._request)
            return
        self._call.close_code = code
        await self._ws.close(code=code, message=how.encode())

    def _ended(self, how: str) -> None:
        self._call.how = self._call.how or how

    def _die(self) -> None:
        """From now on it reads nothing, sends nothing, answers no ping, and stays open."""
        self._dead = True
        self._ended("dead")
        if self._request.transport is not None:
            self._request.transport.pause_reading()

    async def _play_dead(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DEAD_SECONDS):
                await for_ever()
        reset(self._request)

    async def _let_go(self) -> None:
        tasks = [voice.task for voice in self._contexts.values() if voice.task is not None]
        for voice in list(self._contexts.values()):
            self._end(voice, "lost")
        self._contexts.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ sending

    async def _send(self, event: dict[str, Any], voice: _Voice | None = None) -> None:
        if voice is not None and voice.named and self._settings.echo_context:
            event["context_id"] = voice.name
        if self._dead:
            await for_ever()
        await self._ws.send_str(json.dumps(event))

    async def _complain(
        self, voice: _Voice | None, message: str, code: str = "invalid_request_error"
    ) -> None:
        self._owner.record.totals.unknown_messages += code == "invalid_request_error"
        await self._send({"type": "error", "error": {"message": message, "code": code}}, voice)

    # ------------------------------------------------------------ what the client says

    async def _on_text(self, data: str) -> None:
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            await self._complain(None, "A message must be a JSON object.")
            return
        handler = self._handlers.get(str(message.get("type")))
        if handler is None:
            await self._complain(None, f"Unknown type {message.get('type')!r}.")
            return
        await handler(message)

    async def _context(self, message: dict[str, Any]) -> _Voice | None:
        """The context that a message is for, made if need be; none where it is refused."""
        sent = message.get("context_id")
        name = str(sent) if sent is not None else _DEFAULT_CONTEXT
        if voice := self._contexts.get(name):
            return voice
        record, settings = self._owner.record, self._settings
        refused = self._owner.faults.take(
            FaultKind.SPEECH_REFUSE_CONTEXT, str(message.get("text", ""))
        )
        context = Context(socket=self._call.id, context=name, at=time.monotonic())
        voice = _Voice(name, sent is not None, self._session, context)
        if refused or len(self._contexts) >= settings.max_contexts:
            record.totals.refused_contexts += 1
            fault = refused.get(FaultKind.SPEECH_REFUSE_CONTEXT)
            said = (fault.message if fault else "") or (
                f"Too many contexts: a connection holds at most {settings.max_contexts}."
            )
            code = (fault.code if fault else "") or "context_limit_exceeded"
            await self._complain(voice, said, code)
            return None
        self._contexts[name] = voice
        record.contexts.append(context)
        record.totals.contexts += 1
        self._call.contexts += 1
        self._call.peak_contexts = max(self._call.peak_contexts, len(self._contexts))
        record.totals.peak_contexts = max(record.totals.peak_contexts, len(self._contexts))
        return voice

    async def _on_append(self, message: dict[str, Any]) -> None:
        text = message.get("text")
        if not isinstance(text, str):
            await self._complain(None, "text: must be a string")
            return
        voice = await self._context(message)
        if voice is None:
            return
        voice.buffer += text
        voice.record.characters_submitted += len(text)
        self._call.characters_submitted += len(text)
        self._owner.record.totals.characters_submitted += len(text)
        if self._settings.received == "append":
            await self._received(voice, text)
        spoken, voice.buffer = cut(voice.session, voice.buffer)
        for part, because in spoken:
            await self._queue(voice, part, because)

    async def _received(self, voice: _Voice, text: str) -> None:
        await self._send({"type": "conversation.item.input_text.received", "text": text}, voice)

    async def _on_commit(self, message: dict[str, Any]) -> None:
        voice = await self._context(message)
        if voice is None:
            return
        text, voice.buffer = voice.buffer, ""
        if text.strip():
            await self._queue(voice, text, "commit")
        elif self._settings.empty_commit == "done":
            await self._done(voice, self._new_item())
        elif self._settings.empty_commit == "error":
            await self._complain(voice, "The buffer is empty.", "empty_buffer")

    async def _on_clear(self, message: dict[str, Any]) -> None:
        voice = await self._context(message)
        if voice is None:
            return
        voice.buffer = ""
        if self._settings.clear_drops_queued:
            for job in voice.queue:
                _settle(job.commit, "cancelled")
            voice.queue.clear()

    async def _on_updated(self, message: dict[str, Any]) -> None:
        voice = None
        if "context_id" in message:
            voice = await self._context(message)
            if voice is None:
                return
        try:
            self._update(voice, as_object("session", message.get("session")))
        except Refused as exc:
            await self._send({"type": "conversation.item.tts.failed", "error": exc.error}, voice)
            return
        if self._settings.session_updated:
            await self._send({"type": "session.updated", "session": message["session"]}, voice)

    def _update(self, voice: _Voice | None, data: Mapping[str, Any]) -> None:
        changed = (voice.session if voice else self._session).changed(data)
        self._owner.check_model(changed)
        if voice is None:
            self._session = changed
        for one in [voice] if voice else self._contexts.values():
            one.session = one.session.changed(data)

    async def _on_cancel(self, message: dict[str, Any]) -> None:
        sent = message.get("context_id")
        name = str(sent) if sent is not None else _DEFAULT_CONTEXT
        record = self._owner.record
        voice = self._contexts.pop(name, None)
        record.totals.cancels += 1
        record.cancels.append(
            {
                "socket": self._call.id,
                "context": name,
                "at": time.monotonic(),
                "known": voice is not None,
            }
        )
        job = voice.job if voice else None
        if voice is not None:
            self._end(voice, "cancelled")
        await self._send({"type": "context.cancelled", "context_id": name})
        if voice is not None:
            await self._late(voice, job)

    async def _late(self, voice: _Voice, job: _Job | None) -> None:
        """Audio that a cancelled context has no right to send any more."""
        fault = job.faults.get(FaultKind.SPEECH_LATE_AUDIO) if job else None
        count = max(self._settings.late_deltas, fault.count if fault else 0)
        if not count:
            return
        item = (job.item if job else None) or _Item("", 0.0, 0, deque(), self._new_item())
        silence = bytes(
            delta_bytes(voice.session, self._settings.delta_ms, odd=self._settings.odd_splits)
        )
        for _ in range(count):
            await self._delta(voice, item, item.frames.popleft() if item.frames else silence)
        await self._done(voice, item.id)

    # ------------------------------------------------------------ speaking

    async def _queue(self, voice: _Voice, text: str, because: str) -> None:
        record, session = self._owner.record, voice.session
        if self._settings.received == "sentence":
            for sentence in sentences(text):
                await self._received(voice, sentence)
        faults = self._owner.faults.take("speech", text)
        commit = Commit(
            id=record.number(),
            socket=self._call.id,
            context=voice.name,
            at=time.monotonic(),
            because=because,
            text=text,
            spoken=session.pronounced(text),
            model=session.model,
            voice=session.voice,
            language=session.language,
            speed=session.speed,
            faults=[str(kind) for kind in faults],
        )
        record.commits.append(commit)
        record.totals.commits += 1
        record.totals.characters_committed += len(text)
        voice.record.characters_committed += len(text)
        ready_at = self._clock() + self._settings.first_audio_ms / 1000
        voice.queue.append(_Job(text, session, commit, faults, ready_at))
        if voice.task is None or voice.task.done():
            voice.task = asyncio.create_task(self._speak(voice))

    async def _speak(self, voice: _Voice) -> None:
        """Speaks what is queued in a context, in order."""
        with contextlib.suppress(ConnectionError):
            while voice.queue:
                voice.job = voice.queue.popleft()
                try:
                    async with contextlib.AsyncExitStack() as stack:
                        if not self._settings.parallel:
                            await stack.enter_async_context(self._one_at_a_time)
                        await self._say(voice, voice.job)
                finally:
                    self._spoken(voice, voice.job)
                    voice.job = None

    def _spoken(self, voice: _Voice, job: _Job) -> None:
        """Counts what went out, whatever became of the rest."""
        job.commit.samples = sum(item.samples for item in job.items)
        voice.record.samples += job.commit.samples
        self._owner.record.totals.seconds_of_audio += job.commit.samples / job.session.rate

    async def _say(self, voice: _Voice, job: _Job) -> None:
        settings = self._settings
        if settings.late_settings:
            job.session = voice.session
            job.commit.voice, job.commit.speed = job.session.voice, job.session.speed
            job.commit.spoken = job.session.pronounced(job.text)
        job.items = [await self._item(job, text) for text in self._parts(job)]
        total, index = sum(len(item.frames) for item in job.items), 0
        # What is queued behind other audio begins when that is out; nobody catches up.
        voice.free_at = max(voice.free_at, job.ready_at, self._clock())
        if not total:
            await asyncio.sleep(max(voice.free_at - self._clock(), 0))
        for item in job.items:
            job.item, item.id = item, self._item_id(voice)
            while item.frames:
                if not await self._mishaps(voice, job, index, total):
                    return
                await self._paced(voice, job, item, index)
                await self._delta(voice, item, item.frames.popleft(), self._big(job, index))
                job.commit.first_audio = job.commit.first_audio or time.monotonic()
                index += 1
            last = item is job.items[-1]
            if last and not await self._mishaps(voice, job, total, total):
                return
            await self._item_ended(voice, job, item, last=last)
        _settle(job.commit, "complete")

    async def _item(self, job: _Job, text: str) -> _Item:
        """What is to be sent for a text, with a WAV header in front where there is one."""
        session, settings = job.session, self._settings
        if not text or FaultKind.SPEECH_NO_AUDIO in job.faults:
            return _Item(text, 0.0, 0, deque())
        pcm = await self._owner.synthesis.pcm(text, session, settings)
        header, asked = b"", session.response_format in {None, "wav"}
        if settings.wav_header == "always" or (settings.wav_header == "auto" and asked):
            header = wav_header(session.rate)
        sound, size = header + pcm, delta_bytes(session, settings.delta_ms, odd=settings.odd_splits)
        frames = deque(sound[at : at + size] for at in range(0, len(sound), size))
        return _Item(text, len(pcm) / (2 * session.rate), len(header), frames)

    def _parts(self, job: _Job) -> list[str]:
        """The texts of the items that a commit becomes."""
        text = job.commit.spoken
        if self._settings.done == "item":
            return sentences(text)
        if self._settings.done == "two_items":
            middle = text.find(" ", len(text) // 2) + 1 or len(text) // 2
            return [text[:middle], text[middle:]]
        return [text]

    def _new_item(self) -> str:
        self._items += 1
        return f"tts_{self._items}"

    def _item_id(self, voice: _Voice) -> str:
        if self._settings.done not in {"context", "context_once"}:
            return self._new_item()
        voice.item = voice.item or self._new_item()
        return voice.item

    async def _paced(self, voice: _Voice, job: _Job, item: _Item, index: int) -> None:
        """Waits until this delta is due; a delta that is late moves none that follow."""
        factor, slow = self._settings.realtime_factor, job.faults.get(FaultKind.SPEECH_SLOW)
        if slow:
            voice.free_at = max(voice.free_at, self._clock()) + slow.seconds
        wait = voice.free_at - self._clock()
        if wait > 0:
            await asyncio.sleep(wait)
        elif index % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
        if factor and not slow:
            voice.free_at += len(item.frames[0]) / (2 * job.session.rate) / factor

    async def _delta(self, voice: _Voice, item: _Item, raw: bytes, padding: int = 0) -> None:
        self._deltas += 1
        every = self._settings.unknown_every
        if every and self._deltas % every == 0:
            await self._unknown(voice)
        if self._dead:
            await for_ever()
        if self._settings.binary:
            await self._ws.send_bytes(raw)
        else:
            # Put together by hand: base64 needs no escapes, and this is the hot path.
            named = voice.named and self._settings.echo_context
            context = f'"context_id":{json.dumps(voice.name)},' if named else ""
            filled = f'"padding":"{"x" * padding}",' if padding else ""
            audio = base64.b64encode(raw).decode("ascii")
            await self._ws.send_str(
                f'{{"type":"conversation.item.audio_output.delta","item_id":"{item.id}",'
                f'{context}{filled}"delta":"{audio}"}}'
            )
        self._last = self._clock()
        item.sent += len(raw)

    def _big(self, job: _Job, index: int) -> int:
        fault = job.faults.get(FaultKind.SPEECH_BIG_FRAME)
        return fault.bytes if fault and fault.after == index else 0

    async def _unknown(self, voice: _Voice) -> None:
        event = {"type": "conversation.item.emulator.unknown", "detail": {"nested": [1, None]}}
        await self._send(event, voice)

    async def _mishaps(self, voice: _Voice, job: _Job, index: int, total: int) -> bool:
        """Lets go wrong what has to before delta `index`; false where the commit is over."""
        if FaultKind.SPEECH_UNKNOWN in job.faults:
            await self._unknown(voice)
        due = {kind: f for kind, f in job.faults.items() if min(f.after, total) == index}
        if FaultKind.SPEECH_GARBAGE in due:
            await self._ws.send_str('{"type":"conversation.item.audio_output.delta","delta":"AAA')
        if fault := due.get(FaultKind.SPEECH_ERROR):
            said = fault.message or "Something went wrong, and the voice goes on."
            event = {"message": said, "code": fault.code or "internal_error"}
            await self._send({"type": "error", "error": event}, voice)
        if fault := due.get(FaultKind.SPEECH_FAILED):
            await self._fail(voice, job, fault)
            return False
        if FaultKind.SPEECH_ABORT in due:
            self._ended("aborted")
            _settle(job.commit, "lost")
            reset(self._request)
            return False
        if fault := due.get(FaultKind.SPEECH_CLOSE):
            _settle(job.commit, "lost")
            await self.close(fault.close_code, "closed")
            return False
        if FaultKind.SPEECH_DEAD in due:
            self._die()
            await for_ever()
        if FaultKind.SPEECH_STALL in due:
            await for_ever()
        return True

    async def _fail(self, voice: _Voice, job: _Job, fault: Fault) -> None:
        _settle(job.commit, "failed")
        code, said = fault.code or "internal_error", fault.message or "The voice failed."
        error = error_body(fault.status, code, said)["error"]
        await self._send({"type": "conversation.item.tts.failed", "error": error}, voice)
        if fault.close:
            await self.close(fault.close_code, "failed")

    async def _item_ended(self, voice: _Voice, job: _Job, item: _Item, *, last: bool) -> None:
        mode = self._settings.done
        if job.session.alignment == "word":
            await self._timestamps(voice, item)
        voice.seconds += item.seconds
        if mode in {"context", "context_once"}:
            if not last or voice.queue or (mode == "context_once" and voice.done_given):
                return
            voice.item = voice.item if mode == "context_once" else ""
        elif mode == "none":
            return
        if FaultKind.SPEECH_NO_DONE in job.faults:
            return
        voice.done_given = True
        times = 1 + self._settings.extra_dones
        for _ in range(times * (2 if FaultKind.SPEECH_TWO_DONES in job.faults else 1)):
            job.commit.dones += 1
            await self._done(voice, item.id)

    async def _done(self, voice: _Voice, item: str) -> None:
        event = {"type": "conversation.item.audio_output.done", "item_id": item}
        await self._send(event, voice)

    async def _timestamps(self, voice: _Voice, item: _Item) -> None:
        """Words get the share of the item's time that their characters are of its text."""
        base = voice.seconds if self._settings.timestamps == "context" else 0.0
        found = list(re.finditer(r"\S+", item.text))
        share = item.seconds / max(len(item.text), 1)
        event = {
            "type": "conversation.item.word_timestamps",
            "item_id": item.id,
            "words": [word.group() for word in found],
            "start_seconds": [round(base + word.start() * share, 4) for word in found],
            "end_seconds": [round(base + word.end() * share, 4) for word in found],
        }
        await self._send(event, voice)

    def _end(self, voice: _Voice, how: str) -> None:
        """Nothing of this context is spoken any more."""
        voice.record.ended, voice.record.how = time.monotonic(), how
        for job in [voice.job, *voice.queue] if voice.job else voice.queue:
            _settle(job.commit, how)
        voice.queue.clear()
        if voice.task is not None:
            voice.task.cancel()


def _settle(commit: Commit, how: str) -> None:
    if not commit.how:
        commit.how, commit.ended = how, time.monotonic()
