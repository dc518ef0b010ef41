"""Work from a real queue: messages as leases, taken, kept, handed back, never lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from local.nats_server import NatsServer
from shared.contract import CHAT_REQUESTS_STREAM, CHAT_WORKERS
from shared.errors import Internal, NatsError, Superseded
from shared.nats import provision, work
from shared.nats.connection import Connection
from shared.nats.publish import publish
from shared.nats.work import Delivery, LeaseFence, Pull, Work, keep_leases
from tests.integration.harness import Wire, connected, emptied, held, provisioned, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.timeout(30)

LEASE = 0.45


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


# ---------------------------------------------------------------- pull and delivery


@pytest.fixture
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    """Connected; there is a work queue Q with the consumer `w`."""
    async with connected(server.url) as connection:
        await emptied(connection)
        await queue(connection)
        yield connection


async def queue(connection: Connection) -> None:
    config = {"name": "Q", "subjects": ["q.>"], "retention": "workqueue"}
    await connection.api("STREAM.CREATE.Q", config)
    await consumer(connection)


async def consumer(connection: Connection, **more: object) -> None:
    config = {
        "durable_name": "w",
        "ack_policy": "explicit",
        "ack_wait": int(LEASE * 1e9),
        "max_deliver": -1,
        **more,
    }
    body = {"stream_name": "Q", "config": config, "action": "create"}
    await connection.api("CONSUMER.CREATE.Q.w", body)


class Puller:
    """A pull that keeps what it was given."""

    def __init__(self, connection: Connection, *, room: int = 10, group: str | None = None) -> None:
        self.connection = connection
        self.taken: list[Delivery] = []
        self.room = room
        self.pull = Pull(
            connection,
            "Q",
            "w",
            self.taken.append,
            room=lambda: self.room - len([d for d in self.taken if not d.settled]),
            missing=lambda: consumer(connection),
            group=group,
            expires=LEASE,
        )

    @property
    def bodies(self) -> list[bytes]:
        return [d.data for d in self.taken]

    async def got(self, count: int, seconds: float = 10.0) -> list[Delivery]:
        await soon(lambda: len(self.taken) >= count, seconds)
        return self.taken


@contextlib.asynccontextmanager
async def pulling(
    connection: Connection, *, room: int = 10, group: str | None = None
) -> AsyncIterator[Puller]:
    puller = Puller(connection, room=room, group=group)
    task = asyncio.create_task(puller.pull.run())
    try:
        yield puller
    finally:
        task.cancel()
        await puller.pull.drain()


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


async def test_what_is_published_later_comes_at_once(connection: Connection) -> None:
    async with pulling(connection) as puller:
        await soon(lambda: puller.pull._open > 0)
        for n in range(30):
            await publish(connection, "q.a", b"%d" % n)
            deliveries = await puller.got(n + 1, 1)
            await deliveries[n].ack_unconfirmed()
            puller.pull.more()
    assert puller.bodies == [b"%d" % n for n in range(30)]


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
        await first.heartbeat(LEASE)
        await soon(lambda: first.lapsed)
        await again.heartbeat(LEASE)
        before = again.confirmed
        await soon(lambda: again.confirmed > before)
        assert not again.lapsed


async def test_no_heartbeat_is_confirmed_by_a_frozen_server(
    server: NatsServer, connection: Connection
) -> None:
    await publish(connection, "q.a", b"one")
    async with pulling(connection) as puller:
        (delivery,) = await puller.got(1)
        before = delivery.confirmed
        server.freeze()
        try:
            await delivery.heartbeat(LEASE)
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


async def test_work_goes_on_after_a_silence(
    server: NatsServer, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for over a connection that only looks alive is asked for again."""
    monkeypatch.setattr(Pull, "SILENCE", 0.5)
    monkeypatch.setattr(Pull, "HEARTBEAT", 0.2)
    async with Wire(server.url) as wire, connected(wire.url) as far:
        wire.loses = True
        async with pulling(far) as puller:
            await soon(lambda: b"MSG.NEXT" in wire.lost)
            wire.loses = False
            await publish(connection, "q.a", b"one")
            await puller.got(1, 5)


