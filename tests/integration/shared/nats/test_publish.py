"""Publishes on a real nats-server: acked, in order, once, or an error within the deadline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from typing import TYPE_CHECKING

import pytest

from local.nats_server import NatsServer
from shared.contract import MSG_ID
from shared.errors import ApiError, Conflict, Full, NatsError, Superseded, Torn
from shared.nats.connection import Connection, settle
from shared.nats.publish import WINDOW, PublishWindow, StoredOrder, publish
from shared.nats.read import read_back
from tests.integration.harness import (
    Lease,
    Wire,
    connected,
    held,
    numbered,
    send_all,
    soon,
    stream_s,
)

if TYPE_CHECKING:
    from nats.aio.msg import Msg

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def connection(empty: Connection) -> Connection:
    """Connected; there is one stream, S."""
    await stream_s(empty)
    return empty


async def bodies(connection: Connection, subject: str = "s.a", start: int = 1) -> list[bytes]:
    async def read() -> list[bytes]:
        return [message.data async for message in read_back(connection, "S", subject, start)]

    return await connection.persist(read)  # the connection may have been lost just now


# ---------------------------------------------------------------- one by one


async def test_a_publish_returns_when_the_stream_has_it(connection: Connection) -> None:
    first = await publish(connection, "s.a", b"one")
    second = await publish(connection, "s.a", b"two", {"Some": "header"})
    assert (first.stream, first.seq, second.seq) == ("S", 1, 2)
    messages = await held(connection, "S")
    assert [m.data for m in messages] == [b"one", b"two"]
    assert messages[1].headers == {"Some": "header"}


async def test_the_same_message_is_kept_once(connection: Connection) -> None:
    first = await publish(connection, "s.a", b"one", {MSG_ID: "x"})
    again = await publish(connection, "s.a", b"one", {MSG_ID: "x"})
    assert not first.duplicate
    assert again.duplicate
    assert again.seq == first.seq
    assert await bodies(connection) == [b"one"]


async def test_a_publish_that_expects_another_past_is_a_conflict(connection: Connection) -> None:
    await publish(connection, "s.a", b"one")
    with pytest.raises(Conflict):
        await publish(connection, "s.a", b"two", {"Nats-Expected-Last-Subject-Sequence": "7"})
    assert await bodies(connection) == [b"one"]


async def test_a_publish_that_the_stream_refuses_is_not_repeated(connection: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(ApiError, match="expected stream"):
        await publish(connection, "s.a", b"one", {"Nats-Expected-Stream": "OTHER"})
    assert time.monotonic() - began < connection.publish_seconds / 3


async def test_a_publish_that_no_stream_takes_fails_at_its_deadline(connection: Connection) -> None:
    connection.publish_seconds = 0.3
    with pytest.raises(NatsError, match="nobody answers"):
        await publish(connection, "nowhere", b"one")


async def test_a_publish_goes_on_when_its_stream_comes(connection: Connection) -> None:
    await connection.api("STREAM.DELETE.S")
    sent = asyncio.create_task(publish(connection, "s.a", b"one"))
    await stream_s(connection)
    assert (await asyncio.wait_for(sent, 5)).seq == 1


async def test_a_publish_that_is_too_large_for_nats_fails_at_once(connection: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(NatsError, match="payload"):
        await publish(connection, "s.a", bytes(connection.client.max_payload + 1))
    assert time.monotonic() - began < connection.publish_seconds / 3
    assert await bodies(connection) == []


async def test_a_lost_ack_leaves_no_double(server: NatsServer, connection: Connection) -> None:
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.15) as far:
        wire.delay = 0.25  # the stream has it, and its word comes too late
        sent = asyncio.create_task(publish(far, "s.a", b"one", {MSG_ID: "x"}))
        await soon(lambda: wire.said.count(b"HPUB s.a") == 2)
        wire.delay = 0
        ack = await asyncio.wait_for(sent, 5)
    assert ack.duplicate
    assert await bodies(connection) == [b"one"]


async def test_a_publish_outlives_a_restart_of_the_server() -> None:
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        await stream_s(connection)
        await server.kill()
        sent = asyncio.create_task(publish(connection, "s.a", b"one", {MSG_ID: "x"}))
        await server.restart()
        await asyncio.wait_for(sent, 10)
        assert await bodies(connection) == [b"one"]


# ---------------------------------------------------------------- in a window


async def test_a_window_keeps_its_order(connection: Connection) -> None:
    await asyncio.gather(
        send_all(connection, numbered(1_000), "s.a"), send_all(connection, numbered(1_000), "s.b")
    )
    assert await bodies(connection, "s.a") == numbered(1_000)
    assert await bodies(connection, "s.b") == numbered(1_000)


async def test_no_more_than_a_window_is_sent_without_an_ack(
    server: NatsServer, connection: Connection
) -> None:
    window = PublishWindow(connection)
    server.freeze()
    try:
        for body in numbered(WINDOW):
            await window.send("s.a", body, {MSG_ID: body.decode()})
        one_more = asyncio.create_task(window.send("s.a", b"%d" % WINDOW, {MSG_ID: "more"}))
        done, _ = await asyncio.wait({one_more}, timeout=0.1)
        assert not done
        assert window.unacked == connection.unacked == WINDOW
    finally:
        server.thaw()
    await asyncio.wait_for(one_more, 5)
    await window.drained()
    assert connection.unacked == 0
    assert await bodies(connection) == numbered(WINDOW + 1)


async def test_what_the_stream_refuses_is_told_by_the_next_send_and_at_the_end(
    connection: Connection,
) -> None:
    window = PublishWindow(connection)
    await window.send("s.a", b"one", {"Nats-Expected-Stream": "OTHER", MSG_ID: "x"})
    with pytest.raises(ApiError):
        await window.drained()
    with pytest.raises(ApiError):
        await window.send("s.a", b"two", {MSG_ID: "y"})
    assert await bodies(connection) == []


async def test_a_window_refuses_what_nats_does_not_take_and_goes_on(
    connection: Connection,
) -> None:
    window = PublishWindow(connection)
    await window.send("s.a", b"one", {MSG_ID: "1"})
    with pytest.raises(NatsError, match="more than NATS takes"):
        await window.send("s.a", bytes(connection.client.max_payload + 1), {MSG_ID: "2"})
    await window.send("s.a", b"three", {MSG_ID: "3"})
    await window.drained()
    assert await bodies(connection) == [b"one", b"three"]


@pytest.mark.parametrize("how", ["kill", "stop", "cut"])
async def test_a_lost_connection_costs_neither_a_message_nor_the_order(how: str) -> None:
    async with (
        NatsServer(websocket=False) as server,
        Wire(server.url) as wire,
        connected(wire.url) as connection,
        connected(server.url) as near,
    ):
        await stream_s(near)
        sending = asyncio.create_task(send_all(connection, numbered(3_000)))
        for least in (400, 1_200):
            until = time.monotonic() + 30
            while await messages(near) < least:
                assert time.monotonic() < until
            if how == "cut":
                wire.cut()
            else:
                await (server.kill() if how == "kill" else server.stop())
                await server.restart()
                await soon(lambda: near.client.is_connected)
        await asyncio.wait_for(sending, 20)
        assert connection.epoch >= 1
        assert await bodies(near) == numbered(3_000)


async def messages(near: Connection) -> int:
    """How many there are; 0 while nobody can tell: what is asked of a server that dies is lost."""
    with contextlib.suppress(NatsError):
        return int((await near.api("STREAM.INFO.S", seconds=1))["state"]["messages"])
    return 0


async def test_after_a_reconnect_what_was_lost_goes_first(
    server: NatsServer, connection: Connection
) -> None:
    """Also while the client is just back and has not yet told anybody."""
    async with Wire(server.url) as wire, connected(wire.url) as far:
        window = PublishWindow(far)
        wire.loses = True
        for body in numbered(5):
            await window.send("s.a", body, {MSG_ID: body.decode()})
        await soon(lambda: wire.lost.count(b"HPUB") == 5)
        wire.loses, wire.delay = False, 0.1
        wire.cut()
        await soon(lambda: not far.client.is_connected)
        await soon(lambda: far.client.is_connected)
        await window.send("s.a", b"5", {MSG_ID: "5"})
        await window.drained()
    assert await bodies(connection) == numbered(6)


async def test_lost_acks_are_asked_for_again(server: NatsServer, connection: Connection) -> None:
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.2) as far:
        window = PublishWindow(far)
        wire.loses = True
        for body in numbered(3):
            await window.send("s.a", body, {MSG_ID: body.decode()})
        await soon(lambda: wire.lost.count(b"HPUB") == 3)
        wire.loses = False
        await window.drained()
    assert await bodies(connection) == numbered(3)


async def test_a_window_that_is_never_acked_fails_in_the_end(
    server: NatsServer, connection: Connection
) -> None:
    window = PublishWindow(connection)
    connection.publish_seconds = 0.3
    server.freeze()
    try:
        await window.send("s.a", b"one", {MSG_ID: "1"})
        with pytest.raises(NatsError, match="too long"):
            await window.drained()
    finally:
        server.thaw()


async def test_a_closed_window_says_nothing_more(
    server: NatsServer, connection: Connection
) -> None:
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.1) as far:
        window = PublishWindow(far)
        wire.loses = True
        await window.send("s.a", b"one", {MSG_ID: "1"})
        await soon(lambda: b"HPUB" in wire.lost)
        wire.loses = False
        window.close()
        await window.drained()
    assert await bodies(connection) == []


async def test_who_is_sure_of_the_work_does_not_look(connection: Connection) -> None:
    lease = Lease()
    window = PublishWindow(connection, lease)
    await window.send("s.a", b"one", {MSG_ID: "1"})
    await window.drained()
    assert lease.looks == 0


async def test_who_is_not_looks_before_each_publish_and_stops_when_superseded(
    connection: Connection,
) -> None:
    lease = Lease()
    window = PublishWindow(connection, lease)
    lease.fresh = False
    for body in numbered(3):
        await window.send("s.a", body, {MSG_ID: body.decode()})
    assert lease.looks == 3
    lease.superseded = True
    for _ in range(2):
        with pytest.raises(Superseded):
            await window.send("s.a", b"never", {MSG_ID: "never"})
    await window.drained()
    assert await bodies(connection) == numbered(3)


async def test_what_is_sent_again_is_looked_at_first(
    server: NatsServer, connection: Connection
) -> None:
    lease = Lease()
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.1) as far:
        window = PublishWindow(far, lease)
        wire.loses = True
        await window.send("s.a", b"one", {MSG_ID: "1"})
        await soon(lambda: b"HPUB" in wire.lost)
        wire.loses, lease.superseded = False, True
        with pytest.raises(Superseded):
            await window.drained()
    assert await bodies(connection) == []


# ---------------------------------------------------------------- a cluster, by a stand-in


class Stream:
    """Stands in for a stream: takes what comes to `x.>` and answers what it is told to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.refuses: list[tuple[int, int, str]] = []  # code, err_code, description: the first
        self.ignores = 0  # so many, as a leader does that is frozen
        self.sequences: dict[bytes, int] = {}
        self.taken: list[bytes] = []

    async def listen(self) -> None:
        await self._connection.client.subscribe("x.>", cb=self._take)
        await settle(self._connection.client)

    async def _take(self, msg: Msg) -> None:
        self.taken.append(msg.data)
        if self.ignores:
            self.ignores -= 1
            return
        body: dict[str, object] = {"stream": "X"}
        if self.refuses:
            code, err_code, text = self.refuses.pop(0)
            body["error"] = {"code": code, "err_code": err_code, "description": text}
        else:
            body["seq"] = self.sequences.setdefault(msg.data, len(self.sequences) + 1)
        await msg.respond(json.dumps(body).encode())


