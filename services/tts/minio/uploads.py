"""PUTs over connections that stay open, in the event loop.

minio-py and urllib3 take threads, which wait for the interpreter whenever the loop is busy, and 1.5
ms of the processor's time for the two objects of a turn; this takes a third. HTTP is h11's, the
signature minio-py's, and so is everything else that a store is asked: it is rare.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import h11

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_BLOCK: Final = 256 * 1024  # bytes read and sent at once
_MAX_SAID: Final = 1024 * 1024  # bytes of an answer; a refusal has a few hundred


class NewConnectionError(OSError):
    """Nobody takes connections at the store's address; named as urllib3 names it."""


class GarbledAnswer(OSError):
    """What answers speaks no HTTP."""


class Body(Protocol):
    """What is sent."""

    def seek(self, place: int, /) -> object:
        """To its start: 0."""
        ...

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says; the names of its headers in small letters."""

    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection

    @property
    def may_go_on(self) -> bool:
        """True when what was said and answered has ended, and more may follow."""
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE


class Uploads:
    """To one address, over `connections` at once at most."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        connect_seconds: float,
        read_seconds: float,
        connections: int,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._connect_seconds, self._read_seconds = connect_seconds, read_seconds
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def put(self, path: str, headers: Mapping[str, str], body: Body) -> Answer:
        """Sends the body from its start as it is read, and returns what the store answers.

        Raises:
            OSError: there was no answer.
        """
        request = h11.Request(method="PUT", target=path, headers=list(headers.items()))
        async with self._slots:
            while self._idle:
                connection = self._idle.pop()
                if connection.reader.at_eof():
                    connection.writer.transport.abort()
                    continue
                # The store may close what nobody used for a while just as it is used again.
                with contextlib.suppress(ConnectionError):
                    return await self._put(connection, request, body)
            return await self._put(await self._connect(), request, body)

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        except ConnectionError as exc:
            raise NewConnectionError(str(exc)) from exc
        return _Connection(*streams, h11.Connection(h11.CLIENT))

    async def _put(self, connection: _Connection, request: h11.Request, body: Body) -> Answer:
        try:
            await _send(connection, request, body)
            async with asyncio.timeout(self._read_seconds):
                answer = await _answer(connection.reader, connection.http)
        except h11.RemoteProtocolError as exc:
            if connection.reader.at_eof():
                raise ConnectionResetError("the store ended the connection") from exc
            raise GarbledAnswer(str(exc)) from exc
        finally:
            if connection.may_go_on:
                connection.http.start_next_cycle()
                self._idle.append(connection)
            else:
                connection.writer.transport.abort()
        return answer


async def _send(connection: _Connection, request: h11.Request, body: Body) -> None:
    """The head goes with the first block: each write wakes the store."""
    http, writer = connection.http, connection.writer
    body.seek(0)
    head = http.send(request) or b""
    while block := body.read(_BLOCK):
        writer.writelines([head, http.send(h11.Data(block)) or b""])
        await writer.drain()
        head = b""
    writer.write(head + (http.send(h11.EndOfMessage()) or b""))
    await writer.drain()


async def _answer(reader: asyncio.StreamReader, http: h11.Connection) -> Answer:
    """Raises RemoteProtocolError for what is no HTTP, or too long to be an answer."""
    status, headers, said = 0, {}, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(_BLOCK))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers
            }
        elif isinstance(event, h11.Data):
            said += event.data
            if len(said) > _MAX_SAID:
                raise h11.RemoteProtocolError("too long to be an answer")
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, headers, said)