async def test_of_two_in_a_pinned_group_one_gets_everything(
    connection: Connection, server: NatsServer
) -> None:
    await pinned(connection)
    async with connected(server.url) as other, pulling(connection, group="g") as first:
        await publish(connection, "q.a", b"0")
        (delivery,) = await first.got(1)
        await delivery.ack()
        async with pulling(other, group="g") as second:
            for n in range(1, 20):
                await publish(connection, "q.a", b"%d" % n)
                await (await first.got(n + 1))[n].ack()
            assert first.bodies == [b"%d" % n for n in range(20)]
            assert second.taken == []
            # Who unpins is followed by the other at once.
            await first.pull.drain()
            await connection.api("CONSUMER.UNPIN.Q.w", {"group": "g"})
            await publish(connection, "q.a", b"20")
            await second.got(1, LEASE)
            assert second.bodies == [b"20"]
            assert second.pull.pin is not None


async def test_of_two_in_a_pinned_group_the_other_takes_over_from_the_dead(
    connection: Connection, server: NatsServer
) -> None:
    await pinned(connection)
    async with connected(server.url) as dying:
        first = Puller(dying, group="g")
        dying_task = asyncio.create_task(first.pull.run())
        await publish(connection, "q.a", b"0")
        await first.got(1)
        async with pulling(connection, group="g") as second:
            changes: list[str] = []
            second.pull.on_pinned = changes.append
            dying_task.cancel()
            await publish(connection, "q.a", b"1")
            await soon(lambda: set(second.bodies) == {b"0", b"1"}, 3 * LEASE + 2)
            assert len(changes) == 1
            assert changes[0] != first.pull.pin


async def pinned(connection: Connection) -> None:
    await connection.api("CONSUMER.DELETE.Q.w")
    await consumer(
        connection,
        priority_policy="pinned_client",
        priority_groups=["g"],
        priority_timeout=int(LEASE * 1e9),
    )


# ---------------------------------------------------------------- work