@pytest.fixture
async def stream(connection: Connection) -> Stream:
    stream = Stream(connection)
    await stream.listen()
    return stream


IN_PROCESS = (409, 10158, "duplicate message id is in process")
NO_LEADER = (503, 10008, "JetStream system temporarily unavailable")
RAFT = (503, 10077, "raft: not leader")
TOO_MANY = (429, 10167, "too many requests")
WRITE_IN_FLIGHT = (400, 10164, "wrong last sequence")
LOST = (400, 10071, "wrong last sequence: 7")
FULL = (503, 10077, "maximum bytes exceeded")


@pytest.mark.parametrize("refusal", [IN_PROCESS, NO_LEADER, RAFT, TOO_MANY, WRITE_IN_FLIGHT])
async def test_a_publish_that_is_refused_for_the_moment_is_asked_again(
    connection: Connection, stream: Stream, refusal: tuple[int, int, str]
) -> None:
    stream.refuses = [refusal, refusal]
    assert (await publish(connection, "x.a", b"one", {MSG_ID: "x"})).seq == 1
    assert stream.taken == [b"one"] * 3


@pytest.mark.parametrize(
    ("refusal", "kind"), [(LOST, Conflict), (FULL, Full), ((400, 10002, "resources"), Full)]
)
async def test_a_publish_that_is_refused_for_good_is_told_at_once(
    connection: Connection, stream: Stream, refusal: tuple[int, int, str], kind: type[Exception]
) -> None:
    stream.refuses = [refusal]
    with pytest.raises(kind):
        await publish(connection, "x.a", b"one")
    assert stream.taken == [b"one"]


