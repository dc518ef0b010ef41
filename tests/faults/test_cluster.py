"""A short selection of the runs on three nats-servers: each way of losing one, on one cluster."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.faults import cluster
from tests.faults.scenarios import SCRIPT, SETTINGS, Run
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.faults]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    folder = tmp_path_factory.mktemp("cluster")
    async with System(folder, script=SCRIPT, settings=SETTINGS, cluster=True) as running:
        await running.up()
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def run(system: System, request: pytest.FixtureRequest) -> Run:
    run = Run(system, random.Random(request.node.name))
    await cluster.agreed(run)
    return run


async def test_a_server_that_is_killed_costs_no_turn(run: Run) -> None:
    await cluster.server_killed(run)


async def test_a_server_that_freezes_costs_no_turn(run: Run) -> None:
    await cluster.server_frozen(run)


async def test_servers_that_are_rolled_cost_no_turn(run: Run) -> None:
    await cluster.servers_rolled(run)


async def test_leaders_that_move_in_the_midst_of_bursts_tear_no_turn(run: Run) -> None:
    await cluster.leaders_moved(run)
