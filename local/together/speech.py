"""The provider's speech WebSocket: who may open one, and what comes of the handshake."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web

from local.together.catalogue import has_voice
from local.together.faults import Fault, FaultKind
from local.together.http import Refused, bearer, for_ever, refusal
from local.together.record import SocketCall
from local.together.session import Session
from local.together.socket import Socket
from local.together.speaker import Speaker
from local.together.synthesis import Synthesis
from local.together.wire import Wire

if TYPE_CHECKING:
    from local.together.provider import Provider

_LARGEST_MESSAGE = 16 * 1024 * 1024
_CLOSE_SECONDS = 1.0

Faults = dict[FaultKind, Fault]


class EmulatedSpeech:
    """Answers `GET /v1/audio/speech/websocket`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._synthesis = Synthesis()
        self._sockets: set[Socket] = set()

    async def close(self) -> None:
        """Closes what is open."""
        await asyncio.gather(*(socket.close(1001, "stopped") for socket in list(self._sockets)))

    def play_dead(self) -> None:
        for socket in self._sockets:
            socket.die()

    def break_all(self) -> None:
        for socket in list(self._sockets):
            socket.break_()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call = self._opened(request)
        faults = self._provider.faults.take("socket", request.query_string)
        call.faults = [str(kind) for kind in faults]
        try:
            return await self._accepted(request, call, faults)
        except (asyncio.CancelledError, ConnectionError):
            call.how = call.how or "client"
            raise
        finally:
            call.ended = time.monotonic()

    def _opened(self, request: web.Request) -> SocketCall:
        record = self._provider.record
        call = SocketCall(
            id=record.number(),
            at=time.monotonic(),
            has_key=bool(bearer(request)),
            key_in_url=any("key" in name.lower() for name in request.query),
            query={k: v for k, v in request.query.items() if "key" not in k.lower()},
        )
        record.sockets.append(call)
        record.totals.sockets += 1
        record.totals.keys_in_urls += call.key_in_url
        record.totals.requests_without_key += not (call.has_key or call.key_in_url)
        return call

    async def _accepted(
        self, request: web.Request, call: SocketCall, faults: Faults
    ) -> web.StreamResponse:
        if fault := faults.get(FaultKind.SOCKET_REFUSE):
            call.how, call.status = "refused", fault.status
            return refusal(fault)
        if FaultKind.SOCKET_HANG in faults:
            await for_ever()
        session, wrong = self._session(request, call)
        if wrong is not None and not self._provider.speech.refuse_late:
            call.how, call.status = "refused", wrong.status
            return wrong.response()
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
        wire = Wire(self._provider, request, ws, call)
        speaker = Speaker(self._provider, self._synthesis, wire)
        socket = Socket(self._provider, wire, speaker, ws, session, self._check_names)
        await self._live(socket, wrong, silent=FaultKind.SOCKET_NO_SESSION in faults)
        return ws

    async def _live(self, socket: Socket, wrong: Refused | None, *, silent: bool) -> None:
        totals = self._provider.record.totals
        self._sockets.add(socket)
        totals.open_sockets += 1
        totals.peak_sockets = max(totals.peak_sockets, totals.open_sockets)
        try:
            await socket.live(wrong, silent=silent)
        finally:
            # The record may have been cleared meanwhile: these are other totals then.
            self._provider.record.totals.open_sockets -= 1
            self._sockets.discard(socket)

    def _session(self, request: web.Request, call: SocketCall) -> tuple[Session, Refused | None]:
        """What the query asks for, and why it is refused, if it is."""
        session = Session()
        try:
            session = session.changed(call.query)
            self._check(request, session)
        except Refused as exc:
            return session, exc
        return session, None

    def _check(self, request: web.Request, session: Session) -> None:
        settings = self._provider.speech
        key = bearer(request) or request.query.get("api_key", "")
        if not key:
            raise Refused(401, "missing_api_key", "No API key was sent.")
        if settings.keys and key not in settings.keys:
            raise Refused(401, "invalid_api_key", "The API key is not valid.")
        if settings.max_sockets and len(self._sockets) >= settings.max_sockets:
            raise Refused(429, "dynamic_request_limited", "Too many sockets.")
        unknown = [name for name in settings.unknown_parameters if name in request.query]
        if unknown:
            said = f"Unknown parameter: {unknown[0]}."
            raise Refused(settings.refused_with, "invalid_request", said, unknown[0])
        self._check_names(session)

    def _check_names(self, session: Session) -> None:
        """Raises: Refused."""
        settings, voice = self._provider.speech, session.voice
        if settings.models and session.model not in settings.models:
            said = f"The model {session.model} is not available."
            raise Refused(400, "model_not_available", said, "model")
        # Who names no voice gets the default one, whatever the model.
        if settings.any_voice or voice == Session().voice or has_voice(session.model, voice):
            return
        said = f"The model {session.model} has no voice {voice}."
        raise Refused(400, "voice_not_available", said, "voice")
