"""Fixtures that start real servers, and how Hypothesis looks for examples."""

from __future__ import annotations

import gc
import signal
from pathlib import Path
from typing import TYPE_CHECKING

gc.disable()  # until all is loaded: a fifth of that, and every worker of a run loads every test

import hypothesis
import pytest

from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# The same examples in each run, and no clock: a machine that is busy fails nobody.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("steady")

# A shell that starts us in the background has Ctrl-C ignored, by us and by all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
# A file runs on one worker: those that take the longest begin first, and what only computes comes
# last, for it fills the end of a run, where no worker should be without work.
LONGEST_FIRST = (
    *("e2e/test_demo_talk.py", "integration/tts/together/test_voice.py", "e2e/test_operations.py"),
    *("e2e/test_voice_away.py", "clients/cli", "integration/deploy", "integration/local"),
    *("operations", "e2e", "drills", "faults", "clients", "deploy", "integration", ""),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(path: Path) -> int:
        name = path.relative_to(TESTS).as_posix()
        return next(n for n, start in enumerate(LONGEST_FIRST) if name.startswith(start))

    ranks = {path: rank(path) for path in {item.path for item in items}}
    items.sort(key=lambda item: ranks[item.path])


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there by now stays: no collection has to walk it again
    gc.enable()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """nats-server, S3 and the emulator; services are started by the test."""
    async with System(tmp_path) as running:
        yield running
