"""What the tests of adapters on NATS share: connections as services have them, a bad network."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import nats
import nats.js.errors

from shared.contract import MSG_ID
from shared.errors import Superseded
from shared.nats.connection import Connection, connect_options
from shared.nats.provision import LEASES, Leases, verify
from shared.nats.publish import PublishWindow
from shared.nats.read import StoredMessage
from shared.process.settings import Env, NatsSettings, Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


@contextlib.asynccontextmanager
async def connected(url: str, **seconds: float) -> AsyncIterator[Connection]:
    """A connection as a service has it; only that it comes back sooner after a lost connection.

    `seconds`: its patience, where a test has less of it.
    """
    connections: list[Connection] = []

    async def reconnected() -> None:
        for connection in connections:
            await connection.reconnected()

    async def disconnected() -> None:
        for connection in connections:
            await connection.disconnected()

    async def ignored(_error: Exception) -> None:
        """The loss of a connection is what these tests are about."""

    options = connect_options(NatsSettings.from_env(Env({"NATS_URL": url})), "test")
    client = await nats.connect(
        **options
        | {
            "reconnect_time_wait": 0.05,
            "reconnected_cb": reconnected,
            "disconnected_cb": disconnected,
            "error_cb": ignored,
        },
    )
    connection = Connection(client, **seconds)
    connections.append(connection)
    await connection.start()
    try:
        yield connection
    finally:
        await connection.close()
        with contextlib.suppress(OSError):  # the server may be away
            await client.close()


async def provisioned(connection: Connection, leases: Leases = LEASES) -> None:
    """Streams, buckets and consumers as the services find them."""
    await verify(connection, 1, Retention(), leases)


async def stream_s(connection: Connection) -> None:
    """A stream S that takes `s.>`."""
    config = {"name": "S", "subjects": ["s.>"], "allow_direct": True}
    await connection.api("STREAM.CREATE.S", config)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


async def send_all(connection: Connection, bodies: Sequence[bytes], subject: str = "s.a") -> None:
    """Through a window, each under an id of its own; returns when all are acked."""
    window = PublishWindow(connection)
    for number, body in enumerate(bodies):
        await window.send(subject, body, {MSG_ID: f"{subject}.{number}"})
        await asyncio.sleep(0)  # acks come in between
    await window.drained()
    assert window.unacked == 0


async def soon(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until it is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to be so"
        await asyncio.sleep(0.002)


async def held(connection: Connection, stream: str, subject: str = ">") -> list[StoredMessage]:
    """What a stream holds of a subject, as the stream's leader has it."""
    found: list[StoredMessage] = []
    with contextlib.suppress(nats.js.errors.NotFoundError):
        while True:
            after = found[-1].sequence + 1 if found else 1
            message = await connection.jetstream.get_msg(
                stream, seq=after, subject=subject, next=True
            )
            found.append(
                StoredMessage(
                    message.subject or "",
                    message.seq or 0,
                    message.data or b"",
                    message.headers or {},
                )
            )
    return found


class Wire:
    """The network between a client and a server: it can be slow, lose what is sent, and be cut."""

    def __init__(self, url: str) -> None:
        self._far = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.delay = 0.0  # seconds, of what the server says
        self.loses = False  # what the client says
        self.lost = b""
        self.deaf = False  # loses what the server says
        self.unheard = b""
        self.said = b""  # all that the client said

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._far.hostname, self._far.port
            )
        except OSError:  # the server is away
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        for pump in (self._to_server(reader, far_writer), self._to_client(far_reader, writer)):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _to_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self.said += data
                if self.loses:
                    self.lost += data
                    continue
                writer.write(data)
        writer.close()

    async def _to_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await asyncio.sleep(self.delay)
                if self.deaf:
                    self.unheard += data
                    continue
                writer.write(data)
        writer.close()

    def cut(self) -> None:
        """As when a cable is pulled: nothing more arrives, on either side."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


class Lease:
    """A fence as a worker has it: what it knows, and what it finds when it looks."""

    def __init__(self) -> None:
        self.fresh = True
        self.superseded = False
        self.looks = 0

    async def verify(self) -> None:
        self.looks += 1
        if self.superseded:
            raise Superseded
