"""Requests are understood and put on their conversation's subject: in order, once, fairly."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from local.nats_server import NatsServer
from services.chat.nats import intake as intake_module
from services.chat.nats.intake import NatsIntake
from shared.contract import (
    CHAT_INTAKE,
    CHAT_REQUESTS_STREAM,
    H_ASKED_AT,
    H_CONVERSATION,
    H_TURN,
    MSG_ID,
    TRACEPARENT,
    ChatRequest,
)
from shared.errors import Busy, NatsError
from shared.nats import read
from shared.nats.connection import Connection
from shared.nats.lease import Delivery
from shared.nats.provision import Leases, consumer
from shared.nats.publish import PublishWindow, publish
from shared.nats.read import read_back
from shared.process.clock import SystemClock
from shared.refuse import Refused
from shared.retry import wait_until
from tests.integration.harness import connected, held, provisioned, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.timeout(120)

LEASE = 0.45


@pytest.fixture
async def connection(empty: Connection) -> Connection:
    await provisioned(empty, Leases(intake=LEASE))
    return empty


class Replica:
    """One intake, as a replica of the chat service has it."""

    def __init__(self, connection: Connection, lease: float = LEASE) -> None:
        self.refused: list[Refused] = []
        self.trouble = 0  # refusals that fail first
        self.intake = NatsIntake(
            connection,
            max_bytes=4_096,
            refuse=self._refuse,
            consumer=consumer(CHAT_INTAKE, Leases(intake=lease)),
        )
        self._task = asyncio.create_task(self.intake.run())

    async def _refuse(self, _delivery: Delivery, refused: Refused) -> None:
        if self.trouble:
            self.trouble -= 1
            raise NatsError("away for a moment")
        self.refused.append(refused)

    async def die(self) -> None:
        """As a crash: no goodbye."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def leave(self) -> None:
        """As the service does when it is told to stop."""
        await self.intake.drain()
        await self.die()
        await self.intake.hand_over()


@contextlib.asynccontextmanager
async def replica(connection: Connection, lease: float = LEASE) -> AsyncIterator[Replica]:
    running = Replica(connection, lease)
    try:
        yield running
    finally:
        await running.leave()


def body(conversation: str, number: int) -> bytes:
    content = f"{conversation} {number}"
    return msgspec.json.encode({"conversation_id": conversation, "content": content})


async def ask(connection: Connection, *bodies: bytes, **headers: str) -> None:
    window = PublishWindow(connection)
    for data in bodies:
        await window.send("chat.request", data, headers)
    await window.drained()


async def forwarded(connection: Connection) -> dict[str, list[str]]:
    """What stands in each conversation's queue, in its order."""
    queues: dict[str, list[str]] = defaultdict(list)
    async for message in read_back(connection, CHAT_REQUESTS_STREAM, "chat.request.*", 1):
        request = msgspec.json.decode(message.data, type=ChatRequest)
        queues[str(request.conversation_id)].append(str(request.content))
    return queues


async def none_left(connection: Connection, seconds: float = 60.0) -> None:
    async def empty() -> bool:
        return await read.first(connection, CHAT_REQUESTS_STREAM, "chat.request") is None

    assert await wait_until(empty, seconds, clock=SystemClock())


def in_order(conversation: str, count: int) -> list[str]:
    return [f"{conversation} {n}" for n in range(count)]


async def test_a_request_is_given_its_ids_and_put_in_its_queue(connection: Connection) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with replica(connection):
        await publish(
            connection, "chat.request", body("c", 0), {MSG_ID: "mine", TRACEPARENT: trace}
        )
        await none_left(connection)
    (message,) = await held(connection, CHAT_REQUESTS_STREAM)
    assert message.subject == "chat.request.c"
    request = msgspec.json.decode(message.data, type=ChatRequest)
    assert request == ChatRequest(conversation_id="c", turn_id="mine", content="c 0")
    assert message.headers[H_CONVERSATION] == "c"
    assert message.headers[H_TURN] == "mine"
    asked = datetime.fromisoformat(message.headers[H_ASKED_AT])
    assert abs((datetime.now(UTC) - asked).total_seconds()) < 60
    assert message.headers[TRACEPARENT] == trace


async def test_plain_text_begins_a_conversation(connection: Connection) -> None:
    async with replica(connection):
        await ask(connection, b"Hello", b"Hello")
        await none_left(connection)
    queues = await forwarded(connection)
    assert list(queues.values()) == [["Hello"], ["Hello"]]


