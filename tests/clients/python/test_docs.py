"""What the client's documentation shows, done: its examples, on the running stack.

The examples are those of an interactive session with `await` (`python -m asyncio`); each docstring
has the names of the package, `url`, and a connected `parley`.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
import traceback
import types
from typing import TYPE_CHECKING, Any

import parley as package
import pytest
import pytest_asyncio

from local.process import ROOT
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

SCRIPT = {
    "chat": {"first_token_ms": 5, "tokens_per_second": 400, "replies": ["You said: Hello!"]},
    "speech": {"realtime_factor": 200, "first_audio_ms": 5},
}
PROGRAM = ("parley.cli", "parley.__main__")  # with tests of its own


def modules() -> Iterator[types.ModuleType]:
    yield package
    for found in pkgutil.iter_modules(package.__path__, "parley."):
        if not found.name.startswith(PROGRAM):
            yield importlib.import_module(found.name)


def documented() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for module in modules() for test in finder.find(module) if test.examples]


def example(source: str, names: dict[str, Any], runner: asyncio.Runner) -> str:
    """What it prints, or how it ends."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(source, "<example>", "single", flags, dont_inherit=True)
            runner.run(_done(types.FunctionType(code, names)))
        except Exception as exc:  # noqa: BLE001  as a prompt would show it
            said.write("Traceback (most recent call last):\n")
            said.writelines(traceback.format_exception_only(exc))
    return said.getvalue()


async def _done(code: Callable[[], object]) -> None:
    found = code()
    if inspect.iscoroutine(found):
        await found


def perform(test: doctest.DocTest, url: str) -> list[str]:
    """What is not as it is written; in a thread of its own, for it has a loop of its own."""
    wrong = []
    with asyncio.Runner() as runner:
        client = package.Parley.connect(url, idle=30)
        runner.run(client.open())
        names = {**test.globs, **vars(package), "url": url, "parley": client}
        for each in test.examples:
            got = example(each.source, names, runner)
            if got != each.want:
                wrong.append(f"{test.name}: {each.source}gave\n{got}instead of\n{each.want}")
        runner.run(client.close())
    return wrong


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system"), script=SCRIPT) as system:
        await system.up()
        yield system


@pytest.mark.parametrize("test", documented(), ids=lambda test: test.name)
async def test_an_example_does_what_it_says(
    test: doctest.DocTest, running: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert await asyncio.to_thread(perform, test, running.nats.url) == []


def public(kind: type) -> Iterator[str]:
    for name, value in vars(kind).items():
        if not name.startswith("_") and callable(getattr(value, "__func__", value)):
            yield name


@pytest.mark.parametrize("kind", [package.Parley, package.Turn], ids=lambda kind: kind.__name__)
async def test_what_a_user_calls_has_an_example(kind: type) -> None:
    unneeded = {"open", "close", "follower", "play"}  # as `async with`; inside; a sound card
    without = [
        name
        for name in public(kind)
        if ">>>" not in (getattr(kind, name).__doc__ or "") and name not in unneeded
    ]

    assert without == []


def program_in(file: Path, url: str) -> str:
    """The first one, on the address where this stack listens."""
    text = file.read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    return str(found).replace("nats://127.0.0.1:4222", url)


async def done(program: str) -> str:
    """What it prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        await asyncio.to_thread(exec, compile(program, "README.md", "exec"), {"__name__": "readme"})
    return said.getvalue()


class Device:
    """A speaker that is no sound card."""

    heard_ms = 120

    async def write(self, pcm: bytes) -> None: ...

    async def drain(self) -> None: ...

    def stop(self) -> None: ...


async def test_the_clients_readme_asks_plays_and_interrupts(
    running: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.emulator.change({"chat": {"replies": ["Red, green and violet. " * 9]}})
    monkeypatch.setattr("parley.turn.SoundCard", Device)
    program = program_in(ROOT / "clients" / "python" / "README.md", running.nats.url)

    assert (await done(program)).startswith("Red, green and violet")
    assert len([line for line in program.splitlines() if line]) <= 15


async def test_the_readme_asks_and_keeps_the_voice(
    running: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.emulator.change({"chat": {"replies": ["Because of the air."]}})
    monkeypatch.chdir(tmp_path)

    assert await done(program_in(ROOT / "README.md", running.nats.url)) == "Because of the air."
    assert (tmp_path / "answer.wav").stat().st_size > 44
