"""What a service needs of JetStream is watched on a real server: missed, made again, given up."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from local.nats_server import NatsServer
from shared.nats.provision import assets_of, provision
from shared.nats.watch import Gone, Watch
from shared.process.clock import SystemClock
from shared.process.settings import Retention
from shared.retry import wait_until
from tests.integration.harness import connected, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.nats.connection import Connection

pytestmark = pytest.mark.timeout(120)

ASSETS = assets_of("chat", 1, Retention())


@contextlib.asynccontextmanager
async def watching(connection: Connection, **seconds: float) -> AsyncIterator[Watch]:
    watch = Watch(connection, ASSETS, **{"every": 0.05, "fresh": 0.0, "healing": 0.5, **seconds})
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until_nothing_is_missed(watch: Watch) -> None:
    async def nothing() -> bool:
        return not await watch.waiting()

    assert await wait_until(nothing, 10, clock=SystemClock())


async def until_something_is_missed(watch: Watch) -> None:
    async def something() -> bool:
        return "streams" in await watch.waiting()

    assert await wait_until(something, 10, clock=SystemClock())


async def test_nothing_is_waited_for_where_everything_is_there(connection: Connection) -> None:
    assert await Watch(connection, ASSETS).waiting() == {}


async def test_what_is_missing_is_named(connection: Connection) -> None:
    await connection.api("STREAM.DELETE.KV_conversations")
    await connection.api("CONSUMER.DELETE.CHAT_REQUESTS.chat-workers")
    assert await Watch(connection, ASSETS).waiting() == {
        "streams": "stream KV_conversations is missing, "
        "consumer chat-workers of CHAT_REQUESTS is missing"
    }


@pytest.mark.parametrize(
    "deleted",
    [
        "STREAM.DELETE.CHAT_REQUESTS",
        "STREAM.DELETE.CHAT_DELTAS",
        "STREAM.DELETE.KV_conversations",
        "CONSUMER.DELETE.CHAT_REQUESTS.chat-workers",
        "CONSUMER.DELETE.CHAT_REQUESTS.chat-intake",
    ],
)
async def test_what_is_deleted_is_missed_and_made_again(
    connection: Connection, deleted: str
) -> None:
    async with watching(connection) as watch:
        await until_nothing_is_missed(watch)
        await connection.api(deleted)
        await until_something_is_missed(watch)
        await until_nothing_is_missed(watch)
    assert await Watch(connection, ASSETS).waiting() == {}


async def test_what_somebody_else_made_again_is_waited_for_as_well(connection: Connection) -> None:
    """Between two looks: only the time at which it was made tells."""
    watch = Watch(connection, ASSETS, fresh=0, healing=0.5)
    assert await watch.waiting() == {}
    await connection.api("STREAM.DELETE.CHAT_DELTAS")
    await provision(connection, ASSETS)
    assert await watch.waiting() == {"streams": "stream CHAT_DELTAS was made again"}
    await until_nothing_is_missed(watch)


async def test_what_cannot_be_made_again_is_given_up(connection: Connection) -> None:
    watch = Watch(connection, ASSETS, every=0.05, fresh=0, give_up=0.3)
    await connection.api("STREAM.DELETE.CHAT_DELTAS")
    await connection.api("STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["chat.delta.>"]})
    with pytest.raises(Gone, match="stream CHAT_DELTAS is gone"):
        await watch.run()


async def test_a_server_that_does_not_answer_is_waited_for_and_its_streams_are_not_given_up() -> (
    None
):
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        await provision(connection, ASSETS)
        async with watching(connection, give_up=0.1) as watch:
            await server.kill()
            await soon(lambda: not connection.up)
            assert await watch.waiting() == {"NATS": "does not answer"}
            await server.restart()
            await until_nothing_is_missed(watch)


async def test_probes_at_the_same_time_share_one_look(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    api = connection.api

    async def count(subject: str, body: object = None, **more: Any) -> dict[str, Any]:
        asked.append(subject)
        return await api(subject, body, **more)

    monkeypatch.setattr(connection, "api", count)
    watch = Watch(connection, ASSETS)
    await asyncio.gather(*(watch.waiting() for _ in range(50)))
    assert len(asked) == len(ASSETS)


async def test_a_probe_that_leaves_disturbs_no_other(connection: Connection) -> None:
    watch = Watch(connection, ASSETS)
    leaves, stays = (asyncio.create_task(watch.waiting()) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    assert await stays == {}
