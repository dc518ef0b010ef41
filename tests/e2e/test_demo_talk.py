"""`make demo` as a place to talk: a person at its terminal, who also kills what answers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from parley import Parley

from local.process import ROOT, until
from local.terminal import Terminal
from tests.e2e.test_demo import OFFLINE, left_behind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(400)

PROMPT = "\x1b[K> "
SECONDS = 90  # for whatever happens, on a machine that has other things to do


@contextlib.asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[Terminal]:
    """At its prompt; behind it nothing is left of it."""
    environ = {**OFFLINE, "PYTHONPATH": str(ROOT / "clients" / "python")}
    words = ("--data", str(folder / "kept"), "--out", str(folder / "demo.wav"))
    command = [sys.executable, "-m", "local.demo", *words]
    async with Terminal(command, environ, cwd=ROOT) as terminal:
        await terminal.until("at the empty prompt", SECONDS)
        await terminal.until(PROMPT, SECONDS)
        yield terminal
        await terminal.ended(SECONDS)
    assert await until(lambda: not left_behind(folder), 15), left_behind(folder)


async def test_a_worker_that_is_killed_in_mid_answer_is_started_again_and_the_turn_goes_on(
    tmp_path: Path,
) -> None:
    async with demo(tmp_path) as terminal:
        before = terminal.text
        assert before.index("http://") < before.index("nats://")  # the page stands first
        terminal.type("Tell me a story\r")
        await terminal.until("lit the lamp", SECONDS)
        terminal.type("\x0b")  # Ctrl-K
        await terminal.until("chat has ended (SIGKILL)", SECONDS)
        await terminal.until("Once upon a time", SECONDS)
        await terminal.until("never lonely again", SECONDS)
        await terminal.until("s of voice", SECONDS)
        await terminal.until(PROMPT, SECONDS)
        terminal.type("/kill tts\r")
        await terminal.until("tts is back", SECONDS)
        terminal.type("Tell me a story in detail\r")
        await terminal.until("lit the lamp", SECONDS)
        terminal.type("\x03")  # Ctrl-C: interrupts, and at the prompt ends it all
        await terminal.until("(interrupted)", SECONDS)
        await terminal.until(PROMPT, SECONDS)
        terminal.type("\x03")
        assert await terminal.ended(SECONDS) == 0


async def test_whatever_ends_it_what_was_said_is_there_the_next_time(tmp_path: Path) -> None:
    async with demo(tmp_path) as first:
        first.type("My name is Ada.\r")
        await first.until("s of voice", SECONDS)
        first.type("Tell me a story\r")
        await first.until("lit the lamp", SECONDS)
        first.process.send_signal(signal.SIGKILL)
    async with demo(tmp_path) as second:
        assert "My name is Ada." in second.text
        second.type("What is my name?\r")
        await second.until("Your name is Ada.", SECONDS)
        second.hang_up()
    async with demo(tmp_path) as third:
        address = next(word for word in third.text.split() if word.startswith("nats://"))
        async with asyncio.timeout(SECONDS), Parley.connect(address) as parley:
            page = await anext(parley.history("at-the-prompt"))
        said = [message.content for message in page.messages]
        assert said[0] == "My name is Ada."
        assert "Tell me a story" in said
        assert "What is my name?" in said
        third.process.send_signal(signal.SIGTERM)
