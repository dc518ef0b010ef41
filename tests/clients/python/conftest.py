"""The real stack, and clients of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from parley import Parley

from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


FAST = {
    "chat": {"first_token_ms": 5, "tokens_per_second": 400, "replies": []},
    "speech": {"realtime_factor": 200, "first_audio_ms": 5},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """One system for the tests of a file that harm nobody."""
    async with System(tmp_path_factory.mktemp("system"), script=FAST) as system:
        await system.up()
        yield system


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: System) -> AsyncIterator[Parley]:
    async with Parley.connect(running.nats.url, idle=30) as found:
        yield found


@pytest.fixture
def parley(running: System, client: Parley) -> Parley:
    """At the emulator's fast pace, whatever the test before had changed."""
    running.emulator.change(FAST)
    return client
