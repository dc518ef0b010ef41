"""The requests of one conversation in the work queue, as one of them sees it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from local.nats_server import NatsServer
from services.chat.nats.queue import NatsQueue, NatsQueuePosition
from services.chat.queue import Older
from shared.errors import Cancelled, Superseded
from shared.nats.connection import Connection, settle
from shared.nats.publish import publish
from shared.process.cancel import CancelToken
from tests.integration.harness import connected, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


pytestmark = pytest.mark.timeout(120)

END = b'{"type":"done","turn_id":"t0"}'


@pytest.fixture
async def other(server: NatsServer) -> AsyncIterator[Connection]:
    """Another process."""
    async with connected(server.url) as connection:
        yield connection


async def ask(connection: Connection, count: int, conversation: str = "c") -> list[int]:
    """Requests t0, t1, …; their sequences."""
    bodies = (msgspec.json.encode({"turn_id": f"t{n}", "content": "x"}) for n in range(count))
    return [
        (await publish(connection, f"chat.request.{conversation}", body)).seq for body in bodies
    ]


async def gone(connection: Connection, sequence: int) -> None:
    """As when it was acked."""
    await connection.api("STREAM.MSG.DELETE.CHAT_REQUESTS", {"seq": sequence})


async def seen(connection: Connection, sequence: int, limit: int = 20) -> list[Older]:
    async with NatsQueue(connection).position("c", sequence, CancelToken()) as position:
        return list(await position.older(limit))


async def test_the_oldest_may_run_and_the_others_see_who_is_before_them(
    connection: Connection,
) -> None:
    one, two, three = await ask(connection, 3)
    await ask(connection, 2, "another")
    assert await seen(connection, one) == []
    assert await seen(connection, two) == [Older(one, "t0")]
    assert await seen(connection, three) == [Older(one, "t0"), Older(two, "t1")]


async def test_no_more_are_told_than_were_asked_for(connection: Connection) -> None:
    sequences = await ask(connection, 10)
    assert await seen(connection, sequences[9], 3) == [
        Older(s, f"t{n}") for n, s in enumerate(sequences[:3])
    ]
    assert len(await seen(connection, sequences[2], 3)) == 2


async def test_the_queue_moves_on(connection: Connection) -> None:
    one, two, three = await ask(connection, 3)
    await gone(connection, one)
    assert await seen(connection, two) == []
    assert await seen(connection, three) == [Older(two, "t1")]


async def test_a_request_whose_message_is_gone_was_dealt_with_by_another(
    connection: Connection,
) -> None:
    one, two = await ask(connection, 2)
    await gone(connection, one)
    with pytest.raises(Superseded):
        await seen(connection, one)
    await gone(connection, two)
    with pytest.raises(Superseded):
        await seen(connection, two)


async def test_a_flood_is_told_off_by_one_look(connection: Connection) -> None:
    sequences = await ask(connection, 100)
    queue, stop = NatsQueue(connection), CancelToken()
    async with queue.position("c", sequences[50], stop) as keeps:
        assert len(await keeps.older(5)) == 5
        asked = next(connection._tokens)
        for sequence in sequences[60:]:
            async with queue.position("c", sequence, stop) as position:
                assert len(await position.older(5)) == 5
        assert next(connection._tokens) == asked + 1  # the server was not asked


async def waiting(position: NatsQueuePosition) -> asyncio.Task[None]:
    task = asyncio.create_task(position.changed())
    await soon(lambda: position._watched.is_watched)
    await settle(position._connection.client)
    return task


async def test_the_end_of_a_turn_elsewhere_wakes_who_waits(
    connection: Connection, other: Connection
) -> None:
    one, two = await ask(connection, 2)
    async with NatsQueue(connection).position("c", two, CancelToken()) as position:
        task = await waiting(position)
        await publish(other, "chat.delta.c", b'{"type":"text","turn_id":"t0"}')
        await publish(other, "chat.delta.another", END)
        done, _ = await asyncio.wait({task}, timeout=0.1)
        assert not done
        await publish(other, "chat.delta.c", END)
        await gone(other, one)  # the ack comes a little later than the end
        await asyncio.wait_for(task, 0.5)
        assert await position.older(20) == ()


async def test_the_end_of_a_turn_here_wakes_who_waits(connection: Connection) -> None:
    one, two = await ask(connection, 2)
    queue = NatsQueue(connection)
    async with queue.position("c", two, CancelToken()) as position:
        task = await waiting(position)
        await gone(connection, one)
        queue.ended("c")
        queue.ended("nobody-waits-here")
        await asyncio.wait_for(task, 0.5)


async def test_without_a_word_it_is_looked_at_again_after_a_while(connection: Connection) -> None:
    _, two = await ask(connection, 2)
    queue = NatsQueue(connection, poll_seconds=0.2)
    async with queue.position("c", two, CancelToken()) as position:
        began = time.monotonic()
        await asyncio.wait_for(position.changed(), 3)
        assert time.monotonic() - began > 0.15


async def test_who_waits_can_be_stopped(connection: Connection) -> None:
    _, two = await ask(connection, 2)
    stop = CancelToken()
    async with NatsQueue(connection).position("c", two, stop) as position:
        task = await waiting(position)
        stop.cancel()
        with pytest.raises(Cancelled):
            await asyncio.wait_for(task, 0.5)


async def test_many_that_wait_share_one_subscription_and_leave_none(connection: Connection) -> None:
    sequences = await ask(connection, 12)
    queue = NatsQueue(connection)
    before = len(connection.client._subs)

    async def wait(sequence: int) -> None:
        async with queue.position("c", sequence, CancelToken()) as position:
            await position.changed()

    tasks = [asyncio.create_task(wait(sequence)) for sequence in sequences[1:]]
    await soon(lambda: len(connection.client._subs) > before)
    await settle(connection.client)
    assert len(connection.client._subs) == before + 1
    await gone(connection, sequences[0])
    await publish(connection, "chat.delta.c", END)
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert len(connection.client._subs) == before
    assert not queue._watched


async def test_a_turn_is_held_while_its_request_waits_also_on_its_way_to_the_queue(
    connection: Connection,
) -> None:
    queue = NatsQueue(connection)
    await ask(connection, 2)
    await publish(connection, "chat.request", b'{"conversation_id":"c","turn_id":"early"}')
    await publish(connection, "chat.request", b'{"conversation_id":"d","turn_id":"t9"}')
    await publish(connection, "chat.request", b"Hello.")
    assert [await queue.holds("c", turn) for turn in ("t0", "t1", "early")] == [True] * 3
    assert [await queue.holds("c", turn) for turn in ("t9", "t2")] == [False] * 2
