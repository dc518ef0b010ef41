"""Connections to the provider: opened, read, written, closed. Others know what a frame means."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from websockets import broadcast
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.protocol import State

from services.tts.together import protocol
from services.tts.together.faults import refused_handshake
from services.tts.together.protocol import OptionalParameters
from services.tts.together.turn import SocketLost
from shared.errors import ProviderBroken, ProviderError, ProviderRefused, ProviderStalled
from shared.redact import hiding

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.tts.ports import VoiceParams
    from services.tts.together.socket import Socket

# The library writes the headers of its handshake, our key among them, into its debug log.
_library_log = logging.getLogger("websockets.speech")
_library_log.setLevel(logging.INFO)

MAX_SAID: Final = 16 * 1024  # characters of an event that says something
MAX_FRAME: Final = 32 * 1024 * 1024  # bytes; the provider sends frames of several MB
PARAMETERS_REFUSED: Final = {400, 422}  # perhaps one that we could do without
CLOSE_TIMEOUT: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the provider's speech model is, and how a socket to it is opened."""

    url: str
    api_key: str = field(repr=False)
    optional: OptionalParameters = field(default_factory=OptionalParameters)
    connect_timeout: float = 5.0  # seconds, from the first packet to the session

    async def open(self, socket: Socket) -> Pump:
        """Opens a socket: the one with this session.

        Raises:
            ProviderError: there is none.
        """
        try:
            async with asyncio.timeout(self.connect_timeout):
                pump = Pump(await self._connect(socket), self._hide)
                try:
                    await pump.greet(socket)
                except BaseException:
                    pump.abort()
                    raise
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed) as exc:
            raise self._translated(exc) from exc
        return pump

    async def _connect(self, socket: Socket) -> Connection:
        """Refused for a parameter that we could do without, it is tried once without those."""
        profile = socket.profile
        if profile.plain:
            return await self._handshake(socket.params, None)
        try:
            return await self._handshake(socket.params, self.optional)
        except InvalidStatus as exc:
            if exc.response.status_code not in PARAMETERS_REFUSED:
                raise
        connection = await self._handshake(socket.params, None)
        profile.plain = True
        return connection

    async def _handshake(
        self, params: VoiceParams, optional: OptionalParameters | None
    ) -> Connection:
        connection = await connect(
            protocol.socket_url(self.url, params, optional),
            additional_headers={"Authorization": f"Bearer {self.api_key}"},
            compression=None,
            max_size=MAX_FRAME,
            open_timeout=None,  # ours lasts until the session is there
            ping_interval=None,  # a pong that is late is no reason to end a socket: see liveness
            close_timeout=CLOSE_TIMEOUT,
            logger=_library_log,
            create_connection=Connection,
        )
        assert isinstance(connection, Connection)
        return connection

    def _translated(self, exc: Exception) -> ProviderError:
        match exc:
            case InvalidStatus(response=response):
                error = refused_handshake(
                    response.status_code, response.headers, response.body, now=time.time()
                )
                return type(error)(self._hide(str(error)), wait=error.wait)
            case TimeoutError():
                return ProviderStalled(f"no session within {self.connect_timeout:g} s")
            case InvalidURI():
                return ProviderRefused("the address is none of a WebSocket")
            case _:
                return ProviderBroken(self._hide(f"{type(exc).__name__}: {exc}"))

    def _hide(self, text: str) -> str:
        return hiding(self.api_key)(text)


class Connection(ClientConnection):
    """Knows when it last heard a byte: in the middle of a frame of several MB, too."""

    heard = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        super().data_received(data)


class Pump:
    """Moves the frames of one socket, in the task that made it. Implements Wire."""

    def __init__(self, connection: Connection, hide: Callable[[str], str]) -> None:
        """`hide` takes secrets out of what the provider says."""
        self._connection, self._hide = connection, hide
        self._task = asyncio.current_task()
        self._pinging = False

    @property
    def is_open(self) -> bool:
        return self._connection.state is State.OPEN

    @property
    def heard(self) -> float:
        return self._connection.heard

    def send(self, frame: bytes) -> None:
        broadcast((self._connection,), frame, text=True)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()  # whoever reads in it says farewell at its end

    def abort(self) -> None:
        self._connection.transport.abort()

    async def greet(self, socket: Socket) -> None:
        """Reads until the socket is open; raises ProviderError, or ConnectionClosed."""
        loop = asyncio.get_running_loop()
        while not socket.greet(await self._frame(), self, loop.time()):
            pass

    async def _frame(self) -> str | bytes:
        frame = await self._connection.recv()
        # What is longer is audio, and no refusal.
        return self._hide(frame) if isinstance(frame, str) and len(frame) < MAX_SAID else frame

    async def read(self, socket: Socket) -> ProviderError:
        """Hands every frame to the socket; why it ended."""
        frame, receive = self._frame, socket.receive
        clock = asyncio.get_running_loop().time
        try:
            while True:
                receive(await frame(), clock())
        except ConnectionClosed:
            return socket.refusal or SocketLost(
                f"the socket was closed ({self._connection.close_code})"
            )
        except ProviderBroken as exc:
            return exc

    async def farewell(self) -> None:
        await self._connection.close()

    async def ping(self, socket: Socket) -> None:
        """Asks whether anybody is there, if that is not being asked already.

        The answer shows in what is heard; how long it took, in the socket's profile.
        """
        if self._pinging:
            return
        self._pinging = True
        with contextlib.suppress(ConnectionClosed):
            socket.profile.note_pong(await (await self._connection.ping()))
        self._pinging = False
