"""A breaker that is waited for."""

from __future__ import annotations

import asyncio
import time

from shared.breaker import FAILURES, Breaker
from shared.process.gate import MAX_GATES, Gate, Gates
from shared.retry import Backoff

SECONDS = 5.0  # longer than anything here takes


def away(pause: float = 0.01) -> Gate:
    """One that is open: probes wait so long."""
    gate = Gate(Breaker(uniform=lambda _low, high: high, pauses=Backoff(pause, pause)))
    for _ in range(FAILURES):
        gate.failed()
    return gate


def soon() -> float:
    return time.monotonic() + SECONDS


async def test_who_comes_while_all_is_well_does_not_wait() -> None:
    gate = Gate()
    for _ in range(100):
        await asyncio.wait_for(gate.enter(0.0), SECONDS)
        gate.succeeded()


async def test_one_probes_and_the_others_go_when_it_has_succeeded() -> None:
    gate = away()
    entered: list[int] = []

    async def enter(number: int) -> None:
        await gate.enter(soon())
        entered.append(number)

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        tasks = [group.create_task(enter(number)) for number in range(100)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert len(entered) == 1
        gate.succeeded()
    assert len(entered) == 100


async def test_a_probe_that_was_stopped_leaves_the_next_one_to_another() -> None:
    gate = away()
    async with asyncio.timeout(SECONDS):
        await gate.enter(soon())
        gate.left()
        began = time.monotonic()
        await gate.enter(soon())
    assert time.monotonic() - began < 1


async def test_nobody_waits_longer_than_it_may_and_then_tries_itself() -> None:
    gate = away(pause=60.0)
    began = time.monotonic()
    await asyncio.wait_for(gate.enter(began + 0.05), SECONDS)

    assert time.monotonic() - began >= 0.05


async def test_each_model_has_its_own_gate_and_they_are_bounded() -> None:
    gates = Gates()
    used = gates.of("used")
    for number in range(3 * MAX_GATES):
        assert gates.of(f"model {number}") is gates.of(f"model {number}")
        assert gates.of("used") is used
    assert gates.of("model 0") is not used
    assert len(gates._gates) == MAX_GATES
