"""Tests against the real provider: `make live`, never part of the suite.

They cost a little money and need TOGETHER_API_KEY. TOGETHER_BASE_URL and TTS_URL may point them at
anything compatible, LIVE_IDLE_SECONDS says for how long an idle socket is watched (330).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ANSWERS = pytest.StashKey[dict[str, str]]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only who names this folder runs what is in it."""
    named = (Path(arg.partition("::")[0]).resolve() for arg in config.args)
    asked = any(path == HERE or HERE in path.parents for path in named)
    return None if asked else True


@pytest.fixture(autouse=True, scope="session")
def api_key() -> str:
    key = os.environ.get("TOGETHER_API_KEY", "")
    if not key:
        pytest.skip("TOGETHER_API_KEY is not set: there is nobody to ask")
    return key


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Keeps an answer for the table at the end."""
    answers = request.config.stash.setdefault(ANSWERS, {})
    return answers.__setitem__


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    answers = config.stash.get(ANSWERS, {})
    if not answers:
        return
    terminalreporter.section("what the provider does")
    width = max(map(len, answers))
    for question, answer in answers.items():
        for n, line in enumerate(answer.splitlines() or ["?"]):
            terminalreporter.write_line(f"{'' if n else question:<{width}}  {line}")
