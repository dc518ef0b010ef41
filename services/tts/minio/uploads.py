"""PUTs over connections that stay open, in the event loop.

minio-py and urllib3 take threads, which wait for the interpreter whenever the loop is busy, and 1.5
ms of the processor's time for the two objects of a turn; this takes 0.2. Everything else that a
store is asked is rare, and minio-py's.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_BLOCK: Final = 256 * 1024  # bytes read and sent at once
_MAX_SAID: Final = 1024 * 1024  # bytes of an answer; a refusal has a few hundred
_HEAD_END: Final = b"\r\n\r\n"


class NewConnectionError(OSError):
    """Nobody takes connections at the store's address; named as urllib3 names it."""


class GarbledAnswer(OSError):
    """What answers speaks no HTTP."""


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

    async def put(self, path: str, headers: Mapping[str, str], body: IO[bytes]) -> Answer:
        """Sends the body from its start as it is read, and returns what the store answers.

        Raises:
            OSError: there was no answer.
        """
        head = _head(path, headers)
        async with self._slots:
            while self._idle:
                connection = self._idle.pop()
                if connection.reader.at_eof():
                    connection.writer.transport.abort()
                    continue
                # The store may close what nobody used for a while just as it is used again.
                with contextlib.suppress(ConnectionError):
                    return await self._put(connection, head, body)
            return await self._put(await self._connect(), head, body)

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        except ConnectionError as exc:
            raise NewConnectionError(str(exc)) from exc
        return _Connection(*streams)

    async def _put(self, connection: _Connection, head: bytes, body: IO[bytes]) -> Answer:
        is_kept = False
        try:
            await self._send(connection.writer, head, body)
            async with asyncio.timeout(self._read_seconds):
                answer, is_kept = await _answer(connection.reader)
        except (asyncio.IncompleteReadError, EOFError) as exc:
            raise ConnectionResetError("the store ended the connection") from exc
        except (asyncio.LimitOverrunError, ValueError) as exc:
            raise GarbledAnswer(str(exc)) from exc
        finally:
            if is_kept:
                self._idle.append(connection)
            else:
                connection.writer.transport.abort()
        return answer

    async def _send(self, writer: asyncio.StreamWriter, head: bytes, body: IO[bytes]) -> None:
        body.seek(0)
        block = body.read(_BLOCK)
        writer.write(head + block)
        while len(block) == _BLOCK:
            await writer.drain()
            block = body.read(_BLOCK)
            writer.write(block)
        await writer.drain()


def _head(path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def _answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """And whether the connection may be used again.

    Raises ValueError, LimitOverrunError for what is no HTTP; IncompleteReadError.
    """
    status = 100
    while status < 200:  # such as "100 Continue"
        line, *lines = (await reader.readuntil(_HEAD_END)).decode("latin-1").split("\r\n")
        version, _, rest = line.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError("an answer that is none of HTTP")
        status = int(rest[:3])
    pairs = (each.partition(":") for each in lines if each)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    data, ends = await _body(reader, status, headers)
    closes = ends or version != "HTTP/1.1" or headers.get("connection", "").lower() == "close"
    return Answer(status, headers, data), not closes


async def _body(
    reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]
) -> tuple[bytes, bool]:
    """And whether it went to the end of the connection."""
    if status == 204:
        return b"", False
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunks(reader), False
    if (length := headers.get("content-length")) is not None:
        return await reader.readexactly(_bounded(int(length))), False
    return await reader.read(_MAX_SAID), True


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    said = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        _bounded(len(said) + size)
        said += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
        pass
    return said


def _bounded(size: int) -> int:
    if not 0 <= size <= _MAX_SAID:
        raise ValueError(f"an answer of {size} bytes")
    return size
