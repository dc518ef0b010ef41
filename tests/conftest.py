"""Fixtures that start real servers; nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """nats-server, S3 and the emulator; services are started by the test."""
    async with System(folder=tmp_path) as running:
        yield running
