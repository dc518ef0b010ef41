"""Streams and consumers are read by one replica; who leaves or dies is followed by another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from shared.contract import DEAD_LETTERS_STREAM
from shared.nats.levels import Levels, read_by
from shared.nats.provision import assets_of
from shared.process.clock import SystemClock
from shared.process.settings import Retention
from shared.retry import wait_until
from tests.integration.harness import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local.nats_server import NatsServer
    from shared.nats.connection import Connection

pytestmark = pytest.mark.timeout(120)

ASSETS = read_by("test", assets_of("chat", 1, Retention()))
ROUND = 0.6  # seconds


class Replica:
    """One that reads, as Prometheus sees it."""

    def __init__(self, connection: Connection) -> None:
        self.registry = CollectorRegistry()
        self.levels = Levels(connection, "test", ASSETS, every=ROUND, registry=self.registry)
        self.task = asyncio.create_task(self.levels.run())

    @property
    def shows(self) -> bool:
        return self.value("parley_stream_messages", stream=DEAD_LETTERS_STREAM) is not None

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    async def leave(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture
async def replicas(server: NatsServer, connection: Connection) -> AsyncIterator[list[Replica]]:
    """Three, the oldest first; each on a connection of its own."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for _ in range(3):
            found.append(Replica(await stack.enter_async_context(connected(server.url))))
            stack.push_async_callback(found[-1].leave)
        yield found


async def until_shown_by(*showing: Replica, of: list[Replica]) -> None:
    async def so() -> bool:
        return [each for each in of if each.shows] == list(showing)

    assert await wait_until(so, 30, clock=SystemClock())


async def test_one_replica_shows_what_the_server_says(
    replicas: list[Replica], connection: Connection
) -> None:
    oldest = replicas[0]
    await until_shown_by(oldest, of=replicas)
    for _ in range(3):
        await connection.jetstream.publish("chat.dead", b"x")
        await connection.jetstream.publish("chat.request.c", b"{}")

    async def is_read() -> bool:
        return (
            oldest.value("parley_dead_letters_held") == 3
            and oldest.value("parley_consumer_lag", stream="CHAT_REQUESTS", consumer="chat-workers")
            == 3
        )

    assert await wait_until(is_read, 30, clock=SystemClock())
    assert oldest.value("parley_stream_messages", stream="CHAT_REQUESTS") == 3
    limit = oldest.value("parley_stream_bytes_limit", stream="CHAT_REQUESTS")
    assert limit == Retention().requests_bytes
    await until_shown_by(oldest, of=replicas)


async def test_when_the_one_that_reads_leaves_the_next_oldest_goes_on(
    replicas: list[Replica],
) -> None:
    await until_shown_by(replicas[0], of=replicas)
    await replicas[0].leave()
    await until_shown_by(replicas[1], of=replicas[1:])


async def test_when_the_one_that_reads_is_silent_another_goes_on(
    replicas: list[Replica], server: NatsServer
) -> None:
    """A process that is killed says nothing, and one that is frozen may come back."""
    await until_shown_by(replicas[0], of=replicas)
    connection = replicas[0].levels._connection
    await connection.client.close()
    await until_shown_by(replicas[1], of=replicas[1:])


def test_each_service_reads_what_is_its_own() -> None:
    found = {
        service: {a.label for a in read_by(service, assets_of(service, 1, Retention()))}
        for service in ("chat", "tts")
    }

    assert found["chat"].isdisjoint(found["tts"])
    assert "stream DEAD_LETTERS" in found["chat"]
    assert "consumer tts-workers of TTS_REQUESTS" in found["tts"]
    everything = {a.label for s in ("chat", "tts") for a in assets_of(s, 1, Retention())}
    assert found["chat"] | found["tts"] == everything
