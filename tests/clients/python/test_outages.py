"""What a reader is told while connections, servers and workers die: every word, and none twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import parley as p
import pytest
import pytest_asyncio
from parley import Parley

from tests.clients.python.test_turns import all_of, assert_whole, halves
from tests.e2e.whole import SENTENCES
from tests.integration.harness import Wire
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

# Two seconds of text and more of voice: something can happen in between.
PACE: dict[str, Any] = {
    "chat": {"first_token_ms": 5, "tokens_per_second": 25, "replies": [SENTENCES]},
    "speech": {"realtime_factor": 8, "first_audio_ms": 5},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system"), script=PACE) as system:
        await system.up()
        yield system


@pytest_asyncio.fixture(loop_scope="module")
async def system(running: System) -> System:
    """Whole again, whatever the test before has killed."""
    if not running.nats.running:
        await running.nats.start()
    alive = {service.name for service in running.services if service.running}
    new = [running.add(name) for name in ("chat", "tts") if name not in alive]
    await asyncio.gather(*(service.ready() for service in new))
    return running


async def told(turn: p.Turn, outage: Callable[[], Awaitable[object]]) -> list[p.Event]:
    """The events, where that happens once text and voice have begun."""
    events: list[p.Event] = []
    happening: asyncio.Future[object] | None = None
    async for event in turn:
        events.append(event)
        if isinstance(event, p.Chunk) and happening is None:
            happening = asyncio.ensure_future(outage())
    assert happening is not None
    await happening
    return events


async def test_a_connection_that_is_cut_costs_nothing(system: System) -> None:
    async with Wire(system.nats.url) as wire, Parley.connect(wire.url) as parley:

        async def cut() -> None:
            for _ in range(5):
                wire.cut()
                await asyncio.sleep(0.2)

        turn = parley.ask("Hello!")
        events = await told(turn, cut)

        assert parley.wire.reconnects
        assert_whole(events)
        assert halves(events) == halves(await all_of(turn))


async def test_what_the_network_swallows_is_read_back(system: System) -> None:
    async with Wire(system.nats.url) as wire, Parley.connect(wire.url) as parley:

        async def swallow() -> None:
            wire.deaf = True
            await asyncio.sleep(0.5)
            wire.deaf = False
            wire.cut()  # in the middle of a message: nothing more can be read

        turn = parley.ask("Hello!")
        assert_whole(await told(turn, swallow))


async def test_a_server_that_is_killed_costs_nothing(system: System) -> None:
    async with Parley.connect(system.nats.url, idle=90) as parley:

        async def kill() -> None:
            await system.nats.kill()
            await system.nats.start()

        turn = parley.ask("Hello!")
        events = await told(turn, kill)

        assert parley.wire.reconnects
        assert_whole(events)


async def test_a_request_waits_for_a_server_that_is_away(system: System) -> None:
    async with Parley.connect(system.nats.url, timeout=60) as parley:
        await system.nats.kill()
        turn = parley.ask("Hello!", speech=False)
        history = asyncio.ensure_future(anext(parley.history("nobody")))
        await system.nats.start()

        assert await turn.text() == SENTENCES
        assert (await history).messages == []


@pytest.mark.parametrize("who", ["chat", "tts"])
async def test_a_worker_that_is_killed_is_followed_by_the_next(system: System, who: str) -> None:
    other = system.add(who)
    await other.ready()
    async with Parley.connect(system.nats.url, idle=90) as parley:

        async def kill() -> None:
            """All of them at once, for one has the turn, which would end while others start."""
            doomed = [s for s in system.services if s.name == who and s.running]
            await asyncio.gather(*(service.kill() for service in doomed))
            await asyncio.gather(*(system.add(who).ready() for _ in doomed))

        turn = parley.ask("Hello!")
        events = await told(turn, kill)

        assert_whole(events)
        assert_whole(await all_of(parley.follow(turn.conversation_id, turn.turn_id)))
        attempts = [e.attempt for e in halves(events)[who == "tts"]]
        assert attempts == sorted(attempts)
        assert attempts[-1] > 1


async def test_a_reader_that_dies_with_a_worker_goes_on_where_it_was(system: System) -> None:
    async with Parley.connect(system.nats.url, idle=90) as parley:
        turn = parley.ask("Hello!")
        events: list[p.Event] = []
        stream = turn.events()
        async for event in stream:
            events.append(event)
            if isinstance(event, p.Chunk):
                break
        position = turn.position
        await stream.aclose()
    for service in system.services:
        await service.kill()
    await asyncio.gather(*(system.add(name).ready() for name in ("chat", "tts")))
    async with Parley.connect(system.nats.url, idle=90) as parley:
        resumed = parley.follow(turn.conversation_id, turn.turn_id, after=position)
        events += await all_of(resumed)

    assert_whole(events)
    assert max(e.attempt for e in halves(events)[0]) == 2


async def test_nobody_waits_for_a_server_for_ever(system: System) -> None:
    with pytest.raises(p.Unreachable):
        async with Parley.connect("nats://127.0.0.1:1", timeout=0.2):
            pass
    async with Parley.connect(system.nats.url, timeout=3, idle=3) as parley:
        turn = parley.ask("Hello!")
        await turn.accepted()
        await system.nats.kill()
        with pytest.raises(p.Unreachable):
            await turn.text()
        with pytest.raises(p.Unreachable):
            await parley.ask("Hello!").text()
        with pytest.raises(p.Unreachable):
            await parley.delete("c")
        with pytest.raises(p.Unreachable):
            await turn.cancel(heard_ms=0)


async def test_services_that_are_away_are_waited_for(system: System) -> None:
    for service in system.services:
        await service.kill()
    async with Parley.connect(system.nats.url, timeout=60) as parley:
        turn = parley.ask("Hello!", speech=False)
        await system.add("chat").ready()

        assert await turn.text() == SENTENCES
