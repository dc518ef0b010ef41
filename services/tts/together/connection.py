"""Connections to the provider: opened, read, written, closed. Others know what a frame means."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from services.tts.together import protocol
from services.tts.together.faults import refused_handshake
from services.tts.together.protocol import OptionalParameters
from services.tts.together.turn import SocketLost
from shared.errors import ProviderBroken, ProviderError, ProviderRefused, ProviderStalled
from shared.redact import hiding

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.protocol import Event
    from websockets.typing import BytesLike

    from services.tts.ports import VoiceParams
    from services.tts.together.socket import Socket

# The library writes the headers of its handshake, our key among them, into its debug log.
_library_log = logging.getLogger("websockets.speech")
_library_log.setLevel(logging.INFO)

MAX_SAID: Final = 16 * 1024  # characters of an event that says something
MAX_FRAME: Final = 32 * 1024 * 1024  # bytes; the provider sends frames of several MB
PARAMETERS_REFUSED: Final = {400, 422}  # perhaps one that we could do without
CLOSE_TIMEOUT: Final = 1.0
_PLAIN_TEXT: Final = 0x81  # how a frame begins that is a whole message of text
_TWO_BYTES: Final = 126  # instead of a length: it follows in two bytes
_DATA: Final = {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}


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
    """Gives each message out in the turn of the loop that reads it: no queue, no task in between.

    Knows when it last heard a byte: in the middle of a frame of several MB, too.
    """

    heard = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun: bytearray | None = None  # of a message that comes in several frames
        self._is_text = True
        self._is_plain = False  # a frame begins where the next bytes begin
        self._rest = b""  # the beginning of a plain one
        self._kept: deque[str | bytes] = deque()  # until somebody takes them
        self._take: Callable[[str | bytes], None] = self._keep
        self._stirred = asyncio.Event()
        self._broken: Exception | None = None

    async def message(self) -> str | bytes:
        """The next message, while they are not handed to anybody.

        Raises:
            ConnectionClosed: none follows.
        """
        await self._until(lambda: bool(self._kept))
        if not self._kept:
            raise self.close_exc
        return self._kept.popleft()

    async def hand_to(self, take: Callable[[str | bytes], None]) -> None:
        """Has `take` called with every message; returns when the connection is lost.

        Raises:
            Exception: what `take` has raised; nothing is given to it afterwards.
        """
        self._take = take
        try:
            while self._kept:
                take(self._kept.popleft())
            await self._until(lambda: self._broken is not None)
        finally:
            self._take = _ignore
        if self._broken is not None:
            raise self._broken

    def _keep(self, message: str | bytes) -> None:
        self._kept.append(message)
        self._stirred.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Or until the connection is lost."""
        while not condition() and not self.connection_lost_waiter.done():
            self._stirred.clear()
            await self._stirred.wait()

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        if self._is_plain:
            data = self._plain(data)
        if data:
            super().data_received(data)
            reader, protocol = self.protocol.reader, self.protocol
            self._is_plain = (
                self.state is State.OPEN and not reader.buffer and protocol.current_size is None
            )

    def _plain(self, data: bytes) -> bytes:
        """Hands on the whole messages of text that `data` begins with; returns the rest.

        They are nearly all that comes. The library takes five times as long for each, and gets what
        is anything else: what is long or in several frames, binary, a ping, a farewell, a mistake.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, size = 0, len(data)
        while at < size and data[at] == _PLAIN_TEXT:
            start = at + 2
            length = data[at + 1] if start <= size else 0
            if length == _TWO_BYTES:
                start += 2
                length = int.from_bytes(data[at + 2 : start], "big")
            elif length > _TWO_BYTES:
                break
            if start > size or start + length > size:
                self._rest = data[at:]  # it has not come whole
                return b""
            at = start + length
            self._is_text = True
            self._came(data[start:at])
        return data[at:]

    def process_event(self, event: Event) -> None:
        if self.response is None or not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
            return
        if event.opcode is not Opcode.CONT:
            self._is_text = event.opcode is Opcode.TEXT
            if event.fin:
                self._came(event.data)
                return
            self._begun = bytearray()
        if self._begun is not None:
            self._begun += event.data
            if event.fin:
                whole, self._begun = self._begun, None
                self._came(whole)

    def _came(self, data: BytesLike) -> None:
        try:
            self._take(str(data, "utf-8") if self._is_text else bytes(data))
        except Exception as exc:  # noqa: BLE001  told to who handed it over; the loop could not tell
            self._broken, self._take = exc, _ignore
            self._stirred.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stirred.set()


def _ignore(_message: str | bytes) -> None:
    """What comes when nobody listens any more."""


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

    def send(self, *frames: bytes) -> None:
        if not self.is_open:
            return
        for frame in frames:
            self._connection.protocol.send_text(frame)
        self._connection.send_data()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()  # whoever reads in it says farewell at its end

    def abort(self) -> None:
        self._connection.transport.abort()

    async def greet(self, socket: Socket) -> None:
        """Reads until the socket is open; raises ProviderError, or ConnectionClosed."""
        clock = asyncio.get_running_loop().time
        while not socket.greet(self._shown(await self._connection.message()), self, clock()):
            pass

    def _shown(self, frame: str | bytes) -> str | bytes:
        # What is longer is audio, and no refusal.
        return self._hide(frame) if isinstance(frame, str) and len(frame) < MAX_SAID else frame

    async def read(self, socket: Socket) -> ProviderError:
        """Hands every frame to the socket; why it ended."""
        shown, receive = self._shown, socket.receive
        clock = asyncio.get_running_loop().time
        try:
            await self._connection.hand_to(lambda frame: receive(shown(frame), clock()))
        except UnicodeDecodeError as exc:
            return ProviderBroken(f"a frame is no UTF-8: {exc.reason}")
        except ProviderBroken as exc:
            return exc
        code = self._connection.close_code
        return socket.refusal or SocketLost(f"the socket was closed ({code})")

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
