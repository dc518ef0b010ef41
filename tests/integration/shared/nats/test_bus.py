"""The connection on a real nats-server: publishes, the past of a subject, documents."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import nats
import pytest
import pytest_asyncio

from local.nats_server import NatsServer
from shared.contract import MSG_ID
from shared.errors import ApiError, Conflict, NatsError, Superseded
from shared.nats import read
from shared.nats.connection import Connection, settle
from shared.nats.documents import Bucket, Held
from shared.nats.publish import WINDOW, PublishWindow, publish
from shared.nats.read import read_back
from tests.integration.harness import Lease, Wire, connected, emptied, held, provisioned, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.timeout(30)


# ---------------------------------------------------------------- here


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def connection(server: NatsServer) -> AsyncIterator[Connection]:
    """Connected; there is one stream, S."""
    async with connected(server.url) as connection:
        await emptied(connection)
        await stream_s(connection)
        yield connection


async def stream_s(connection: Connection) -> None:
    await connection.api(
        "STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_direct": True}
    )


async def bodies(connection: Connection, subject: str = "s.a", start: int = 1) -> list[bytes]:
    return [message.data async for message in read_back(connection, "S", subject, start)]


def numbered(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


# ---------------------------------------------------------------- publish


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
    assert time.monotonic() - began < 1


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
    assert time.monotonic() - began < 1
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


async def test_nothing_is_left_behind_for_after_a_reconnect() -> None:
    """What waits there would be sent by a worker that has been replaced in the meantime."""
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        await stream_s(connection)
        await server.kill()
        await soon(lambda: not connection.client.is_connected)
        connection.publish_seconds = 0
        with pytest.raises(NatsError, match="not connected"):
            await publish(connection, "s.a", b"never")
        with pytest.raises(NatsError, match="not connected"):
            await connection.send("s.a", b"never")
        await server.restart()
        await soon(lambda: connection.epoch == 1)
        connection.publish_seconds = 5
        await publish(connection, "s.a", b"later")
        assert await bodies(connection) == [b"later"]


async def test_a_publish_outlives_a_restart_of_the_server() -> None:
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        await stream_s(connection)
        await server.kill()
        sent = asyncio.create_task(publish(connection, "s.a", b"one", {MSG_ID: "x"}))
        await server.restart()
        await asyncio.wait_for(sent, 10)
        assert await bodies(connection) == [b"one"]


# ---------------------------------------------------------------- window


async def send_all(connection: Connection, count: int, *, subject: str = "s.a") -> None:
    window = PublishWindow(connection)
    for body in numbered(count):
        await window.send(subject, body, {MSG_ID: f"{subject}.{body.decode()}"})
        await asyncio.sleep(0)  # acks come in between
    await window.drained()
    assert window.unacked == 0


async def test_an_outbox_keeps_its_order(connection: Connection) -> None:
    await asyncio.gather(
        send_all(connection, 1_000, subject="s.a"), send_all(connection, 1_000, subject="s.b")
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
        assert window.unacked == WINDOW
    finally:
        server.thaw()
    await asyncio.wait_for(one_more, 5)
    await window.drained()
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


async def test_an_outbox_refuses_what_nats_does_not_take_and_goes_on(
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
        sending = asyncio.create_task(send_all(connection, 3_000))
        for least in (400, 1_200):
            until = time.monotonic() + 10
            while (await near.api("STREAM.INFO.S"))["state"]["messages"] < least:
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


async def test_an_outbox_that_is_never_acked_fails_in_the_end(
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


async def test_a_closed_outbox_says_nothing_more(
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


async def test_who_is_not_looks_before_each_publish_and_stops_when_replaced(
    connection: Connection,
) -> None:
    lease = Lease()
    window = PublishWindow(connection, lease)
    lease.fresh = False
    for body in numbered(3):
        await window.send("s.a", body, {MSG_ID: body.decode()})
    assert lease.looks == 3
    lease.replaced = True
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
        wire.loses, lease.replaced = False, True
        with pytest.raises(Superseded):
            await window.drained()
    assert await bodies(connection) == []


# ---------------------------------------------------------------- the past


async def test_the_past_is_read_back_in_many_batches(connection: Connection) -> None:
    await asyncio.gather(
        send_all(connection, 700, subject="s.a"), send_all(connection, 300, subject="s.b")
    )
    got = [m.data async for m in read_back(connection, "S", "s.a", 1, batch=64)]
    assert got == numbered(700)
    everything = [m async for m in read_back(connection, "S", "s.>", 1, batch=33)]
    assert [m.sequence for m in everything] == list(range(1, 1_001))
    assert {m.subject for m in everything} == {"s.a", "s.b"}


async def test_the_past_begins_at_a_sequence(connection: Connection) -> None:
    await send_all(connection, 10)
    assert await bodies(connection, start=8) == [b"7", b"8", b"9"]
    assert await bodies(connection, start=0) == numbered(10)
    assert await bodies(connection, start=11) == []


async def test_the_past_begins_at_a_time(connection: Connection) -> None:
    await send_all(connection, 5)
    answer = await connection.api("STREAM.MSG.GET.S", {"seq": 4})
    since = answer["message"]["time"]
    got = [m.data async for m in read_back(connection, "S", "s.a", 1, since=since, batch=1)]
    assert got == [b"3", b"4"]
    since = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert [m async for m in read_back(connection, "S", "s.a", 1, since=since)] == []


async def test_a_subject_without_a_past(connection: Connection) -> None:
    assert await bodies(connection, "s.nothing") == []
    await publish(connection, "s.a", b"one")
    assert await bodies(connection, "s.nothing") == []


async def test_large_messages_that_end_a_batch_early_are_all_read(
    server: NatsServer, connection: Connection
) -> None:
    for body in numbered(12):
        await publish(connection, "s.a", body.rjust(900_000))
    async with Wire(server.url) as wire, connected(wire.url) as far:
        got = await bodies(far)
        assert [body.strip() for body in got] == numbered(12)
        assert wire.said.count(b"DIRECT.GET.S") > 1


async def test_headers_and_bodies_come_back_as_they_went(connection: Connection) -> None:
    body = bytes(range(256)) * 20
    await publish(connection, "s.a", body, {"Plain": "grün: ✓"})
    async for message in read_back(connection, "S", "s.a", 1):
        assert message.data == body
        assert message.headers["Plain"] == "grün: ✓"


async def test_reading_back_from_a_stream_that_is_not_there_is_an_error(
    connection: Connection,
) -> None:
    with pytest.raises(NatsError):
        [m async for m in read_back(connection, "NONE", "s.a", 1)]


async def test_reading_back_while_nats_is_away_is_an_error(
    server: NatsServer, connection: Connection
) -> None:
    connection.request_seconds = 0.2
    server.freeze()
    try:
        with pytest.raises(NatsError, match="no answer"):
            await bodies(connection)
    finally:
        server.thaw()


# ---------------------------------------------------------------- the leader


async def test_the_last_message_of_a_subject(connection: Connection) -> None:
    assert await read.last(connection, "S", "s.a") is None
    await publish(connection, "s.a", b"one")
    await publish(connection, "s.a", b"two", {"H": "x"})
    await publish(connection, "s.b", b"three")
    last = await read.last(connection, "S", "s.a")
    assert last is not None
    assert (last.subject, last.sequence, last.data) == ("s.a", 2, b"two")
    assert last.headers == {"H": "x"}


async def test_the_next_message_of_a_subject(connection: Connection) -> None:
    for body in (b"one", b"", b"three"):
        await publish(connection, "s.a", body)
        await publish(connection, "s.b", b"other")
    found = [await read.first(connection, "S", "s.a")]
    assert [m and (m.sequence, m.data) for m in found] == [
        (1, b"one"),
    ]


async def test_a_decision_is_not_made_on_a_stream_that_is_not_there(connection: Connection) -> None:
    """Else a conversation whose bucket is missing would look like a new one."""
    with pytest.raises(ApiError):
        await read.last(connection, "NONE", "s.a")


# ---------------------------------------------------------------- documents


@pytest.fixture
async def bucket(server: NatsServer) -> AsyncIterator[Bucket]:
    async with connected(server.url) as connection:
        await provisioned(connection)
        yield Bucket(connection, "conversations")


async def test_a_document_that_is_not_there(bucket: Bucket) -> None:
    assert await bucket.get("c") == Held(None, 0)


async def test_a_document_is_changed_by_who_has_read_it_last(bucket: Bucket) -> None:
    first = await bucket.put("c", b"one", 0)
    second = await bucket.put("c", b"two", first)
    assert await bucket.get("c") == Held(b"two", second)
    for stale in (0, first):
        with pytest.raises(Conflict):
            await bucket.put("c", b"three", stale)
    assert (await bucket.get("c")).value == b"two"


async def test_of_two_that_write_at_once_one_wins(server: NatsServer, bucket: Bucket) -> None:
    async with connected(server.url) as other:
        theirs = Bucket(other, "conversations")
        for n in range(30):
            before = await bucket.get("c")
            outcomes = await asyncio.gather(
                bucket.put("c", b"ours %d" % n, before.revision),
                theirs.put("c", b"theirs %d" % n, before.revision),
                return_exceptions=True,
            )
            lost = [o for o in outcomes if isinstance(o, Conflict)]
            assert len(lost) == 1
            words = b"theirs" if lost[0] is outcomes[0] else b"ours"
            assert (await bucket.get("c")).value == b"%s %d" % (words, n)


async def test_a_value_that_another_client_deleted_is_gone(
    server: NatsServer, bucket: Bucket
) -> None:
    await bucket.put("c", b"one", 0)
    client = await nats.connect(server.url)
    try:
        await (await client.jetstream().key_value("conversations")).delete("c")
    finally:
        await client.close()
    gone = await bucket.get("c")
    assert gone.value is None
    assert [key async for key, _ in bucket.entries(">")] == []
    await bucket.put("c", b"two", gone.revision)
    assert (await bucket.get("c")).value == b"two"


async def test_entries_are_those_that_match(bucket: Bucket) -> None:
    for key in ("a", "a.1", "a.2", "ab.1", "b.1"):
        await bucket.put(key, key.encode(), 0)
    assert [entry async for entry in bucket.entries("a.*")] == [("a.1", b"a.1"), ("a.2", b"a.2")]
    assert [entry async for entry in bucket.entries("c.*")] == []


async def test_erasing_leaves_no_marker_and_nothing_else_is_touched(
    bucket: Bucket,
) -> None:
    for key in ("a", "a.1", "a.2", "ab.1", "b.1"):
        await bucket.put(key, key.encode(), 0)
    await bucket.erase("a.*")
    left = await held(bucket.connection, "KV_conversations")
    assert [m.subject.removeprefix("$KV.conversations.") for m in left] == ["a", "ab.1", "b.1"]
    await bucket.erase("a.*")
    await bucket.put("a.1", b"new", 0)


# ---------------------------------------------------------------- requests


async def test_a_request_that_nobody_answers_ends_in_time(connection: Connection) -> None:
    silent = await connection.client.subscribe("silent")
    await settle(connection.client)
    with pytest.raises(NatsError, match="silent: no answer in time"):
        await connection.request("silent", seconds=0.05)
    await silent.unsubscribe()


async def test_an_answer_that_comes_too_late_disturbs_nobody(connection: Connection) -> None:
    late: list[Any] = []

    async def keep(msg: Any) -> None:
        late.append(msg)

    await connection.client.subscribe("late", cb=keep)
    await settle(connection.client)
    with pytest.raises(NatsError):
        await connection.request("late", b"a", seconds=0.05)
    asking = asyncio.create_task(connection.request("late", b"b", seconds=5))
    await soon(lambda: len(late) == 2)
    await late[0].respond(b"for a")
    await late[1].respond(b"for b")
    assert (await asking).data == b"for b"


async def test_who_waits_for_a_reconnect_is_told_once_and_can_leave() -> None:
    told: list[str] = []
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        connection.on_reconnect(lambda: told.append("stays"))
        leave = connection.on_reconnect(lambda: told.append("leaves"))
        leave()
        leave()
        await server.restart()
        await soon(lambda: bool(told))
    assert told == ["stays"]