async def test_a_write_that_stays_in_flight_counts_as_lost(
    connection: Connection, stream: Stream
) -> None:
    connection.publish_seconds = 0.3
    stream.refuses = [WRITE_IN_FLIGHT] * 100
    with pytest.raises(Conflict):
        await publish(connection, "x.a", b"one")


@pytest.mark.parametrize("refusal", [IN_PROCESS, NO_LEADER, RAFT])
async def test_what_is_refused_for_the_moment_is_sent_again_by_the_window(
    connection: Connection, stream: Stream, refusal: tuple[int, int, str]
) -> None:
    stream.refuses = [refusal]
    connection.ack_seconds = 20.0
    window = PublishWindow(connection)
    began = time.monotonic()
    await window.send("x.a", b"one", {MSG_ID: "1"})
    await window.drained()
    assert stream.taken == [b"one", b"one"]
    assert time.monotonic() - began < connection.ack_seconds / 2  # not only when an ack is late


async def test_a_burst_that_a_change_of_leader_tears_is_named(
    connection: Connection, stream: Stream
) -> None:
    window = PublishWindow(connection)
    for number in range(3):
        await window.send("x.a", b"%d" % number, {MSG_ID: str(number)})
    await window.drained()
    stream.refuses = [NO_LEADER]
    for number in range(3, 8):  # 3 is refused, 4 to 7 are stored, 3 again behind them
        await window.send("x.a", b"%d" % number, {MSG_ID: str(number)})
    with pytest.raises(Torn, match=r"x\.a: a burst was stored out of order"):
        await window.drained()
    assert set(stream.sequences) == {b"%d" % number for number in range(8)}  # all are stored
    with pytest.raises(Torn):
        await window.send("x.a", b"more", {MSG_ID: "more"})
    assert b"more" not in stream.taken


