"""Work from a real queue: in slots, handed back when it cannot be done here, never lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

from local.nats_server import NatsServer
from shared.contract import CHAT_REQUESTS_STREAM, CHAT_WORKERS
from shared.errors import Failure, NatsError, Superseded
from shared.nats.connection import Connection
from shared.nats.lease import Delivery
from shared.nats.provision import Leases, consumer, verify
from shared.nats.publish import publish
from shared.nats.work import MAX_DELIVERIES, Work
from shared.process.logs import _Json, ids, note
from shared.process.settings import Retention
from shared.retry import Backoff
from tests.integration.harness import connected, held, provisioned, soon
from tests.integration.shared.nats.puller import LEASE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


pytestmark = pytest.mark.timeout(120)


LEASES = Leases(work=LEASE)
LONG = Leases(work=60.0)


@pytest.fixture
async def chat(empty: Connection) -> Connection:
    """Connected; the streams are there, with a short lease."""
    await provisioned(empty, LEASES)
    return empty


@pytest.fixture
async def patient(empty: Connection) -> Connection:
    """As `chat`, with a lease far longer than a test: what is handed back is not waited for."""
    await provisioned(empty, LONG)
    return empty


class Worker:
    """Takes work; `steps` are what it does with the deliveries, by body."""

    def __init__(
        self,
        connection: Connection,
        do: Callable[[Worker, Delivery], Awaitable[None]],
        slots: int = 4,
        again: float = 0.1,
        max_deliveries: int = MAX_DELIVERIES,
        max_bytes: int = 10_000_000,
        leases: Leases = LEASES,
    ) -> None:
        self.do = do
        self.begun: list[bytes] = []
        self.ended: list[bytes] = []
        self.given_up: list[tuple[bytes, Failure]] = []
        self.work = Work(
            connection,
            consumer(CHAT_WORKERS, leases),
            slots=slots,
            handle=self._handle,
            hopeless=self._hopeless,
            again=Backoff(again, again),
            max_deliveries=max_deliveries,
            max_bytes=max_bytes,
            ids=lambda delivery: ids("c", delivery.data.decode(), delivery.headers),
        )

    async def _handle(self, delivery: Delivery) -> None:
        self.begun.append(delivery.data)
        await self.do(self, delivery)
        await delivery.ack()
        self.ended.append(delivery.data)

    async def _hopeless(self, delivery: Delivery, error: Failure) -> None:
        self.given_up.append((delivery.data, error))
        await delivery.ack()


@contextlib.asynccontextmanager
async def working(
    connection: Connection, do: Callable[[Worker, Delivery], Awaitable[None]], **more: Any
) -> AsyncIterator[Worker]:
    worker = Worker(connection, do, **more)
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


async def test_leases_of_what_runs_and_of_what_waits_are_kept(empty: Connection) -> None:
    chat, leases = empty, Leases(work=1.5)  # a machine that is busy for longer loses one
    await provisioned(chat, leases)
    release = asyncio.Event()

    async def hold(worker: Worker, delivery: Delivery) -> None:
        async with worker.work.slot(delivery):
            await release.wait()

    async with working(chat, hold, slots=1, leases=leases) as worker:
        await ask(chat, b"one", b"two")
        await soon(lambda: len(worker.begun) == 2)
        until = time.monotonic() + 2.5 * leases.work
        await soon(lambda: time.monotonic() > until)
        assert {d.deliveries for d in worker.work._deliveries()} == {1}
        release.set()
        await soon(lambda: len(worker.ended) == 2)


async def test_what_is_more_than_memory_is_for_goes_back_and_is_done_later(
    chat: Connection,
) -> None:
    """The youngest first; what the others wait for is never among those that go."""
    release = asyncio.Event()
    most = 0

    async def hold(worker: Worker, delivery: Delivery) -> None:
        nonlocal most
        most = max(most, sum(len(each.data) for each in worker.work._deliveries()))
        async with worker.work.slot(delivery):
            await release.wait()

    large = [b"%d" % n + bytes(400_000) for n in range(20)]
    async with working(chat, hold, slots=2, max_bytes=2_000_000) as worker:
        await ask(chat, *large)
        await soon(lambda: len(worker.begun) >= 6)
        release.set()
        await soon(lambda: len(worker.ended) == 20, 25)
    assert sorted(worker.ended) == sorted(large)
    assert most <= 2_000_000 + 2 * 400_010


async def test_no_more_run_than_there_are_slots(chat: Connection) -> None:
    running = highest = 0
    all_taken = asyncio.Event()

    async def hold(worker: Worker, delivery: Delivery) -> None:
        nonlocal running, highest
        async with worker.work.slot(delivery):
            running += 1
            highest = max(highest, running)
            if running == 3:
                all_taken.set()
            await all_taken.wait()
            await asyncio.sleep(0.001)
            running -= 1

    async with working(chat, hold, slots=3) as worker:
        await ask(chat, *(b"%d" % n for n in range(100)))
        await soon(lambda: len(worker.ended) == 100)
    assert highest == 3


async def test_what_needs_no_slot_passes_those_that_wait_for_one(chat: Connection) -> None:
    async def hold(worker: Worker, delivery: Delivery) -> None:
        if delivery.data == b"quick":
            return
        async with worker.work.slot(delivery):
            await asyncio.Event().wait()

    async with working(chat, hold, slots=2) as worker:
        await ask(chat, *(b"slow" for _ in range(20)), b"quick")
        await soon(lambda: worker.ended == [b"quick"])


async def test_who_is_superseded_leaves_the_request_to_the_other(chat: Connection) -> None:
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
async def test_what_fails_unexpectedly_is_tried_again(
    patient: Connection, error: Exception
) -> None:
    async def stumble(worker: Worker, _delivery: Delivery) -> None:
        if len(worker.begun) <= 2:
            raise error

    async with working(patient, stumble, leases=LONG) as worker:
        await ask(patient, b"one")
        await soon(lambda: worker.ended == [b"one"], 30)
    assert len(worker.begun) == 3


class Lines(logging.Handler):
    """What is written of the work."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(json.loads(_Json().format(record)))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    handler, logger = Lines(), logging.getLogger("shared.nats.work")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel("DEBUG")
    yield handler.told
    logger.removeHandler(handler)
    logger.setLevel(level)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": "chat", **labels}) or 0.0


