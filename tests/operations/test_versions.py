"""An upgrade and a rollback while turns run: what `make versions` does, with what git has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.runs import versions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.versions
@pytest.mark.timeout(400)
async def test_one_goes_on_to_this_version_and_back_while_turns_run(tmp_path: Path) -> None:
    await versions.rehearse(versions.older(), tmp_path)
