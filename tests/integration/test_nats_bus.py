"""The bus on a real nats-server: publishes, the past of a subject, documents."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import nats
import pytest
import pytest_asyncio

from local.nats_server import NatsServer
from shared import nats_bus
from shared.contract import MSG_ID
from shared.errors import Replaced
from shared.nats_bus import WINDOW, ApiError, Bus, BusError, Conflict, connect_options
from shared.provision import Retention, verify
from shared.settings import Env, NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.timeout(30)


# ---------------------------------------------------------------- for all tests of adapters on NATS


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Bus]:
    """A bus as a service has it; only that it comes back sooner after a lost connection."""
    buses: list[Bus] = []

    async def reconnected() -> None:
        for bus in buses:
            await bus.reconnected()

    async def disconnected() -> None:
        for bus in buses:
            await bus.disconnected()

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
    bus = Bus(client)
    buses.append(bus)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()
        await client.close()


async def emptied(bus: Bus) -> None:
    """A server without any stream."""
    for name in (await bus.api("STREAM.NAMES"))["streams"] or []:
        await bus.api(f"STREAM.DELETE.{name}")


async def provisioned(bus: Bus) -> None:
    """A server as the services find it, without a message."""
    await emptied(bus)
    await verify(bus, 1, Retention())


async def soon(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until it is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to be so"
        await asyncio.sleep(0.002)


async def held(bus: Bus, stream: str, subject: str = ">") -> list[nats_bus.StoredMessage]:
    """What a stream holds of a subject, as the stream's leader has it."""
    found: list[nats_bus.StoredMessage] = []
    while True:
        after = found[-1].sequence + 1 if found else 1
        message = await bus.leader_get(stream, after=(after, subject))
        if message is None:
            return found
        found.append(message)


