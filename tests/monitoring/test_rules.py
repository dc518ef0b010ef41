"""The rules by promtool: valid, and each alert fires when it must and is silent when not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.monitoring.prometheus import ALERTS, program

pytestmark = pytest.mark.monitoring
FILES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))


def promtool(*words: str | Path) -> str:
    ended = subprocess.run(
        [program("promtool"), *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "rules", ALERTS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_alert_fires_when_it_must_and_is_silent_when_not(file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", file)
