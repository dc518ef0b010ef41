"""What the client shares with the services is what the services say today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
GENERATE = ROOT / "clients" / "python" / "generate.py"


def test_the_copies_are_not_stale() -> None:
    ended = subprocess.run(
        [sys.executable, GENERATE, "--check"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
