"""Messages of a real queue as leases: kept, lost, acked, handed back."""

from __future__ import annotations

import asyncio
import time

import pytest

from local.nats_server import NatsServer
from shared.nats.connection import Connection
from shared.nats.lease import LeaseFence, keep_leases
from shared.nats.publish import publish
from tests.integration.harness import held, soon
from tests.integration.shared.nats.puller import LEASE, pulling, queue

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def connection(empty: Connection) -> Connection:
    """Connected; there is a work queue Q with the consumer `w`."""
    await queue(empty)
    return empty


async def test_work_comes_in_order_and_a_double_ack_removes_it(connection: Connection) -> None:
    for body in (b"one", b"two"):
        await publish(connection, "q.a", body, {"H": "x"})
    async with pulling(connection) as puller:
        first, second = await puller.got(2)
        assert (first.data, second.data) == (b"one", b"two")
        assert (first.subject, first.sequence, first.deliveries) == ("q.a", 1, 1)
        assert first.headers["H"] == "x"
        assert abs(first.taken_at.timestamp() - time.time()) < 60
        await first.ack()
        assert [m.data for m in await held(connection, "Q")] == [b"two"]
        await first.ack()  # harmless
        await second.ack_unconfirmed()
        await connection.client.flush()
    assert await held(connection, "Q") == []


async def test_without_a_heartbeat_a_lease_runs_out(connection: Connection) -> None:
    await publish(connection, "q.a", b"one")
    async with pulling(connection) as puller:
        first, again = await puller.got(2)
    assert (first.sequence, first.deliveries) == (again.sequence, 1)
    assert again.deliveries == 2


async def test_heartbeats_keep_a_lease(connection: Connection) -> None:
    await publish(connection, "q.a", b"one")
    async with pulling(connection) as puller:
        (delivery,) = await puller.got(1)
        beating = asyncio.create_task(keep_leases(lambda: [delivery], LEASE))
        until = time.monotonic() + 2.5 * LEASE
        await soon(lambda: time.monotonic() > until)
        assert len(puller.taken) == 1
        assert time.monotonic() - delivery.confirmed < LEASE
        assert not delivery.lapsed
        beating.cancel()
        await puller.got(2)


async def test_a_heartbeat_after_a_lease_confirms_nothing_that_was_missed(
    connection: Connection,
) -> None:
    """The server says yes to anybody who ever held the message."""
    await publish(connection, "q.a", b"one")
    async with pulling(connection) as puller:
        first, again = await puller.got(2)
        await first.heartbeat()
        await soon(lambda: first.lapsed)
        before = again.confirmed
        await again.heartbeat()
        await soon(lambda: again.confirmed > before)
        # A machine that is busy for longer than a lease loses this one, too.
        assert again.lapsed == (again.confirmed - before > LEASE)


async def test_no_heartbeat_is_confirmed_by_a_frozen_server(
    server: NatsServer, connection: Connection
) -> None:
    await publish(connection, "q.a", b"one")
    async with pulling(connection) as puller:
        (delivery,) = await puller.got(1)
        before = delivery.confirmed
        server.freeze()
        try:
            await delivery.heartbeat()
            with pytest.raises(AssertionError):
                await soon(lambda: delivery.confirmed > before, 0.1)
        finally:
            server.thaw()
        await soon(lambda: delivery.confirmed > before)


async def test_work_is_handed_back_at_once(connection: Connection) -> None:
    await publish(connection, "q.a", b"one")
    async with pulling(connection) as puller:
        (first,) = await puller.got(1)
        await first.nak()
        _, again = await puller.got(2, LEASE / 2)
        assert again.deliveries == 2


async def test_work_is_handed_back_for_later(connection: Connection) -> None:
    await publish(connection, "q.a", b"one")
    async with pulling(connection) as puller:
        (first,) = await puller.got(1)
        began = time.monotonic()
        await first.nak(0.3)
        _, again = await puller.got(2)
        assert 0.25 < time.monotonic() - began < LEASE + 0.3
        await again.ack()


async def test_a_worker_that_was_away_for_a_lease_looks_from_then_on(
    connection: Connection,
) -> None:
    await publish(connection, "q.a", b"one")
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1

    async with pulling(connection) as puller:
        (delivery,) = await puller.got(1)
        fence = LeaseFence(delivery, look)
        assert fence.fresh
        await soon(lambda: not fence.fresh, 2 * LEASE)
        await delivery.heartbeat()
        confirmed = delivery.confirmed
        await soon(lambda: delivery.confirmed > confirmed)
        assert not fence.fresh
        await fence.verify()
    assert looks == 1