@pytest.fixture
async def chat(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    """Connected; the streams are there, with a short lease."""
    for module in (provision, work):
        monkeypatch.setattr(module, "LEASE_SECONDS", LEASE)
    monkeypatch.setattr(work, "AGAIN_SECONDS", 0.1)
    async with connected(server.url) as connection:
        await provisioned(connection)
        yield connection


class Worker:
    """Takes work; `steps` are what it does with the deliveries, by body."""

    def __init__(
        self,
        connection: Connection,
        do: Callable[[Worker, Delivery], Awaitable[None]],
        slots: int = 4,
    ) -> None:
        self.do = do
        self.begun: list[bytes] = []
        self.ended: list[bytes] = []
        self.dead_lettered: list[tuple[bytes, Internal]] = []
        self.work = Work(
            connection,
            CHAT_REQUESTS_STREAM,
            CHAT_WORKERS,
            slots=slots,
            handle=self._handle,
            dead_letter=self._dead_letter,
        )

    async def _handle(self, delivery: Delivery) -> None:
        self.begun.append(delivery.data)
        await self.do(self, delivery)
        await delivery.ack()
        self.ended.append(delivery.data)

    async def _dead_letter(self, delivery: Delivery, error: Internal) -> None:
        self.dead_lettered.append((delivery.data, error))


@contextlib.asynccontextmanager
async def working(
    connection: Connection, do: Callable[[Worker, Delivery], Awaitable[None]], slots: int = 4
) -> AsyncIterator[Worker]:
    worker = Worker(connection, do, slots)
    await worker.work.start()
    try:
        yield worker
    finally:
        await worker.work.drain(0)


async def at_once(_worker: Worker, _delivery: Delivery) -> None:
    """There is nothing to do."""


async def for_ever(_worker: Worker, _delivery: Delivery) -> None:
    await asyncio.Event().wait()


async def ask(connection: Connection, *requests: bytes) -> None:
    for body in requests:
        await publish(connection, "chat.request.c", body)


async def test_each_request_is_handled_once(chat: Connection) -> None:
    requests = [b"%d" % n for n in range(200)]
    async with working(chat, at_once) as worker:
        await ask(chat, *requests)
        await soon(lambda: len(worker.ended) == 200)
    assert worker.begun == requests
    assert await held(chat, CHAT_REQUESTS_STREAM) == []


async def test_what_is_held_is_not_begun_again_when_it_is_delivered_twice(chat: Connection) -> None:
    """A heartbeat was lost, so it came again: the work goes on under the new lease."""
    release = asyncio.Event()
    seen: list[Delivery] = []

    async def hold(_worker: Worker, delivery: Delivery) -> None:
        seen.append(delivery)
        await release.wait()

    async with working(chat, hold) as worker:
        worker.work._loops[1].cancel()  # no heartbeats
        await ask(chat, b"one")
        await soon(lambda: bool(seen) and seen[0].deliveries == 2)
        release.set()
        await soon(lambda: worker.ended == [b"one"])
    assert worker.begun == [b"one"]
    assert await held(chat, CHAT_REQUESTS_STREAM) == []


async def test_leases_of_what_runs_and_of_what_waits_are_kept(chat: Connection) -> None:
    release = asyncio.Event()

    async def hold(worker: Worker, delivery: Delivery) -> None:
        async with worker.work.slot(delivery):
            await release.wait()

    async with working(chat, hold, slots=1) as worker:
        await ask(chat, b"one", b"two")
        await soon(lambda: len(worker.begun) == 2)
        until = time.monotonic() + 2.5 * LEASE
        await soon(lambda: time.monotonic() > until)
        assert {d.deliveries for d in worker.work._held.values()} == {1}
        release.set()
        await soon(lambda: len(worker.ended) == 2)


async def test_no_more_run_than_there_are_slots(chat: Connection) -> None:
    running = most = 0

    async def hold(worker: Worker, delivery: Delivery) -> None:
        nonlocal running, most
        async with worker.work.slot(delivery):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    async with working(chat, hold, slots=3) as worker:
        await ask(chat, *(b"%d" % n for n in range(100)))
        await soon(lambda: len(worker.ended) == 100)
    assert most == 3


async def test_what_needs_no_place_passes_those_that_wait_for_one(chat: Connection) -> None:
    async def hold(worker: Worker, delivery: Delivery) -> None:
        if delivery.data == b"quick":
            return
        async with worker.work.slot(delivery):
            await asyncio.Event().wait()

    async with working(chat, hold, slots=2) as worker:
        await ask(chat, *(b"slow" for _ in range(20)), b"quick")
        await soon(lambda: worker.ended == [b"quick"])


async def test_who_is_replaced_leaves_the_request_to_the_other(chat: Connection) -> None:
    async def leave(worker: Worker, _delivery: Delivery) -> None:
        if len(worker.begun) == 1:
            raise Superseded

    async with working(chat, leave) as worker:
        began = time.monotonic()
        await ask(chat, b"one")
        await soon(lambda: worker.ended == [b"one"])
    assert worker.begun == [b"one", b"one"]
    assert time.monotonic() - began > LEASE * 0.9  # not handed back: the lease ran out


@pytest.mark.parametrize("error", [ZeroDivisionError(), NatsError("away")])
async def test_what_fails_unexpectedly_is_tried_again(chat: Connection, error: Exception) -> None:
    async def stumble(worker: Worker, _delivery: Delivery) -> None:
        if len(worker.begun) <= 2:
            raise error

    async with working(chat, stumble) as worker:
        await ask(chat, b"one")
        await soon(lambda: worker.ended == [b"one"], LEASE * 3)
    assert len(worker.begun) == 3


async def test_what_is_beyond_hope_is_buried(
    chat: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "HOPELESS", 3)
    monkeypatch.setattr(work, "AGAIN_SECONDS", 0.01)

    async def stumble(_worker: Worker, _delivery: Delivery) -> None:
        raise ZeroDivisionError

    async with working(chat, stumble) as worker:
        await ask(chat, b"one")
        await soon(lambda: bool(worker.dead_lettered))
        assert worker.dead_lettered[0][0] == b"one"
        assert "delivered 4 times" in str(worker.dead_lettered[0][1])
        await soon(lambda: not worker.work._held)
    assert len(worker.begun) == 3
    assert await held(chat, CHAT_REQUESTS_STREAM) == []


async def test_a_deleted_consumer_is_made_again_as_it_must_be(chat: Connection) -> None:
    async with working(chat, at_once) as worker:
        await ask(chat, b"one")
        await soon(lambda: worker.ended == [b"one"])
        await chat.api(f"CONSUMER.DELETE.{CHAT_REQUESTS_STREAM}.{CHAT_WORKERS}")
        await ask(chat, b"two")
        await soon(lambda: worker.ended == [b"one", b"two"])
        await provision.verify(chat, 1, provision.Retention())


# ---------------------------------------------------------------- drain


async def test_what_runs_is_finished_and_what_waits_is_handed_back_at_once(
    chat: Connection, server: NatsServer
) -> None:
    release = asyncio.Event()

    async def hold(worker: Worker, delivery: Delivery) -> None:
        async with worker.work.slot(delivery):
            await release.wait()

    async with connected(server.url) as other:
        first = Worker(chat, hold, slots=2)
        await first.work.start()
        await ask(chat, *(b"%d" % n for n in range(8)))
        await soon(lambda: len(first.begun) == 8)
        async with working(other, at_once) as second:
            draining = asyncio.create_task(first.work.drain(10))
            await soon(lambda: len(second.ended) == 6, 1.0)
            assert not draining.done()
            assert sorted(second.ended) == [b"%d" % n for n in range(2, 8)]
            release.set()
            await asyncio.wait_for(draining, 5)
    assert sorted(first.ended) == [b"0", b"1"]
    assert await held(chat, CHAT_REQUESTS_STREAM) == []


async def test_what_does_not_finish_in_time_is_handed_back(
    chat: Connection, server: NatsServer
) -> None:
    async def hold(worker: Worker, delivery: Delivery) -> None:
        async with worker.work.slot(delivery):
            await asyncio.Event().wait()

    first = Worker(chat, hold)
    await first.work.start()
    await ask(chat, b"one")
    await soon(lambda: bool(first.work._running))
    async with connected(server.url) as other, working(other, at_once) as second:
        began = time.monotonic()
        await asyncio.wait_for(first.work.drain(0.2), 5)
        await soon(lambda: second.ended == [b"one"], LEASE / 2)
        assert 0.2 <= time.monotonic() - began < LEASE + 0.2


async def test_under_a_flood_nothing_is_stranded_with_who_leaves(
    chat: Connection, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lease far longer than the test: what was given to the leaving one is handed back."""
    monkeypatch.setattr(provision, "LEASE_SECONDS", 30.0)
    await provisioned(chat)
    requests = [b"%d" % n for n in range(400)]
    async with connected(server.url) as other, working(other, at_once) as second:
        asking = asyncio.create_task(ask(chat, *requests))
        for _ in range(5):
            leaving = Worker(chat, for_ever)
            await leaving.work.start()
            await soon(lambda worker=leaving: bool(worker.begun) or asking.done())  # type: ignore[misc]
            await asyncio.wait_for(leaving.work.drain(0), 5)
            assert leaving.work._tasks == {}
        await asking
        await soon(lambda: len(second.ended) == 400, 5)
    assert sorted(second.ended) == sorted(requests)


async def test_a_drain_alone_hands_back_what_comes_again(chat: Connection) -> None:
    """Nobody else is there: what is handed back must not come back to who leaves."""
    leaving = Worker(chat, for_ever)
    await leaving.work.start()
    await ask(chat, *(b"%d" % n for n in range(20)))
    await soon(lambda: len(leaving.begun) == 20)
    began = time.monotonic()
    await asyncio.wait_for(leaving.work.drain(0), 8)
    assert time.monotonic() - began < 2
    async with working(chat, at_once) as second:
        await soon(lambda: len(second.ended) == 20, LEASE)


# ---------------------------------------------------------------- the fence


async def test_a_worker_that_was_away_for_a_lease_looks_from_then_on(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LEASE_SECONDS", LEASE)
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
        await delivery.heartbeat(LEASE)
        confirmed = delivery.confirmed
        await soon(lambda: delivery.confirmed > confirmed)
        assert not fence.fresh
        await fence.verify()
    assert looks == 1