async def test_each_conversation_keeps_its_order(connection: Connection) -> None:
    async with replica(connection):
        await ask(connection, *(body(f"c{n % 7}", n // 7) for n in range(700)))
        await none_left(connection)
    assert await forwarded(connection) == {f"c{n}": in_order(f"c{n}", 100) for n in range(7)}


async def test_a_flood_in_one_conversation_holds_up_no_other(connection: Connection) -> None:
    bad = b'{"content":5}'  # with whose refusal everybody waits, until all have come
    await ask(connection, bad, *(body("flood", n) for n in range(900)), body("quiet", 0))
    async with replica(connection) as one:
        one.trouble = 1_000
        await soon(lambda: len(one.intake._waiting) == 902)
        one.trouble = 0
        await none_left(connection)
    subjects = [
        m.subject async for m in read_back(connection, CHAT_REQUESTS_STREAM, "chat.request.*", 1)
    ]
    assert len(subjects) == 901
    assert subjects.index("chat.request.quiet") < 100
    assert (await forwarded(connection))["flood"] == in_order("flood", 900)


async def test_what_cannot_be_understood_is_refused_and_the_rest_goes_on(
    connection: Connection,
) -> None:
    async with replica(connection) as one:
        bad = (b'{"conversation_id":"c","content":5}', b'{"content":', b"x" * 5_000, b"\xff\xfe")
        await ask(connection, body("c", 0), *bad, body("c", 1))
        await none_left(connection)
        codes = [refused.error.code.value for refused in one.refused]
        assert sorted(codes) == ["invalid_request"] * 3 + ["too_large"]
        assert {refused.conversation_id for refused in one.refused} == {"c", None}
    assert await forwarded(connection) == {"c": in_order("c", 2)}


async def test_a_refusal_that_fails_is_tried_again(connection: Connection) -> None:
    async with replica(connection) as one:
        one.trouble = 2
        await ask(connection, b'{"content":5}', body("c", 0))
        await none_left(connection)
        assert len(one.refused) == 1
    assert await forwarded(connection) == {"c": in_order("c", 1)}


async def test_a_crash_before_the_ack_doubles_nothing(
    connection: Connection, server: NatsServer
) -> None:
    """The oldest was put in its queue, and nobody was told."""
    async with connected(server.url) as dying:
        first = Replica(dying)

        async def die(_self: Delivery) -> None:
            await asyncio.Event().wait()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Delivery, "ack_unconfirmed", die)
            await ask(connection, *(body("c", n) for n in range(20)))

            async def all_there() -> bool:
                return len((await forwarded(connection)).get("c", [])) == 1

            assert await wait_until(all_there, 30, clock=SystemClock())
            await first.die()
    async with replica(connection):
        await ask(connection, *(body("c", n) for n in range(20, 30)))
        await none_left(connection)
    assert await forwarded(connection) == {"c": in_order("c", 30)}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["leave", "die"])
async def test_another_replica_takes_over_in_order(
    empty: Connection, server: NatsServer, how: str
) -> None:
    """In the middle of a flood, three times."""
    # What a dead one held comes back within two leases, on a machine with other things to do, too.
    connection, lease = empty, 2.0
    await provisioned(connection, Leases(intake=lease))
    async with contextlib.AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(connected(server.url)) for _ in range(4)]
        running = Replica(buses[0], lease)
        asking = asyncio.create_task(
            ask(connection, *(body(f"c{n % 5}", n // 5) for n in range(1_500)))
        )
        for other in buses[1:]:
            await soon(lambda one=running: one.intake._pull.pin is not None, 30)  # type: ignore[misc]
            following = Replica(other, lease)
            await (running.leave() if how == "leave" else running.die())
            if how == "die":
                await running.intake._pull.drain()
            running = following
        await asking
        await none_left(connection, 60)
        await running.leave()
    assert await forwarded(connection) == {f"c{n}": in_order(f"c{n}", 300) for n in range(5)}


async def test_who_leaves_is_followed_at_once(empty: Connection, server: NatsServer) -> None:
    """Long before a lease runs out, of a request or of the pin."""
    connection = empty
    await provisioned(connection, Leases(intake=20.0))
    async with connected(server.url) as other:
        first = Replica(other, 20.0)
        await ask(connection, body("c", 0))
        await none_left(connection)
        async with replica(connection, 20.0):
            await first.leave()
            await ask(connection, body("c", 1))
            await none_left(connection, 15)
    assert await forwarded(connection) == {"c": in_order("c", 2)}


async def test_a_restart_of_the_server_costs_no_request_and_no_order() -> None:
    async with (
        NatsServer(websocket=False) as server,
        connected(server.url) as connection,
        connected(server.url) as asker,
    ):
        await provisioned(connection, Leases(intake=LEASE))
        async with replica(connection):
            bodies = [body(f"c{n % 3}", n // 3) for n in range(900)]
            window = PublishWindow(asker)
            for n, data in enumerate(bodies):
                if n in {300, 600}:
                    await server.kill()
                    await server.restart()
                await window.send("chat.request", data, {MSG_ID: str(n)})
                await asyncio.sleep(0)
            await window.drained()
            await none_left(connection)
        assert await forwarded(connection) == {f"c{n}": in_order(f"c{n}", 300) for n in range(3)}


async def test_a_deleted_consumer_is_made_again(connection: Connection) -> None:
    async with replica(connection):
        await ask(connection, body("c", 0))
        await none_left(connection)
        await connection.api(f"CONSUMER.DELETE.{CHAT_REQUESTS_STREAM}.{CHAT_INTAKE}")
        await ask(connection, body("c", 1))
        await none_left(connection)
    assert await forwarded(connection) == {"c": in_order("c", 2)}


async def test_the_same_message_twice_is_put_there_once(connection: Connection) -> None:
    async with replica(connection):
        await ask(connection, body("c", 0), **{MSG_ID: "x"})
        await ask(connection, body("c", 0), **{MSG_ID: "x"})
        await none_left(connection)
    assert await forwarded(connection) == {"c": in_order("c", 1)}


async def test_a_queue_that_is_full_of_what_came_refuses_the_newest_and_goes_on(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "FULL_SECONDS", 0.1)
    text = "x" * 3_000
    asked = [{"conversation_id": f"c{n}", "content": text} for n in range(10)]
    await ask(connection, *map(msgspec.json.encode, asked))
    info = await connection.api(f"STREAM.INFO.{CHAT_REQUESTS_STREAM}")
    full = {**info["config"], "max_bytes": info["state"]["bytes"]}
    await connection.api(f"STREAM.UPDATE.{CHAT_REQUESTS_STREAM}", full)
    async with replica(connection) as running:
        await none_left(connection)
        refused = [str(each.conversation_id) for each in running.refused]
        assert {type(each.error) for each in running.refused} == {Busy}
    queues = await forwarded(connection)
    assert sorted([*queues, *refused]) == [f"c{n}" for n in range(10)]
    assert refused[0] == "c9"
    assert queues  # how many depends on how soon room is made
