"""The requests of one conversation in the work queue, as one of them sees it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio

from local.nats_server import NatsServer
from services.chat.nats_line import Lines, NatsLine
from services.chat.ports import Older
from shared.contract import CancelRequest
from shared.errors import Cancelled, Replaced
from shared.nats_bus import settle
from shared.stop import Stop
from tests.integration.test_nats_bus import connected, provisioned, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.msg import Msg

    from shared.nats_bus import Bus

pytestmark = pytest.mark.timeout(30)

END = b'{"type":"done","turn_id":"t0"}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(server.url) as bus:
        await provisioned(bus)
        yield bus


@pytest.fixture
async def other(server: NatsServer) -> AsyncIterator[Bus]:
    """Another process."""
    async with connected(server.url) as bus:
        yield bus


async def ask(bus: Bus, count: int, conversation: str = "c") -> list[int]:
    """Requests t0, t1, …; their sequences."""
    bodies = (msgspec.json.encode({"turn_id": f"t{n}", "content": "x"}) for n in range(count))
    return [(await bus.publish(f"chat.request.{conversation}", body)).seq for body in bodies]


async def gone(bus: Bus, sequence: int) -> None:
    """As when it was acked."""
    await bus.api("STREAM.MSG.DELETE.CHAT_REQUESTS", {"seq": sequence})


async def seen(bus: Bus, sequence: int, limit: int = 20) -> list[Older]:
    async with Lines(bus).place("c", sequence, Stop()) as line:
        return list(await line.older(limit))


async def test_the_oldest_may_run_and_the_others_see_who_is_before_them(bus: Bus) -> None:
    one, two, three = await ask(bus, 3)
    await ask(bus, 2, "another")
    assert await seen(bus, one) == []
    assert await seen(bus, two) == [Older(one, "t0")]
    assert await seen(bus, three) == [Older(one, "t0"), Older(two, "t1")]


async def test_no_more_are_told_than_were_asked_for(bus: Bus) -> None:
    sequences = await ask(bus, 10)
    assert await seen(bus, sequences[9], 3) == [
        Older(s, f"t{n}") for n, s in enumerate(sequences[:3])
    ]
    assert len(await seen(bus, sequences[2], 3)) == 2


async def test_the_line_moves_on(bus: Bus) -> None:
    one, two, three = await ask(bus, 3)
    await gone(bus, one)
    assert await seen(bus, two) == []
    assert await seen(bus, three) == [Older(two, "t1")]


async def test_a_request_whose_message_is_gone_was_dealt_with_by_another(bus: Bus) -> None:
    one, two = await ask(bus, 2)
    await gone(bus, one)
    with pytest.raises(Replaced):
        await seen(bus, one)
    await gone(bus, two)
    with pytest.raises(Replaced):
        await seen(bus, two)


async def test_a_flood_is_told_off_by_one_look(bus: Bus) -> None:
    sequences = await ask(bus, 100)
    lines, stop = Lines(bus), Stop()
    async with lines.place("c", sequences[50], stop) as keeps:
        assert len(await keeps.older(5)) == 5
        asked = next(bus._tokens)
        for sequence in sequences[60:]:
            async with lines.place("c", sequence, stop) as line:
                assert len(await line.older(5)) == 5
        assert next(bus._tokens) == asked + 1  # the server was not asked


async def waiting(line: NatsLine) -> asyncio.Task[None]:
    task = asyncio.create_task(line.changed())
    await soon(lambda: line._queue._sub is not None)
    await settle(line._bus.client)
    return task


async def test_the_end_of_a_turn_elsewhere_wakes_who_waits(bus: Bus, other: Bus) -> None:
    one, two = await ask(bus, 2)
    async with Lines(bus).place("c", two, Stop()) as line:
        task = await waiting(line)
        await other.publish("chat.delta.c", b'{"type":"text","turn_id":"t0"}')
        await other.publish("chat.delta.another", END)
        done, _ = await asyncio.wait({task}, timeout=0.1)
        assert not done
        await other.publish("chat.delta.c", END)
        await gone(other, one)  # the ack comes a little later than the end
        await asyncio.wait_for(task, 0.5)
        assert await line.older(20) == ()


async def test_the_end_of_a_turn_here_wakes_who_waits(bus: Bus) -> None:
    one, two = await ask(bus, 2)
    lines = Lines(bus)
    async with lines.place("c", two, Stop()) as line:
        task = await waiting(line)
        await gone(bus, one)
        lines.ended("c")
        lines.ended("nobody-waits-here")
        await asyncio.wait_for(task, 0.5)


async def test_without_a_word_it_is_looked_at_again_after_a_second(bus: Bus) -> None:
    _, two = await ask(bus, 2)
    async with Lines(bus).place("c", two, Stop()) as line:
        began = time.monotonic()
        await asyncio.wait_for(line.changed(), 3)
        assert time.monotonic() - began > 0.9


async def test_who_waits_can_be_stopped(bus: Bus) -> None:
    _, two = await ask(bus, 2)
    stop = Stop()
    async with Lines(bus).place("c", two, stop) as line:
        task = await waiting(line)
        stop.request()
        with pytest.raises(Cancelled):
            await asyncio.wait_for(task, 0.5)


async def test_many_that_wait_share_one_subscription_and_leave_none(bus: Bus) -> None:
    sequences = await ask(bus, 12)
    lines = Lines(bus)
    before = len(bus.client._subs)

    async def wait(sequence: int) -> None:
        async with lines.place("c", sequence, Stop()) as line:
            await line.changed()

    tasks = [asyncio.create_task(wait(sequence)) for sequence in sequences[1:]]
    await soon(lambda: len(bus.client._subs) > before)
    await settle(bus.client)
    assert len(bus.client._subs) == before + 1
    await gone(bus, sequences[0])
    await bus.publish("chat.delta.c", END)
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert len(bus.client._subs) == before
    assert not lines._queues


async def test_an_interruption_reaches_whoever_has_the_turn(bus: Bus, other: Bus) -> None:
    heard: list[bytes] = []

    async def hear(msg: Msg) -> None:
        heard.append(msg.data)

    await other.client.subscribe("chat.cancel", cb=hear)
    await settle(other.client)
    _, two = await ask(bus, 2)
    async with Lines(bus).place("c", two, Stop()) as line:
        await line.interrupt("t0")
    await soon(lambda: bool(heard))
    assert msgspec.json.decode(heard[0], type=CancelRequest) == CancelRequest("c", "t0")
