"""Each drill that `make drills` writes down, held: the alert comes, and the runbook mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.drills.drills import DRILLS, Drill, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(900)]


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.alert)
async def test_what_is_broken_is_seen_and_mended_as_the_runbook_tells(
    drill: Drill, tmp_path: Path
) -> None:
    row = await run(drill, tmp_path)
    assert row.commands
    assert set(row.seen.values()) != {"nothing"}
