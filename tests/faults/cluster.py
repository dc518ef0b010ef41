"""Runs on a cluster of three nats-servers: one dies, freezes, all are rolled, leaders move."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from typing import TYPE_CHECKING, Any

import nats
import nats.errors

from local.nats_cluster import SYSTEM_LOGIN
from tests.faults.invariants import check
from tests.faults.scenarios import Run, one_of_each

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local.nats_cluster import NatsCluster
    from tests.system import System

STREAMS = (
    "CHAT_REQUESTS",
    "CHAT_DELTAS",
    "TTS_REQUESTS",
    "TTS_AUDIO",
    "KV_conversations",
    "KV_speech",
    "DEAD_LETTERS",
)
AGREED_WITHIN = 30.0
STALE_SECONDS = 5.0


def _cluster(run: Run) -> NatsCluster:
    assert run.system.cluster is not None, "these scenarios need a cluster"
    return run.system.cluster


async def _api(run: Run, subject: str) -> dict[str, Any]:
    answer = await run.system.client.request(f"$JS.API.{subject}", b"", timeout=2)
    told: dict[str, Any] = json.loads(answer.data)
    return told


async def agreed(run: Run) -> None:
    """Every stream has a leader and two followers that are current: one more may go."""
    until = time.monotonic() + AGREED_WITHIN
    for stream in STREAMS:
        while not await _is_agreed(run, stream):
            assert time.monotonic() < until, f"{stream} is not of one mind"
            await asyncio.sleep(0.1)


async def _is_agreed(run: Run, stream: str) -> bool:
    with contextlib.suppress(nats.errors.Error):
        cluster = (await _api(run, f"STREAM.INFO.{stream}")).get("cluster", {})
        others = cluster.get("replicas") or []
        current = [each for each in others if each.get("current") and not each.get("offline")]
        return bool(cluster.get("leader")) and len(current) == len(others) > 0
    return False


async def healed(run: Run) -> None:
    """Everything asked has ended, and all must hold; what is missing is looked for again.

    A server that was frozen answers for its streams with what it had by then until it knows of a
    leader: hundreds of messages behind for a quarter of a second, though nothing that was acked is
    lost. What is there and must not be is found in the end as well: streams only grow.
    """
    await agreed(run)
    until = None
    while True:
        await run.emptied()
        try:
            return await check(run.system, run.asked)
        except AssertionError:
            until = until or time.monotonic() + STALE_SECONDS
            if time.monotonic() > until:
                raise
        await asyncio.sleep(0.2)


async def server_killed(run: Run) -> None:
    """kill -9 of any of the three, back a little later."""
    await run.ask(3, 1)
    await run.under_way()
    server = run.dice.choice(_cluster(run).servers)
    await server.kill()
    await run.ask(1, 1)
    await asyncio.sleep(run.dice.uniform(0.0, 3.0))
    await server.start()
    await healed(run)


async def server_frozen(run: Run) -> None:
    """One of the three takes everything and answers nothing, for less or more than a lease."""
    await run.ask(3, 1)
    await run.under_way()
    server = run.dice.choice(_cluster(run).servers)
    server.freeze()
    try:
        await asyncio.sleep(run.dice.uniform(1.0, 12.0))
    finally:
        server.thaw()
    await run.ask(1, 1)
    await healed(run)


async def servers_rolled(run: Run) -> None:
    """One after the other, as an upgrade does it, while turns run."""
    for server in _cluster(run).servers:
        await run.ask(2, 1)
        await run.under_way()
        await server.stop()
        await server.start()
        await agreed(run)
    await healed(run)


async def leaders_moved(run: Run) -> None:
    """Of the streams, and of the cluster itself, again and again in the midst of bursts."""
    await run.ask(3, 2)
    login = {"user": SYSTEM_LOGIN, "password": SYSTEM_LOGIN}
    system = await nats.connect(_cluster(run).servers[0].url, **login)
    for _ in range(5):
        await asyncio.sleep(run.dice.uniform(0.05, 0.5))
        for stream in run.dice.sample(STREAMS, 3):
            with contextlib.suppress(nats.errors.Error):
                await _api(run, f"STREAM.LEADER.STEPDOWN.{stream}")
        with contextlib.suppress(nats.errors.Error):
            await system.request("$JS.API.META.LEADER.STEPDOWN", b"", timeout=2)
    await system.close()
    await healed(run)


SCENARIOS: tuple[Callable[[Run], Awaitable[None]], ...] = (
    server_killed,
    server_frozen,
    servers_rolled,
    leaders_moved,
)


async def run_seed(system: System, seed: int) -> str:
    """One run, chosen and driven by its seed; returns the scenario's name."""
    scenario = SCENARIOS[seed % len(SCENARIOS)]
    run = Run(system, random.Random(seed))
    await agreed(run)
    await one_of_each(run)
    await scenario(run)
    await one_of_each(run)
    return scenario.__name__
