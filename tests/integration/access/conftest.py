"""A server that asks a running access service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.access.world import Guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with Guarded(tmp_path) as running:
        yield running