def counts() -> list[float]:
    """Messages that came again; handed back for a bug, for NATS, for a stop; left to another."""
    reasons = ("failed", "nats", "stopping")
    return [
        counted("parley_redeliveries_total"),
        *(counted("parley_handed_back_total", reason=reason) for reason in reasons),
        counted("parley_fenced_writes_total"),
    ]


async def test_what_comes_back_is_counted_and_told_of(
    patient: Connection, lines: list[dict[str, Any]]
) -> None:
    async def stumble(worker: Worker, delivery: Delivery) -> None:
        match len(worker.begun):
            case 1:
                note(attempt=1)
                raise KeyError(delivery.data)
            case 2:
                raise NatsError("away")
            case 3:
                await delivery.nak()
                raise Superseded
            case _:
                await asyncio.Event().wait()

    before = counts()
    async with working(patient, stumble, leases=LONG) as worker:
        await ask(patient, b"t1")
        await soon(lambda: len(worker.begun) == 4)
    grown = [now - then for now, then in zip(counts(), before, strict=True)]

    assert grown == [3, 1, 1, 1, 1]
    assert [(line["event"], line.get("why")) for line in lines] == [
        ("work.failed", None),
        ("work.handed_back", "nats"),
        ("work.superseded", None),
        ("work.handed_back", "stopping"),
    ]
    assert [line["attempt"] for line in lines] == [1, 0, 0, 0]
    for line in lines:
        assert (line["conversation_id"], line["turn_id"]) == ("c", "t1")
    assert lines[0]["exception"].endswith("KeyError")  # and not what was asked


@pytest.mark.parametrize("again", [0.0, 0.01])
async def test_what_fails_however_often_it_is_delivered_is_given_up(
    chat: Connection, again: float
) -> None:
    async def stumble(_worker: Worker, _delivery: Delivery) -> None:
        raise ZeroDivisionError

    async with working(chat, stumble, max_deliveries=3, again=again) as worker:
        await ask(chat, b"one")
        await soon(lambda: bool(worker.given_up))
        assert worker.given_up[0][0] == b"one"
        assert "delivered 3 times" in str(worker.given_up[0][1])
        await soon(lambda: not worker.work._held)
    assert len(worker.begun) == 3


