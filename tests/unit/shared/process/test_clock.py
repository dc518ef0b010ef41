"""The machine's clock, as verbs are given it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import Cancelled
from shared.process.cancel import CancelToken
from shared.process.clock import SystemClock


def test_the_time_is_the_machine_s() -> None:
    clock = SystemClock()

    assert abs(clock.monotonic() - time.monotonic()) < 5
    told = datetime.fromisoformat(clock.utc())
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.utc().endswith("Z")


def test_a_number_is_drawn_within_its_bounds() -> None:
    assert all(1.5 <= SystemClock().uniform(1.5, 2.5) <= 2.5 for _ in range(100))


async def test_a_pause_is_as_long_as_asked_for() -> None:
    clock = SystemClock()
    began = clock.monotonic()
    await clock.pause(0.02)

    assert clock.monotonic() - began >= 0.015


async def test_a_pause_ends_when_the_turn_is_stopped() -> None:
    stop = CancelToken()
    pausing = asyncio.create_task(SystemClock(stop).pause(60))
    asyncio.get_running_loop().call_soon(stop.cancel)
    async with asyncio.timeout(30):
        with pytest.raises(Cancelled):
            await pausing
