"""Fixtures that start real servers, and how Hypothesis looks for examples."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

gc.disable()  # until all is loaded: a fifth of that, and every worker of a run loads every test

import hypothesis
import pytest

from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# The same examples in each run, and no clock: a machine that is busy fails nobody.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("steady")


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there by now stays: no collection has to walk it again
    gc.enable()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """nats-server, S3 and the emulator; services are started by the test."""
    async with System(tmp_path) as running:
        yield running
