"""One server process: what is said when it fails, and that it ends whatever it does."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from local.child import Child, NotStarted, until

if TYPE_CHECKING:
    from pathlib import Path

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("listening", flush=True)
time.sleep(60)
"""


def python(folder: Path, program: str) -> Child:
    child = Child("the server", folder / "logs" / "server.log")
    child.start([sys.executable, "-c", program])
    return child


def told(child: Child) -> bool:
    return "listening" in child.tail()


async def test_one_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    child = python(tmp_path, STUBBORN)
    await child.ready(lambda: told(child), 10)
    with pytest.raises(NotStarted, match="runs already"):
        child.start([sys.executable])
    await child.stop(0.1)
    assert child.status == -signal.SIGKILL
    await child.stop(0.1)  # again does no harm


async def test_one_that_is_frozen_is_stopped_all_the_same(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; print('listening', flush=True); time.sleep(60)")
    await child.ready(lambda: told(child), 10)
    child.freeze()
    await child.stop(5)
    assert child.status == -signal.SIGTERM


async def test_one_that_ends_early_says_its_last_words(tmp_path: Path) -> None:
    child = python(tmp_path, "raise SystemExit('no disk')")
    with pytest.raises(NotStarted, match=r"ended with status 1[\s\S]*no disk"):
        await child.ready(lambda: False, 10)


async def test_one_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    child = python(tmp_path, STUBBORN)
    with pytest.raises(NotStarted, match=r"not ready within 0\.1 s"):
        await child.ready(lambda: False, 0.1)
    assert not child.running


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    child = Child("the server", tmp_path / "log")
    with pytest.raises(NotStarted, match="cannot execute /nowhere/server"):
        child.start(["/nowhere/server"])
    with pytest.raises(NotStarted, match="start it first"):
        _ = child.pid
    assert await until(lambda: not child.running, 1)