async def test_nothing_overtakes_what_was_refused(connection: Connection, stream: Stream) -> None:
    window = PublishWindow(connection)
    stream.refuses = [NO_LEADER, RAFT]
    await window.send("x.a", b"0", {MSG_ID: "0"})
    await soon(lambda: not window.open)
    for number in range(1, 5):
        await window.send("x.a", b"%d" % number, {MSG_ID: str(number)})
    await window.drained()
    assert stream.taken == [b"0", b"0", b"0", b"1", b"2", b"3", b"4"]


async def test_of_a_burst_that_was_refused_the_oldest_goes_first_and_alone(
    connection: Connection, stream: Stream
) -> None:
    window = PublishWindow(connection)
    stream.refuses = [NO_LEADER] * 6
    for number in range(4):
        await window.send("x.a", b"%d" % number, {MSG_ID: str(number)})
    await window.drained()
    assert stream.taken == [
        *(b"%d" % number for number in range(4)),
        *[b"0"] * 3,
        *(b"%d" % number for number in range(1, 4)),
    ]


async def test_nothing_more_is_sent_behind_what_is_not_acked(
    connection: Connection, stream: Stream
) -> None:
    connection.ack_seconds = 0.5
    window = PublishWindow(connection)
    stream.ignores = 1
    await window.send("x.a", b"0", {MSG_ID: "0"})
    await soon(lambda: not window.open)
    await window.send("x.a", b"1", {MSG_ID: "1"})
    await window.drained()
    assert stream.taken == [b"0", b"0", b"1"]


