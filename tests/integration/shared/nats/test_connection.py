"""The connection to a real nats-server: every request ends, nothing is kept for later."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import nats.errors
import pytest

from local.nats_server import NatsServer
from shared.errors import ApiError, Conflict, NatsError, NoStream, Unsendable
from shared.nats.connection import REQUEST_SECONDS, Connection, settle
from shared.nats.follow import follow
from shared.nats.publish import publish
from tests.integration.harness import Wire, connected, held, soon, stream_s

pytestmark = pytest.mark.timeout(120)


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


async def test_nothing_is_left_behind_for_after_a_reconnect() -> None:
    """What waits there would be sent by a worker that has been superseded meanwhile."""
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
        assert [message.data for message in await held(connection, "S")] == [b"later"]


async def test_a_request_while_nats_is_away_fails_at_once() -> None:
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        await server.kill()
        await soon(lambda: not connection.up)
        began = time.monotonic()
        with pytest.raises(NatsError, match="not connected"):
            await connection.request("silent")
        with pytest.raises(NatsError, match="not connected"):
            await connection.api("STREAM.NAMES")
        assert time.monotonic() - began < REQUEST_SECONDS


async def test_what_was_sent_and_not_yet_written_dies_with_the_connection(
    server: NatsServer,
) -> None:
    """nats-py would send it first of all after the reconnect, perhaps long superseded."""
    async with connected(server.url) as near, Wire(server.url) as wire, connected(wire.url) as far:
        heard = await near.client.subscribe("later")
        await settle(near.client)
        wire.cut()
        await far.send("later", b"buffered")  # the loss is not noticed before the loop turns
        await soon(lambda: far.epoch == 1)
        await far.send("later", b"after")
        assert (await heard.next_msg(timeout=5)).data == b"after"


async def test_nobody_who_listens_is_no_stream(connection: Connection) -> None:
    with pytest.raises(NoStream, match="nobody answers"):
        await connection.request("nobody.listens")


async def test_what_jetstream_refuses_is_told_with_its_code(connection: Connection) -> None:
    with pytest.raises(ApiError, match="not found") as refused:
        await connection.api("STREAM.INFO.NONE")
    assert (refused.value.code, refused.value.err_code) == (404, 10059)


async def test_what_nats_would_never_take_is_told_at_once(connection: Connection) -> None:
    with pytest.raises(Unsendable):
        await connection.send("s.a", bytes(connection.client.max_payload + 1))
    with pytest.raises(Unsendable):
        await connection.request("s.a", headers={"bad name": "x"})


async def test_what_fails_is_done_again_for_as_long_as_there_is_patience(
    connection: Connection,
) -> None:
    tries = 0

    async def third_time() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise NatsError("away")
        return "done"

    assert await connection.persist(third_time) == "done"
    tries, connection.publish_seconds = 0, 0
    with pytest.raises(NatsError, match="away"):
        await connection.persist(third_time)
    assert tries == 1


@pytest.mark.parametrize("error", [Conflict("x"), ApiError(400, 1, "x"), Unsendable("x")])
async def test_what_no_repetition_mends_is_not_done_again(
    connection: Connection, error: NatsError
) -> None:
    tries = 0

    async def refused() -> None:
        nonlocal tries
        tries += 1
        raise error

    with pytest.raises(type(error)):
        await connection.persist(refused)
    assert tries == 1


# ---------------------------------------------------------------- waits for the server's answer


async def hears(connection: Connection) -> bool:
    subject = connection.client.new_inbox()
    heard = await connection.client.subscribe(subject)
    await connection.send(subject, b"x")
    with contextlib.suppress(nats.errors.TimeoutError):
        await heard.next_msg(timeout=2)
        return True
    return False


async def test_a_wait_that_is_cancelled_leaves_the_connection_hearing(server: NatsServer) -> None:
    """A cancelled flush would leave a cancelled future for the next pong to stumble over."""
    async with Wire(server.url) as wire, connected(wire.url) as connection:
        wire.delay = 0.01
        for _ in range(200):
            waits = asyncio.create_task(settle(connection.client))
            await asyncio.sleep(0.001)
            waits.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waits
        assert await hears(connection)


async def test_a_follow_that_is_cancelled_leaves_the_connection_hearing(
    server: NatsServer, connection: Connection
) -> None:
    del connection  # it has provisioned
    async with Wire(server.url) as wire, connected(wire.url) as far:
        wire.delay = 0.01
        for number in range(100):
            events = follow(far, f"c{number}", "t", idle=5)
            waits = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.001 * (number % 30))
            waits.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waits
        assert await hears(far)


async def test_an_answer_that_comes_too_late_for_a_wait_leaves_the_connection_hearing(
    server: NatsServer,
) -> None:
    async with Wire(server.url) as wire, connected(wire.url) as connection:
        wire.delay = 0.5
        with pytest.raises(NatsError, match="does not answer"):
            await settle(connection.client, seconds=0.1)
        wire.delay = 0
        assert await hears(connection)


async def test_who_waits_while_the_connection_is_lost_waits_on_after_the_reconnect() -> None:
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        server.freeze()
        waits = asyncio.create_task(settle(connection.client, seconds=10))
        await asyncio.sleep(0)
        await server.restart()
        await waits
        await soon(lambda: connection.epoch > 0 and connection.up)
        assert await hears(connection)
