"""A server that asks a running access service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.integration.access.world import Guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """For the tests of a file that leave keys and servers as they are."""
    async with Guarded(tmp_path_factory.mktemp("guarded")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[Guarded]:
    """For one test."""
    async with Guarded(tmp_path) as running:
        yield running