async def test_what_a_later_one_overtook_is_asked_for_soon(
    connection: Connection, stream: Stream
) -> None:
    connection.ack_seconds = 60
    window = PublishWindow(connection)
    stream.ignores = 1
    for number in range(3):
        await window.send("x.a", b"%d" % number, {MSG_ID: str(number)})
    with pytest.raises(Torn):
        await asyncio.wait_for(window.drained(), 20)
    assert set(stream.sequences) == {b"0", b"1", b"2"}


async def test_a_burst_of_which_no_order_is_asked_may_be_torn(
    connection: Connection, stream: Stream
) -> None:
    stream.refuses = [NO_LEADER]
    window = PublishWindow(connection, ordered=False)
    for number in range(5):
        await window.send("x.a", b"%d" % number, {MSG_ID: str(number)})
    await window.drained()
    assert stream.taken == [b"0", b"1", b"2", b"3", b"4", b"0", *stream.taken[6:]]


async def test_each_stream_has_an_order_of_its_own(connection: Connection, stream: Stream) -> None:
    window = PublishWindow(connection)
    await publish(connection, "s.a", b"first of all")
    for number in range(4):
        await window.send("s.a", b"%d" % number, {MSG_ID: str(number)})
        await window.send("x.a", b"%d" % number, {MSG_ID: str(number)})
    await window.drained()
    assert len(stream.taken) == 4


@pytest.mark.parametrize("seed", range(20))
def test_an_order_is_judged_alike_however_the_acks_come(seed: int) -> None:
    dice = random.Random(seed)
    numbers = list(range(1, 40))
    torn = seed % 2 == 1
    sequences = [number * 3 for number in numbers]
    if torn:
        first, second = sorted(dice.sample(range(len(numbers)), 2))
        sequences[first], sequences[second] = sequences[second], sequences[first]
    acks = list(zip(numbers, sequences, strict=True))
    dice.shuffle(acks)
    order = StoredOrder()
    kept = [order.is_kept(number, sequence, 0) for number, sequence in acks]
    assert all(kept) is not torn


def test_what_nothing_can_come_in_between_is_forgotten() -> None:
    order = StoredOrder()
    for number in range(1, 10 * WINDOW):
        assert order.is_kept(number, number, number - 1)
    assert not order.is_kept(10 * WINDOW, 5, 10 * WINDOW - 1)
    assert len(order._stored) <= 2 * WINDOW + 1
