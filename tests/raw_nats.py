"""NATS spoken by hand: sends what no client library would, reads what would make one stumble."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'


@dataclass(frozen=True, slots=True)
class RawMessage:
    subject: str
    data: bytes
    headers: dict[str, str]


class RawClient:
    """One connection; what comes for a subscription is given to its `take`, in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._takes: dict[bytes, Callable[[RawMessage], None]] = {}
        self._pongs: list[asyncio.Future[None]] = []
        self.errors: list[str] = []  # what the server complained of

    async def publish(
        self, subject: str | bytes, data: bytes = b"", *, headers: bytes = b"", reply: str = ""
    ) -> None:
        """`headers` is the whole block, as it is to go over the wire."""
        name = subject.encode() if isinstance(subject, str) else subject
        to = f" {reply}".encode(errors="surrogateescape") if reply else b""
        if headers:
            sizes = b"%d %d" % (len(headers), len(headers) + len(data))
            line = b"HPUB %s%s %s\r\n" % (name, to, sizes)
        else:
            line = b"PUB %s%s %d\r\n" % (name, to, len(data))
        self._writer.write(line + headers + data + b"\r\n")
        await self._writer.drain()

    async def subscribe(self, subject: str, take: Callable[[RawMessage], None]) -> None:
        """Returns when the server knows."""
        number = b"%d" % (len(self._takes) + 1)
        self._takes[number] = take
        self._writer.write(b"SUB %s %s\r\n" % (subject.encode(), number))
        await self.flush()

    async def flush(self) -> None:
        """Returns when the server has dealt with everything before."""
        pong = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._writer.write(b"PING\r\n")
        async with asyncio.timeout(30):
            await pong

    async def read(self) -> None:
        """Until the connection ends."""
        while line := await self._reader.readline():
            verb, *words = line.rstrip(b"\r\n").split(b" ")
            if verb in {b"MSG", b"HMSG"}:
                await self._message(words, has_headers=verb == b"HMSG")
            elif verb == b"PING":
                self._writer.write(b"PONG\r\n")
            elif verb == b"PONG":
                self._pongs.pop(0).set_result(None)
            elif verb == b"-ERR":
                self.errors.append(line.decode(errors="replace").strip())

    async def _message(self, words: list[bytes], *, has_headers: bool) -> None:
        size = int(words[-1])
        split = int(words[-2]) if has_headers else 0
        body = await self._reader.readexactly(size + 2)
        message = RawMessage(words[0].decode(errors="replace"), body[split:-2], _read(body[:split]))
        self._takes[words[1]](message)


def block(headers: dict[str, str]) -> bytes:
    """As it goes over the wire; nothing is checked."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode(errors="surrogatepass")


def _read(raw: bytes) -> dict[str, str]:
    first, *lines = raw.decode(errors="replace").split("\r\n")
    status = first.split()[1:2]
    found = {"Status": status[0]} if status else {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found[name] = value.strip()
    return found


@contextlib.asynccontextmanager
async def raw_client(url: str) -> AsyncIterator[RawClient]:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**22)
    client = RawClient(reader, writer)
    writer.write(_CONNECT)
    reading = asyncio.create_task(client.read())
    try:
        await client.flush()
        yield client
        await client.flush()
    finally:
        reading.cancel()
        writer.close()