async def test_what_is_handed_back_never_counts_towards_giving_up(chat: Connection) -> None:
    async def hand_back(worker: Worker, delivery: Delivery) -> None:
        if len(worker.begun) <= 4:
            raise NatsError("a newer version wrote it")
        if len(worker.begun) <= 8:
            await delivery.nak()
            raise Superseded

    async with working(chat, hand_back, max_deliveries=3, again=0.01) as worker:
        await ask(chat, b"one")
        await soon(lambda: worker.ended == [b"one"])
    assert worker.given_up == []
    assert len(worker.begun) == 9
    assert await held(chat, CHAT_REQUESTS_STREAM) == []


async def test_a_deleted_consumer_is_made_again_as_it_must_be(chat: Connection) -> None:
    async with working(chat, at_once) as worker:
        await ask(chat, b"one")
        await soon(lambda: worker.ended == [b"one"])
        await chat.api(f"CONSUMER.DELETE.{CHAT_REQUESTS_STREAM}.{CHAT_WORKERS}")
        await ask(chat, b"two")
        await soon(lambda: worker.ended == [b"one", b"two"])
        await verify(chat, 1, Retention(), LEASES)


# ---------------------------------------------------------------- drain


async def test_what_runs_is_finished_and_what_waits_is_handed_back_at_once(
    patient: Connection, server: NatsServer
) -> None:
    release = asyncio.Event()

    async def hold(worker: Worker, delivery: Delivery) -> None:
        async with worker.work.slot(delivery):
            await release.wait()

    async with connected(server.url) as other:
        first = Worker(patient, hold, slots=2, leases=LONG)
        await first.work.start()
        await ask(patient, *(b"%d" % n for n in range(8)))
        await soon(lambda: len(first.begun) == 8)
        async with working(other, at_once, leases=LONG) as second:
            draining = asyncio.create_task(first.work.drain(60))
            await soon(lambda: len(second.ended) == 6, 30)
            assert not draining.done()
            assert sorted(second.ended) == [b"%d" % n for n in range(2, 8)]
            release.set()
            await asyncio.wait_for(draining, 30)
    assert sorted(first.ended) == [b"0", b"1"]
    assert await held(patient, CHAT_REQUESTS_STREAM) == []


async def test_what_does_not_finish_in_time_is_handed_back(
    patient: Connection, server: NatsServer
) -> None:
    async def hold(worker: Worker, delivery: Delivery) -> None:
        async with worker.work.slot(delivery):
            await asyncio.Event().wait()

    first = Worker(patient, hold, leases=LONG)
    await first.work.start()
    await ask(patient, b"one")
    await soon(lambda: any(each.runs for each in first.work._held.values()))
    async with connected(server.url) as other, working(other, at_once, leases=LONG) as second:
        began = time.monotonic()
        await asyncio.wait_for(first.work.drain(0.2), 30)
        await soon(lambda: second.ended == [b"one"], 30)
        assert time.monotonic() - began >= 0.2


async def test_under_a_flood_nothing_is_stranded_with_who_leaves(
    patient: Connection, server: NatsServer
) -> None:
    """What was given to the leaving one is handed back."""
    requests = [b"%d" % n for n in range(400)]
    async with (
        connected(server.url) as other,
        working(other, at_once, leases=LONG) as second,
    ):
        asking = asyncio.create_task(ask(patient, *requests))
        for _ in range(5):
            leaving = Worker(patient, for_ever, leases=LONG)
            await leaving.work.start()
            await soon(lambda worker=leaving: bool(worker.begun) or asking.done())  # type: ignore[misc]
            await asyncio.wait_for(leaving.work.drain(0), 30)
            assert leaving.work._held == {}
        await asking
        await soon(lambda: len(second.ended) == 400, 30)
    assert sorted(second.ended) == sorted(requests)


async def test_a_drain_alone_hands_back_what_comes_again(patient: Connection) -> None:
    """Nobody else is there: what is handed back must not come back to who leaves."""
    leaving = Worker(patient, for_ever, leases=LONG)
    await leaving.work.start()
    await ask(patient, *(b"%d" % n for n in range(20)))
    await soon(lambda: len(leaving.begun) == 20)
    await asyncio.wait_for(leaving.work.drain(0), 30)
    async with working(patient, at_once, leases=LONG) as second:
        await soon(lambda: len(second.ended) == 20, 30)
