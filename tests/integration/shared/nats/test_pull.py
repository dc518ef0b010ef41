"""A pull on a real queue: what is there comes, and what is published later, whatever happens."""

from __future__ import annotations

import asyncio

import pytest

from local.nats_server import NatsServer
from shared.nats.connection import Connection
from shared.nats.publish import publish
from tests.integration.harness import Wire, connected, held, soon
from tests.integration.shared.nats.puller import LEASE, PINNED, Puller, pulling, queue

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def connection(empty: Connection) -> Connection:
    """Connected; there is a work queue Q with the consumer `w`."""
    await queue(empty)
    return empty


async def test_what_is_published_later_comes_at_once(connection: Connection) -> None:
    async with pulling(connection) as puller:
        await soon(lambda: puller.pull._open > 0)
        for n in range(30):
            await publish(connection, "q.a", b"%d" % n)
            deliveries = await puller.got(n + 1)
            await deliveries[n].ack_unconfirmed()
            puller.pull.more()
    assert puller.bodies == [b"%d" % n for n in range(30)]


async def test_no_more_is_asked_for_than_there_is_room(connection: Connection) -> None:
    for n in range(10):
        await publish(connection, "q.a", b"%d" % n)
    async with pulling(connection, room=3) as puller:
        await puller.got(3)
        with pytest.raises(AssertionError):
            await soon(lambda: len(puller.taken) > 3, LEASE / 3)
        for delivery in puller.taken:
            await delivery.ack()
        puller.pull.more()
        await puller.got(6)
        assert puller.bodies == [b"%d" % n for n in range(6)]
        puller.pull.stop()
        for delivery in puller.taken:
            await delivery.ack()
        assert len(puller.taken) == 6


async def test_no_more_bytes_come_than_there_is_room_for(connection: Connection) -> None:
    """But for one at a time, for which others may wait."""
    large = bytes(200_000)
    for _ in range(30):
        await publish(connection, "q.a", large)
    room = connection.client.max_payload + 200_000
    async with pulling(connection, room=100, bytes_room=room, heartbeat=0.3) as puller:
        await puller.got(2)
        await soon(lambda: puller.pull._open == 0)
        assert sum(map(len, puller.bodies)) <= room + len(large)
        before = len(puller.taken)
        await puller.got(before + 1)
        for delivery in puller.taken:
            await delivery.ack()
        puller.pull.more()
        await puller.got(before + 3)


async def test_the_largest_message_comes_where_there_is_no_room_at_all(
    connection: Connection,
) -> None:
    await publish(connection, "q.a", bytes(connection.client.max_payload - 1_000))
    async with pulling(connection, bytes_room=0, heartbeat=0.1) as puller:
        await puller.got(1)


async def test_a_consumer_that_is_deleted_is_made_again(connection: Connection) -> None:
    async with pulling(connection) as puller:
        await soon(lambda: puller.pull._open > 0)
        await connection.api("CONSUMER.DELETE.Q.w")
        await publish(connection, "q.a", b"one")
        (delivery,) = await puller.got(1)
        await delivery.ack()
    assert await held(connection, "Q") == []


async def test_a_consumer_that_was_not_there_from_the_start_is_made(connection: Connection) -> None:
    await connection.api("CONSUMER.DELETE.Q.w")
    await publish(connection, "q.a", b"one")
    async with pulling(connection) as puller:
        await puller.got(1)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_work_goes_on_after_a_restart_of_the_server(how: str) -> None:
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        await queue(connection)
        async with pulling(connection) as puller:
            await publish(connection, "q.a", b"one")
            (before,) = await puller.got(1)
            await (server.kill() if how == "kill" else server.stop())
            await server.restart()
            await publish(connection, "q.a", b"two")
            await soon(lambda: b"two" in puller.bodies, LEASE + 2)
            await before.ack()  # the word about what was taken before still counts
            await next(d for d in puller.taken if d.data == b"two").ack()
            assert await held(connection, "Q") == []


async def test_work_goes_on_after_a_silence(server: NatsServer, connection: Connection) -> None:
    """What was asked for over a connection that only looks alive is asked for again."""
    async with Wire(server.url) as wire, connected(wire.url) as far:
        wire.loses = True
        async with pulling(far, heartbeat=0.2, silence=0.5) as puller:
            await soon(lambda: b"MSG.NEXT" in wire.lost)
            wire.loses = False
            await publish(connection, "q.a", b"one")
            await puller.got(1)


async def test_of_two_in_a_pinned_group_one_gets_everything(
    empty: Connection, server: NatsServer
) -> None:
    await queue(empty, PINNED)
    async with connected(server.url) as other, pulling(empty, PINNED) as first:
        await publish(empty, "q.a", b"0")
        (delivery,) = await first.got(1)
        await delivery.ack()
        async with pulling(other, PINNED) as second:
            for n in range(1, 20):
                await publish(empty, "q.a", b"%d" % n)
                await (await first.got(n + 1))[n].ack()
            assert first.bodies == [b"%d" % n for n in range(20)]
            assert second.taken == []
            # Who unpins is followed by the other at once.
            await first.pull.drain()
            await empty.api("CONSUMER.UNPIN.Q.w", {"group": "g"})
            await publish(empty, "q.a", b"20")
            await second.got(1, LEASE)
            assert second.bodies == [b"20"]
            assert second.pull.pin is not None


async def test_of_two_in_a_pinned_group_the_other_takes_over_from_the_dead(
    empty: Connection, server: NatsServer
) -> None:
    await queue(empty, PINNED)
    async with connected(server.url) as dying:
        first = Puller(dying, PINNED)
        dying_task = asyncio.create_task(first.pull.run())
        await publish(empty, "q.a", b"0")
        await first.got(1)
        async with pulling(empty, PINNED) as second:
            dying_task.cancel()
            await publish(empty, "q.a", b"1")
            await soon(lambda: set(second.bodies) == {b"0", b"1"}, 3 * LEASE + 2)
            assert second.pins == 1
            assert second.pull.pin != first.pull.pin
