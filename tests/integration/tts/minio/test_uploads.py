"""Uploads to a server that says what it is told, and remembers who connected."""

from __future__ import annotations

import asyncio
import contextlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from services.tts.minio.uploads import Answer, GarbledAnswer, NewConnectionError, Uploads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.timeout(120)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: x\r\n\r\n"
BODY = bytes(range(256)) * 4


@dataclass
class Server:
    """Answers each PUT with the next of these, and hangs up after what does not say its length."""

    says: list[bytes]
    connections: int = 0
    bodies: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(size))
                said = self.says.pop(0)
                writer.write(said)
                if b"Content-Length" not in said:
                    break
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self, *, connections: int = 4) -> AsyncIterator[Uploads]:
        server = await asyncio.start_server(self.talk, "127.0.0.1", 0)
        async with asyncio.timeout(30), server:
            yield uploads(server.sockets[0].getsockname()[1], connections)


def uploads(port: int, connections: int = 4) -> Uploads:
    return Uploads(
        "127.0.0.1", port, None, connect_seconds=1, read_seconds=0.5, connections=connections
    )


async def put(to: Uploads, body: bytes = BODY) -> Answer:
    stream = io.BytesIO(body)
    stream.seek(0, io.SEEK_END)
    return await to.put("/b/k", {"host": "s3", "content-length": str(len(body))}, stream)


async def test_one_connection_takes_one_upload_after_the_other() -> None:
    server = Server([OK, OK, OK])
    async with server.running() as to:
        answers = [await put(to), await put(to, b""), await put(to, bytes(1_000_000))]
    assert [answer.status for answer in answers] == [200] * 3
    assert server.bodies == [BODY, b"", bytes(1_000_000)]
    assert server.heads[0].startswith(b"PUT /b/k HTTP/1.1\r\nhost: s3\r\n")
    assert server.connections == 1


async def test_uploads_at_once_are_no_more_than_may_be() -> None:
    server = Server([OK] * 20)
    async with server.running(connections=3) as to:
        await asyncio.gather(*(put(to) for _ in range(20)))
    assert server.connections <= 3


async def test_a_connection_that_the_store_has_closed_is_not_used() -> None:
    server = Server([OK, OK])
    async with server.running() as to:
        server.says.insert(1, b"")
        await put(to)
        # It hangs up instead of the second answer: which is asked for again on another connection.
        await put(to)
    assert server.connections == 2
    assert len(server.bodies) == 3


async def test_a_store_that_only_hangs_up_has_not_answered() -> None:
    async with Server([b"", b""]).running() as to:
        with pytest.raises(ConnectionResetError):
            await put(to)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n<a/>\n",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n<a\r\n3;x\r\n/>\n\r\n0\r\n\r\n",
        b"HTTP/1.1 403 No\r\nconnection: close\r\n\r\n<a/>\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n<a/>\n",
    ],
)
async def test_what_a_store_says_is_read_however_it_is_framed(said: bytes) -> None:
    async with Server([said]).running() as to:
        answer = await put(to)
    assert (answer.status, answer.data) == (403, b"<a/>\n")


@pytest.mark.parametrize("said", [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 x\r\n\r\n", bytes(100_000)])
async def test_what_is_no_http_is_no_answer(said: bytes) -> None:
    async with Server([said]).running() as to:
        with pytest.raises((GarbledAnswer, ConnectionResetError)):
            await put(to)


async def test_an_answer_too_long_to_be_one_is_none() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000)
    async with Server([said]).running() as to:
        with pytest.raises(GarbledAnswer):
            await put(to)


async def test_a_store_that_does_not_answer_is_not_waited_for() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with Server([said]).running() as to:
        with pytest.raises(TimeoutError):
            await put(to)


async def test_where_nobody_listens_there_is_no_connection() -> None:
    async with Server([]).running():
        pass
    server = await asyncio.start_server(Server([]).talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    with pytest.raises(NewConnectionError):
        await put(uploads(port))
