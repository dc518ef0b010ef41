"""A short selection of `make faults`: each way of dying once, on one system."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.faults import scenarios
from tests.faults.scenarios import SCRIPT, SETTINGS, Run
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.faults]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(
        tmp_path_factory.mktemp("system"), script=SCRIPT, settings=SETTINGS
    ) as running:
        await running.up()
        yield running


@pytest.fixture
def run(system: System, request: pytest.FixtureRequest) -> Run:
    return Run(system, random.Random(request.node.name))


async def test_a_chat_worker_killed_after_its_commit_is_only_finished(run: Run) -> None:
    await scenarios.killed_at_a_point(run, "chat.committed")


async def test_a_speech_worker_killed_between_pieces_is_continued(run: Run) -> None:
    await scenarios.killed_at_a_point(run, "tts.piece_done")


async def test_nats_killed_and_restarted_loses_nothing(run: Run) -> None:
    await scenarios.nats_killed(run)


async def test_a_store_that_is_away_costs_no_speech(run: Run) -> None:
    await scenarios.store_killed(run)


async def test_a_provider_that_cuts_and_fails_is_survived(run: Run) -> None:
    await scenarios.provider_misbehaves(run, {"kind": "chat.cut", "after": 5})
    await scenarios.provider_misbehaves(run, {"kind": "speech.abort", "after": 2})


async def test_a_deployment_breaks_no_turn(run: Run) -> None:
    await scenarios.rolled(run)
