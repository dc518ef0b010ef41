"""One speech socket, from its 101 to its end: what the client says, and how long it may live."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType

from local.together.context import SpeechContext
from local.together.faults import FaultKind
from local.together.http import Refused, for_ever
from local.together.record import Context
from local.together.session import Session, as_object, cut, sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import web

    from local.together.provider import Provider
    from local.together.script import Speech
    from local.together.speaker import Speaker
    from local.together.wire import Wire

_DEAD_SECONDS = 600.0  # a socket that plays dead is let go after this
_DEFAULT_CONTEXT = "default"


class Socket:
    """`check` refuses a session that the provider would."""

    def __init__(
        self,
        provider: Provider,
        wire: Wire,
        speaker: Speaker,
        ws: web.WebSocketResponse,
        session: Session,
        check: Callable[[Session], None],
    ) -> None:
        self._provider = provider
        self._wire = wire
        self._speaker = speaker
        self._ws = ws
        self._session = session
        self._check = check
        self._contexts: dict[str, SpeechContext] = {}
        self._pongs: set[asyncio.Task[None]] = set()
        self._clock = asyncio.get_running_loop().time
        self._handlers = {
            "input_text_buffer.append": self._on_append,
            "input_text_buffer.commit": self._on_commit,
            "input_text_buffer.clear": self._on_clear,
            "tts_session.updated": self._on_updated,
            "context.cancel": self._on_cancel,
        }

    @property
    def _settings(self) -> Speech:
        return self._provider.speech

    # ------------------------------------------------------------ life

    async def live(self, wrong: Refused | None, *, silent: bool) -> None:
        """`wrong`: what the session is told to have failed of; `silent`: it is told nothing."""
        try:
            if not silent:
                await self._greet()
            if wrong is not None:
                await self._failed(wrong, None)
                await self._wire.close(1008, "failed")
                return
            await self._listen()
        except ConnectionError:
            pass  # the client went without a word
        finally:
            self._wire.ended("client")
            await self._let_go()

    def die(self) -> None:
        self._wire.die()

    def break_(self) -> None:
        self._wire.ended("aborted")
        self._wire.reset()

    async def close(self, code: int, how: str) -> None:
        await self._wire.close(code, how)

    async def _greet(self) -> None:
        session = {
            "id": f"sess_{uuid.uuid4().hex}",
            "object": "realtime.tts.session",
            "modalities": ["text", "audio"],
            "model": self._settings.session_model or self._session.model,
            "voice": self._session.voice,
        }
        event_id = f"event_{uuid.uuid4().hex}"
        await self._wire.send({"type": "session.created", "event_id": event_id, "session": session})

    async def _listen(self) -> None:
        born = self._clock()
        while not self._ws.closed:
            try:
                message = await self._ws.receive(self._patience(born))
            except TimeoutError:
                if await self._expired(born):
                    return
                continue
            if self._wire.dead:
                await self._play_dead()
                return
            if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED}:
                self._wire.call.close_code = self._wire.call.close_code or self._ws.close_code
                return
            if message.type is WSMsgType.ERROR:
                return
            await self._on_frame(message.type, message.data)

    async def _on_frame(self, kind: WSMsgType, data: Any) -> None:
        if kind is WSMsgType.PING:
            self._wire.call.pings += 1
            self._provider.record.totals.pings += 1
            if self._settings.pings_count:
                self._wire.moved()
            self._answer(data)
        elif kind is WSMsgType.TEXT:
            self._wire.moved()
            await self._on_text(data)
        elif kind is WSMsgType.BINARY:
            await self._wire.complain("Binary messages are not understood.")

    def _answer(self, ping: bytes) -> None:
        if self._settings.pongs and not self._wire.dead:
            task = asyncio.create_task(self._wire.pong(ping, self._settings.pong_seconds))
            self._pongs.add(task)
            task.add_done_callback(self._pongs.discard)

    def _patience(self, born: float) -> float | None:
        """Seconds until it may have to be closed."""
        settings, now = self._settings, self._clock()
        ends = []
        if settings.idle_seconds:
            ends.append(self._wire.moved_at + settings.idle_seconds - now)
        if settings.lifetime_seconds:
            ends.append(born + settings.lifetime_seconds - now)
        # 0 would mean no timeout.
        return max(min(ends), 0.001) if ends else None

    async def _expired(self, born: float) -> bool:
        settings, now = self._settings, self._clock()
        if settings.lifetime_seconds and now >= born + settings.lifetime_seconds:
            await self._wire.close(1001, "lifetime")
            return True
        if any(context.job for context in self._contexts.values()):
            self._wire.moved()
        if settings.idle_seconds and now >= self._wire.moved_at + settings.idle_seconds:
            await self._wire.close(settings.idle_close_code, "idle")
            return True
        return False

    async def _play_dead(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DEAD_SECONDS):
                await for_ever()
        self._wire.reset()

    async def _let_go(self) -> None:
        contexts = list(self._contexts.values())
        self._contexts.clear()
        for context in contexts:
            context.end("lost")
        tasks = [context.task for context in contexts if context.task is not None]
        for pong in self._pongs:
            pong.cancel()
        await asyncio.gather(*tasks, *self._pongs, return_exceptions=True)

    # ------------------------------------------------------------ what the client says

    async def _on_text(self, data: str) -> None:
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            await self._wire.complain("A message must be a JSON object.")
            return
        handler = self._handlers.get(str(message.get("type")))
        if handler is None:
            await self._wire.complain(f"Unknown type {message.get('type')!r}.")
            return
        await handler(message)

    async def _context(self, message: Mapping[str, Any]) -> SpeechContext | None:
        """The context that a message is for, made if need be; none where it is refused."""
        name = _name(message)
        if context := self._contexts.get(name):
            return context
        record = Context(socket=self._wire.call.id, context=name, at=time.monotonic())
        context = SpeechContext(name, message.get("context_id") is not None, self._session, record)
        kind = FaultKind.SPEECH_REFUSE_CONTEXT
        fault = self._provider.faults.take(kind, str(message.get("text", ""))).get(kind)
        limit = self._settings.max_contexts
        if fault is None and len(self._contexts) < limit:
            self._opened(context)
            return context
        self._provider.record.totals.refused_contexts += 1
        said = f"Too many contexts: a connection holds at most {limit}."
        code = "context_limit_exceeded"
        if fault is not None:
            said, code = fault.message or said, fault.code or code
        await self._wire.complain(said, code, context)
        return None

    def _opened(self, context: SpeechContext) -> None:
        self._contexts[context.name] = context
        call, record, held = self._wire.call, self._provider.record, len(self._contexts)
        record.contexts.append(context.record)
        record.totals.contexts += 1
        call.contexts += 1
        call.peak_contexts = max(call.peak_contexts, held)
        record.totals.peak_contexts = max(record.totals.peak_contexts, held)

    async def _on_append(self, message: Mapping[str, Any]) -> None:
        text = message.get("text")
        if not isinstance(text, str):
            await self._wire.complain("text: must be a string")
            return
        context = await self._context(message)
        if context is None:
            return
        context.buffer += text
        context.record.characters_submitted += len(text)
        self._wire.call.characters_submitted += len(text)
        self._provider.record.totals.characters_submitted += len(text)
        if self._settings.received == "append":
            await self._received(context, text)
        spoken, context.buffer = cut(context.session, context.buffer)
        for part, because in spoken:
            await self._queue(context, part, because)

    async def _queue(self, context: SpeechContext, text: str, because: str) -> None:
        if self._settings.received == "sentence":
            for sentence in sentences(text):
                await self._received(context, sentence)
        self._speaker.queue(context, text, because)

    async def _received(self, context: SpeechContext, text: str) -> None:
        event = {"type": "conversation.item.input_text.received", "text": text}
        await self._wire.send(event, context)

    async def _on_commit(self, message: Mapping[str, Any]) -> None:
        context = await self._context(message)
        if context is None:
            return
        text, context.buffer = context.buffer, ""
        if text.strip():
            await self._queue(context, text, "commit")
        elif self._settings.empty_commit == "done":
            await self._speaker.nothing(context)
        elif self._settings.empty_commit == "error":
            await self._wire.complain("The buffer is empty.", "empty_buffer", context)

    async def _on_clear(self, message: Mapping[str, Any]) -> None:
        context = await self._context(message)
        if context is None:
            return
        context.buffer = ""
        if self._settings.clear_drops_queued:
            for job in context.queue:
                job.settle("cancelled")
            context.queue.clear()

    async def _on_updated(self, message: Mapping[str, Any]) -> None:
        context = None
        if "context_id" in message:
            context = await self._context(message)
            if context is None:
                return
        try:
            self._update(context, as_object("session", message.get("session")))
        except Refused as exc:
            await self._failed(exc, context)
            return
        if self._settings.session_updated:
            event = {"type": "session.updated", "session": message["session"]}
            await self._wire.send(event, context)

    def _update(self, context: SpeechContext | None, data: Mapping[str, Any]) -> None:
        """Of one context, or of all and those to come."""
        changed = (context.session if context else self._session).changed(data)
        self._check(changed)
        if context is None:
            self._session = changed
        for one in [context] if context else self._contexts.values():
            one.session = one.session.changed(data)

    async def _failed(self, wrong: Refused, context: SpeechContext | None) -> None:
        event = {"type": "conversation.item.tts.failed", "error": wrong.error}
        await self._wire.send(event, context)

    async def _on_cancel(self, message: Mapping[str, Any]) -> None:
        name, record = _name(message), self._provider.record
        context = self._contexts.pop(name, None)
        record.totals.cancels += 1
        record.cancels.append(
            {
                "socket": self._wire.call.id,
                "context": name,
                "at": time.monotonic(),
                "known": context is not None,
            }
        )
        job = context.job if context else None
        if context is not None:
            context.end("cancelled")
        await self._wire.send({"type": "context.cancelled", "context_id": name})
        if context is not None:
            await self._speaker.late(context, job)


def _name(message: Mapping[str, Any]) -> str:
    sent = message.get("context_id")
    return str(sent) if sent is not None else _DEFAULT_CONTEXT
