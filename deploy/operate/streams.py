"""Streams as nats-server gives and takes them: `$JS.API.STREAM.SNAPSHOT` and `…RESTORE`.

What `nats stream backup` does, as a program that is here. A snapshot comes in chunks, each of which
is acked so that the server sends the next ones; a restore is sent in chunks that the server acks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from deploy.operate.manifest import StreamFile, digest_of
from shared.contract import (
    CHAT_INTAKE,
    CHAT_REQUESTS_STREAM,
    CHAT_WORKERS,
    TTS_REQUESTS_STREAM,
    TTS_WORKERS,
)
from shared.errors import ApiError, NatsError

if TYPE_CHECKING:
    from pathlib import Path

    from shared.nats.connection import Connection
    from shared.nats.wire import Incoming

CHUNK_BYTES: Final = 256 * 1024
CHUNK_SECONDS: Final = 30.0  # until the next chunk, or the ack of one
AHEAD: Final = 8  # chunks of a restore that are not acked yet
END_SECONDS: Final = 120.0  # the server reads all that it was given before it says so
WORKERS: Final = (
    (CHAT_REQUESTS_STREAM, CHAT_INTAKE),
    (CHAT_REQUESTS_STREAM, CHAT_WORKERS),
    (TTS_REQUESTS_STREAM, TTS_WORKERS),
)
# Until the server, of a cluster too, knows that a worker that asked for work has gone.
LEAVE_SECONDS: Final = 2.0
_NOT_FOUND: Final = 404
_END: Final = b"NATS/1.0 204"


async def names(connection: Connection) -> list[str]:
    """Of every stream of the account. Raises NatsError."""
    found: list[str] = []
    while True:
        page = await connection.api("STREAM.NAMES", {"offset": len(found)})
        found += page.get("streams") or []
        if len(found) >= page["total"] or not page.get("streams"):
            return sorted(found)


async def at_work(connection: Connection, seconds: float = LEAVE_SECONDS) -> list[str]:
    """The consumers of which somebody still asks for work, after so many seconds at most.

    Raises NatsError.
    """
    until = time.monotonic() + seconds
    while found := [name for stream, name in WORKERS if await _pulled(connection, stream, name)]:
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.2)
    return found


async def _pulled(connection: Connection, stream: str, name: str) -> bool:
    try:
        info = await connection.api(f"CONSUMER.INFO.{stream}.{name}")
    except ApiError as exc:
        if exc.code == _NOT_FOUND:
            return False
        raise
    return bool(info["num_waiting"])


async def snapshot(connection: Connection, name: str, folder: Path) -> StreamFile:
    """One stream with its consumers, as a file. Raises NatsError, OSError."""
    chunks: asyncio.Queue[Incoming] = asyncio.Queue()
    inbox = connection.client.new_inbox()
    subscription = await connection.subscribe(inbox, chunks.put_nowait)
    path = folder / f"streams/{name}.snapshot"
    path.parent.mkdir(exist_ok=True)
    try:
        asked = {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES, "no_consumers": False}
        told = await connection.api(f"STREAM.SNAPSHOT.{name}", asked, seconds=CHUNK_SECONDS)
        with path.open("wb") as file:
            while chunk := await _next(connection, name, chunks):
                await asyncio.to_thread(file.write, chunk)
    finally:
        await connection.unsubscribe(subscription)
    size, digest = await asyncio.to_thread(digest_of, path)
    config, state = told["config"], told["state"]
    return StreamFile(name, size, digest, state["messages"], config, state)


async def _next(connection: Connection, name: str, chunks: asyncio.Queue[Incoming]) -> bytes:
    """A chunk, acked; nothing at the end."""
    try:
        msg = await asyncio.wait_for(chunks.get(), CHUNK_SECONDS)
    except TimeoutError:
        raise NatsError(f"{name}: no more of its snapshot within {CHUNK_SECONDS:g} s") from None
    if msg.data:
        if msg.reply:
            await connection.send(msg.reply)
        return msg.data
    status = f"{msg.headers.get('Status', '')} {msg.headers.get('Description', '')}".strip()
    if status and not _END.decode().endswith(status):
        raise NatsError(f"{name}: its snapshot ended early: {status}")
    return b""


async def restore(connection: Connection, stream: StreamFile, path: Path) -> None:
    """Makes the stream, with what its file holds. Raises NatsError, OSError."""
    asked = {"config": stream.config, "state": stream.state}
    begun = await connection.api(f"STREAM.RESTORE.{stream.name}", asked, seconds=CHUNK_SECONDS)
    subject = begun["deliver_subject"]
    under_way: deque[asyncio.Task[None]] = deque()
    try:
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                if len(under_way) == AHEAD:
                    await under_way.popleft()
                under_way.append(asyncio.ensure_future(_give(connection, subject, chunk)))
                await asyncio.sleep(0)  # it is written in its order
        while under_way:
            await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
    end = await connection.request(subject, seconds=END_SECONDS)
    told = _told(end.data)
    if (found := told.get("state", {}).get("messages")) != stream.messages:
        raise NatsError(f"{stream.name}: {found} messages restored of {stream.messages}")


async def _give(connection: Connection, subject: str, chunk: bytes) -> None:
    answer = await connection.request(subject, chunk, seconds=CHUNK_SECONDS)
    if answer.data:
        _told(answer.data)


def _told(data: bytes) -> dict[str, Any]:
    """Raises NatsError for an error."""
    answer: dict[str, Any] = msgspec.json.decode(data)
    if error := answer.get("error"):
        raise NatsError(f"the server refuses what it is given: {error.get('description')}")
    return answer