class Wire:
    """The network between a client and a server: it can be slow, lose what is sent, and be cut."""

    def __init__(self, url: str) -> None:
        self._far = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.delay = 0.0  # seconds, of what the server says
        self.loses = False  # what the client says
        self.lost = b""
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
                writer.write(data)
        writer.close()

    def cut(self) -> None:
        """As when a cable is pulled: nothing more arrives, on either side."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


# ---------------------------------------------------------------- here


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    """Connected; there is one stream, S."""
    async with connected(server.url) as bus:
        await emptied(bus)
        await stream_s(bus)
        yield bus


async def stream_s(bus: Bus) -> None:
    await bus.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_direct": True})


async def bodies(bus: Bus, subject: str = "s.a", start: int = 1) -> list[bytes]:
    return [message.data async for message in bus.read_back("S", subject, start)]


def numbered(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


# ---------------------------------------------------------------- publish


async def test_a_publish_returns_when_the_stream_has_it(bus: Bus) -> None:
    first = await bus.publish("s.a", b"one")
    second = await bus.publish("s.a", b"two", {"Some": "header"})
    assert (first.stream, first.seq, second.seq) == ("S", 1, 2)
    messages = await held(bus, "S")
    assert [m.data for m in messages] == [b"one", b"two"]
    assert messages[1].headers == {"Some": "header"}


async def test_the_same_message_is_kept_once(bus: Bus) -> None:
    first = await bus.publish("s.a", b"one", {MSG_ID: "x"})
    again = await bus.publish("s.a", b"one", {MSG_ID: "x"})
    assert not first.duplicate
    assert again.duplicate
    assert again.seq == first.seq
    assert await bodies(bus) == [b"one"]


async def test_a_publish_that_expects_another_past_is_a_conflict(bus: Bus) -> None:
    await bus.publish("s.a", b"one")
    with pytest.raises(Conflict):
        await bus.publish("s.a", b"two", {"Nats-Expected-Last-Subject-Sequence": "7"})
    assert await bodies(bus) == [b"one"]


async def test_a_publish_that_the_stream_refuses_is_not_repeated(bus: Bus) -> None:
    began = time.monotonic()
    with pytest.raises(ApiError, match="expected stream"):
        await bus.publish("s.a", b"one", {"Nats-Expected-Stream": "OTHER"})
    assert time.monotonic() - began < 1


async def test_a_publish_that_no_stream_takes_fails_at_its_deadline(bus: Bus) -> None:
    with pytest.raises(BusError, match="no stream"):
        await bus.publish("nowhere", b"one", deadline=0.3)


async def test_a_publish_goes_on_when_its_stream_comes(bus: Bus) -> None:
    await bus.api("STREAM.DELETE.S")
    sent = asyncio.create_task(bus.publish("s.a", b"one"))
    await stream_s(bus)
    assert (await asyncio.wait_for(sent, 5)).seq == 1


async def test_a_publish_that_is_too_large_for_nats_fails_at_once(bus: Bus) -> None:
    began = time.monotonic()
    with pytest.raises(BusError, match="payload"):
        await bus.publish("s.a", bytes(bus.client.max_payload + 1))
    assert time.monotonic() - began < 1
    assert await bodies(bus) == []


async def test_a_lost_ack_leaves_no_double(
    server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "ACK_TIMEOUT", 0.15)
    async with Wire(server.url) as wire, connected(wire.url) as far:
        wire.delay = 0.25  # the stream has it, and its word comes too late
        sent = asyncio.create_task(far.publish("s.a", b"one", {MSG_ID: "x"}))
        await soon(lambda: wire.said.count(b"HPUB s.a") == 2)
        wire.delay = 0
        ack = await asyncio.wait_for(sent, 5)
    assert ack.duplicate
    assert await bodies(bus) == [b"one"]


async def test_nothing_is_left_behind_for_after_a_reconnect() -> None:
    """What waits there would be sent by a worker that has been replaced in the meantime."""
    async with NatsServer(websocket=False) as server, connected(server.url) as bus:
        await stream_s(bus)
        await server.kill()
        await soon(lambda: not bus.client.is_connected)
        with pytest.raises(BusError, match="not connected"):
            await bus.publish("s.a", b"never", deadline=0)
        with pytest.raises(BusError, match="not connected"):
            await bus.tell("s.a", b"never")
        await server.restart()
        await soon(lambda: bus.epoch == 1)
        await bus.publish("s.a", b"later")
        assert await bodies(bus) == [b"later"]


async def test_a_publish_outlives_a_restart_of_the_server() -> None:
    async with NatsServer(websocket=False) as server, connected(server.url) as bus:
        await stream_s(bus)
        await server.kill()
        sent = asyncio.create_task(bus.publish("s.a", b"one", {MSG_ID: "x"}))
        await server.restart()
        await asyncio.wait_for(sent, 10)
        assert await bodies(bus) == [b"one"]


# ---------------------------------------------------------------- outbox


async def send_all(bus: Bus, count: int, *, subject: str = "s.a") -> None:
    outbox = bus.outbox()
    for body in numbered(count):
        await outbox.send(subject, body, {MSG_ID: f"{subject}.{body.decode()}"})
        await asyncio.sleep(0)  # acks come in between
    await outbox.drained()
    assert outbox.unacked == 0


async def test_an_outbox_keeps_its_order(bus: Bus) -> None:
    await asyncio.gather(send_all(bus, 1_000, subject="s.a"), send_all(bus, 1_000, subject="s.b"))
    assert await bodies(bus, "s.a") == numbered(1_000)
    assert await bodies(bus, "s.b") == numbered(1_000)


async def test_no_more_than_a_window_is_sent_without_an_ack(server: NatsServer, bus: Bus) -> None:
    outbox = bus.outbox()
    server.freeze()
    try:
        for body in numbered(WINDOW):
            await outbox.send("s.a", body, {MSG_ID: body.decode()})
        one_more = asyncio.create_task(outbox.send("s.a", b"%d" % WINDOW, {MSG_ID: "more"}))
        done, _ = await asyncio.wait({one_more}, timeout=0.1)
        assert not done
        assert outbox.unacked == WINDOW
    finally:
        server.thaw()
    await asyncio.wait_for(one_more, 5)
    await outbox.drained()
    assert await bodies(bus) == numbered(WINDOW + 1)


async def test_what_the_stream_refuses_is_told_by_the_next_send_and_at_the_end(bus: Bus) -> None:
    outbox = bus.outbox()
    await outbox.send("s.a", b"one", {"Nats-Expected-Stream": "OTHER", MSG_ID: "x"})
    with pytest.raises(ApiError):
        await outbox.drained()
    with pytest.raises(ApiError):
        await outbox.send("s.a", b"two", {MSG_ID: "y"})
    assert await bodies(bus) == []


async def test_an_outbox_refuses_what_nats_does_not_take_and_goes_on(bus: Bus) -> None:
    outbox = bus.outbox()
    await outbox.send("s.a", b"one", {MSG_ID: "1"})
    with pytest.raises(BusError, match="more than NATS takes"):
        await outbox.send("s.a", bytes(bus.client.max_payload + 1), {MSG_ID: "2"})
    await outbox.send("s.a", b"three", {MSG_ID: "3"})
    await outbox.drained()
    assert await bodies(bus) == [b"one", b"three"]


@pytest.mark.parametrize("how", ["kill", "stop", "cut"])
async def test_a_lost_connection_costs_neither_a_message_nor_the_order(how: str) -> None:
    async with (
        NatsServer(websocket=False) as server,
        Wire(server.url) as wire,
        connected(wire.url) as bus,
        connected(server.url) as near,
    ):
        await stream_s(near)
        sending = asyncio.create_task(send_all(bus, 3_000))
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
        assert bus.epoch >= 1
        assert await bodies(near) == numbered(3_000)


async def test_after_a_reconnect_what_was_lost_goes_first(server: NatsServer, bus: Bus) -> None:
    """Also while the client is just back and has not yet told anybody."""
    async with Wire(server.url) as wire, connected(wire.url) as far:
        outbox = far.outbox()
        wire.loses = True
        for body in numbered(5):
            await outbox.send("s.a", body, {MSG_ID: body.decode()})
        await soon(lambda: wire.lost.count(b"HPUB") == 5)
        wire.loses, wire.delay = False, 0.1
        wire.cut()
        await soon(lambda: not far.client.is_connected)
        await soon(lambda: far.client.is_connected)
        await outbox.send("s.a", b"5", {MSG_ID: "5"})
        await outbox.drained()
    assert await bodies(bus) == numbered(6)


async def test_lost_acks_are_asked_for_again(
    server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "ACK_TIMEOUT", 0.2)
    async with Wire(server.url) as wire, connected(wire.url) as far:
        outbox = far.outbox()
        wire.loses = True
        for body in numbered(3):
            await outbox.send("s.a", body, {MSG_ID: body.decode()})
        await soon(lambda: wire.lost.count(b"HPUB") == 3)
        wire.loses = False
        await outbox.drained()
    assert await bodies(bus) == numbered(3)


async def test_an_outbox_that_is_never_acked_fails_in_the_end(
    server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "PUBLISH_DEADLINE", 0.3)
    outbox = bus.outbox()
    server.freeze()
    try:
        await outbox.send("s.a", b"one", {MSG_ID: "1"})
        with pytest.raises(BusError, match="too long"):
            await outbox.drained()
    finally:
        server.thaw()


async def test_a_closed_outbox_says_nothing_more(
    server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "ACK_TIMEOUT", 0.1)
    async with Wire(server.url) as wire, connected(wire.url) as far:
        outbox = far.outbox()
        wire.loses = True
        await outbox.send("s.a", b"one", {MSG_ID: "1"})
        await soon(lambda: b"HPUB" in wire.lost)
        wire.loses = False
        outbox.close()
        await outbox.drained()
    assert await bodies(bus) == []


class Lease:
    """A fence as a worker has it: what it knows, and what it finds when it looks."""

    def __init__(self) -> None:
        self.fresh = True
        self.replaced = False
        self.looks = 0

    async def verify(self) -> None:
        self.looks += 1
        if self.replaced:
            raise Replaced


async def test_who_is_sure_of_the_work_does_not_look(bus: Bus) -> None:
    lease = Lease()
    outbox = bus.outbox(lease)
    await outbox.send("s.a", b"one", {MSG_ID: "1"})
    await outbox.drained()
    assert lease.looks == 0


async def test_who_is_not_looks_before_each_publish_and_stops_when_replaced(bus: Bus) -> None:
    lease = Lease()
    outbox = bus.outbox(lease)
    lease.fresh = False
    for body in numbered(3):
        await outbox.send("s.a", body, {MSG_ID: body.decode()})
    assert lease.looks == 3
    lease.replaced = True
    for _ in range(2):
        with pytest.raises(Replaced):
            await outbox.send("s.a", b"never", {MSG_ID: "never"})
    await outbox.drained()
    assert await bodies(bus) == numbered(3)


async def test_what_is_sent_again_is_looked_at_first(
    server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "ACK_TIMEOUT", 0.1)
    lease = Lease()
    async with Wire(server.url) as wire, connected(wire.url) as far:
        outbox = far.outbox(lease)
        wire.loses = True
        await outbox.send("s.a", b"one", {MSG_ID: "1"})
        await soon(lambda: b"HPUB" in wire.lost)
        wire.loses, lease.replaced = False, True
        with pytest.raises(Replaced):
            await outbox.drained()
    assert await bodies(bus) == []


# ---------------------------------------------------------------- the past


async def test_the_past_is_read_back_in_many_batches(bus: Bus) -> None:
    await asyncio.gather(send_all(bus, 700, subject="s.a"), send_all(bus, 300, subject="s.b"))
    got = [m.data async for m in bus.read_back("S", "s.a", 1, batch=64)]
    assert got == numbered(700)
    everything = [m async for m in bus.read_back("S", "s.>", 1, batch=33)]
    assert [m.sequence for m in everything] == list(range(1, 1_001))
    assert {m.subject for m in everything} == {"s.a", "s.b"}


async def test_the_past_begins_at_a_sequence(bus: Bus) -> None:
    await send_all(bus, 10)
    assert await bodies(bus, start=8) == [b"7", b"8", b"9"]
    assert await bodies(bus, start=0) == numbered(10)
    assert await bodies(bus, start=11) == []


async def test_the_past_begins_at_a_time(bus: Bus) -> None:
    await send_all(bus, 5)
    answer = await bus.api("STREAM.MSG.GET.S", {"seq": 4})
    since = answer["message"]["time"]
    got = [m.data async for m in bus.read_back("S", "s.a", 1, since=since, batch=1)]
    assert got == [b"3", b"4"]
    since = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert [m async for m in bus.read_back("S", "s.a", 1, since=since)] == []


async def test_a_subject_without_a_past(bus: Bus) -> None:
    assert await bodies(bus, "s.nothing") == []
    await bus.publish("s.a", b"one")
    assert await bodies(bus, "s.nothing") == []


async def test_large_messages_that_end_a_batch_early_are_all_read(
    server: NatsServer, bus: Bus
) -> None:
    for body in numbered(12):
        await bus.publish("s.a", body.rjust(900_000))
    async with Wire(server.url) as wire, connected(wire.url) as far:
        got = await bodies(far)
        assert [body.strip() for body in got] == numbered(12)
        assert wire.said.count(b"DIRECT.GET.S") > 1


async def test_headers_and_bodies_come_back_as_they_went(bus: Bus) -> None:
    body = bytes(range(256)) * 20
    await bus.publish("s.a", body, {"Plain": "grün: ✓"})
    async for message in bus.read_back("S", "s.a", 1):
        assert message.data == body
        assert message.headers["Plain"] == "grün: ✓"


async def test_reading_back_from_a_stream_that_is_not_there_is_an_error(bus: Bus) -> None:
    with pytest.raises(BusError):
        [m async for m in bus.read_back("NONE", "s.a", 1)]


async def test_reading_back_while_nats_is_away_is_an_error(
    server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "REQUEST_TIMEOUT", 0.2)
    server.freeze()
    try:
        with pytest.raises(BusError, match="no answer"):
            await bodies(bus)
    finally:
        server.thaw()


# ---------------------------------------------------------------- the leader


async def test_the_last_message_of_a_subject(bus: Bus) -> None:
    assert await bus.leader_get("S", last="s.a") is None
    await bus.publish("s.a", b"one")
    await bus.publish("s.a", b"two", {"H": "x"})
    await bus.publish("s.b", b"three")
    last = await bus.leader_get("S", last="s.a")
    assert last is not None
    assert (last.subject, last.sequence, last.data) == ("s.a", 2, b"two")
    assert last.headers == {"H": "x"}


async def test_the_next_message_of_a_subject(bus: Bus) -> None:
    for body in (b"one", b"", b"three"):
        await bus.publish("s.a", body)
        await bus.publish("s.b", b"other")
    found = [await bus.leader_get("S", after=(n, "s.a")) for n in (0, 1, 2, 4, 6)]
    assert [m and (m.sequence, m.data) for m in found] == [
        (1, b"one"),
        (1, b"one"),
        (3, b""),
        (5, b"three"),
        None,
    ]


async def test_a_decision_is_not_made_on_a_stream_that_is_not_there(bus: Bus) -> None:
    """Else a conversation whose bucket is missing would look like a new one."""
    with pytest.raises(ApiError):
        await bus.leader_get("NONE", last="s.a")


# ---------------------------------------------------------------- documents


@pytest.fixture
async def bucket(server: NatsServer) -> AsyncIterator[nats_bus.Bucket]:
    async with connected(server.url) as bus:
        await provisioned(bus)
        yield bus.bucket("conversations")


async def test_a_document_that_is_not_there(bucket: nats_bus.Bucket) -> None:
    assert await bucket.get("c") == nats_bus.Document(None, 0)


async def test_a_document_is_changed_by_who_has_read_it_last(bucket: nats_bus.Bucket) -> None:
    first = await bucket.put("c", b"one", 0)
    second = await bucket.put("c", b"two", first)
    assert await bucket.get("c") == nats_bus.Document(b"two", second)
    for stale in (0, first):
        with pytest.raises(Conflict):
            await bucket.put("c", b"three", stale)
    assert (await bucket.get("c")).data == b"two"


async def test_of_two_that_write_at_once_one_wins(
    server: NatsServer, bucket: nats_bus.Bucket
) -> None:
    async with connected(server.url) as other:
        theirs = other.bucket("conversations")
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
            assert (await bucket.get("c")).data == b"%s %d" % (words, n)


async def test_a_value_that_another_client_deleted_is_gone(
    server: NatsServer, bucket: nats_bus.Bucket
) -> None:
    await bucket.put("c", b"one", 0)
    client = await nats.connect(server.url)
    try:
        await (await client.jetstream().key_value("conversations")).delete("c")
    finally:
        await client.close()
    gone = await bucket.get("c")
    assert gone.data is None
    assert [key async for key, _ in bucket.entries(">")] == []
    await bucket.put("c", b"two", gone.revision)
    assert (await bucket.get("c")).data == b"two"


async def test_entries_are_those_that_match(bucket: nats_bus.Bucket) -> None:
    for key in ("a", "a.1", "a.2", "ab.1", "b.1"):
        await bucket.put(key, key.encode(), 0)
    assert [entry async for entry in bucket.entries("a.*")] == [("a.1", b"a.1"), ("a.2", b"a.2")]
    assert [entry async for entry in bucket.entries("c.*")] == []


async def test_erasing_leaves_no_marker_and_nothing_else_is_touched(
    bucket: nats_bus.Bucket,
) -> None:
    for key in ("a", "a.1", "a.2", "ab.1", "b.1"):
        await bucket.put(key, key.encode(), 0)
    await bucket.erase("a.*")
    left = await held(bucket.bus, "KV_conversations")
    assert [m.subject.removeprefix("$KV.conversations.") for m in left] == ["a", "ab.1", "b.1"]
    await bucket.erase("a.*")
    await bucket.put("a.1", b"new", 0)


# ---------------------------------------------------------------- requests


async def test_a_request_that_nobody_answers_ends_in_time(bus: Bus) -> None:
    silent = await bus.client.subscribe("silent")
    await nats_bus.settle(bus.client)
    with pytest.raises(BusError, match=r"no answer from silent within 0\.05 s"):
        await bus.request("silent", timeout=0.05)
    await silent.unsubscribe()


async def test_an_answer_that_comes_too_late_disturbs_nobody(bus: Bus) -> None:
    late: list[Any] = []

    async def keep(msg: Any) -> None:
        late.append(msg)

    await bus.client.subscribe("late", cb=keep)
    await nats_bus.settle(bus.client)
    with pytest.raises(BusError):
        await bus.request("late", b"a", timeout=0.05)
    asking = asyncio.create_task(bus.request("late", b"b", timeout=5))
    await soon(lambda: len(late) == 2)
    await late[0].respond(b"for a")
    await late[1].respond(b"for b")
    assert (await asking).data == b"for b"


async def test_who_waits_for_a_reconnect_is_told_once_and_can_leave() -> None:
    told: list[str] = []
    async with NatsServer(websocket=False) as server, connected(server.url) as bus:
        bus.on_reconnect(lambda: told.append("stays"))
        leave = bus.on_reconnect(lambda: told.append("leaves"))
        leave()
        leave()
        await server.restart()
        await soon(lambda: bool(told))
    assert told == ["stays"]
