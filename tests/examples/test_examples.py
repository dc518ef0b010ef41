"""Each example, run as who copies it runs it, against the offline stack; `make examples`.

What has to be installed for one is installed by `make examples`; an example for a language that is
not here is not run there.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import shutil
import sys
import time
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from local.ports import free_ports
from tests.e2e.test_page import Browser, chromium
from tests.system import System, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.examples,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECONDS = 120.0
REPLY = "The sea is salty. Rivers carry salt into it, and it stays there for good."
LONG = " ".join([REPLY] * 20)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with System(tmp_path_factory.mktemp("system")) as system:
        await system.up()
        yield system


@pytest_asyncio.fixture(loop_scope="module")
async def system(running: System) -> System:
    running.emulator.reset()
    running.emulator.change({"chat": {"replies": [REPLY], "tokens_per_second": 100}})
    return running


async def started(
    system: System, *command: str | Path, folder: Path, **environ: str
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=folder,
        env={**os.environ, "NATS_URL": system.nats.url, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def said(system: System, *command: str | Path, folder: Path) -> str:
    """Its standard output; it has to end well."""
    process = await started(system, *command, folder=folder)
    async with asyncio.timeout(SECONDS):
        out, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return out.decode()


async def newest(system: System) -> Turn:
    """The turn that was begun last, whole."""
    turn_id = list(system.ears.turns)[-1]
    await system.ears.whole(turn_id)
    return system.ears.turn(turn_id)


async def test_python_prints_the_words_and_keeps_the_voice(system: System, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    out = await said(system, sys.executable, "python/ask.py", "Hello!", file, folder=EXAMPLES)
    assert out.startswith(f"{REPLY}\n")
    with wave.open(str(file)) as found:
        assert found.getparams()[:3] == (1, 2, 24_000)
        assert found.readframes(found.getnframes()) == (await newest(system)).voice()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("node", "ask.mjs"), id="node"),
        pytest.param(("go", "run", "."), id="go"),
    ],
)
async def test_other_languages_do_the_same(
    system: System, tmp_path: Path, command: tuple[str, ...]
) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not here")
    file = tmp_path / "a.pcm"
    out = await said(system, *command, "Hello!", file, folder=EXAMPLES / command[0])
    assert out.startswith(f"{REPLY}\n")
    assert file.read_bytes() == (await newest(system)).voice()


async def test_a_moderator_stops_an_answer_at_a_word(system: System) -> None:
    system.emulator.change({"chat": {"replies": [f"{REPLY} Forbidden! {LONG}"]}})
    watch = ("moderation/watch.py", "forbidden")
    process = await started(system, sys.executable, *watch, folder=EXAMPLES)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            assert await process.stdout.readline() == b"watching\n"
            turn = await system.answered(content="Hello!")
            line = (await process.stdout.readline()).decode()
    finally:
        process.kill()
        await process.wait()
    assert line.endswith("stopped at 'forbidden'\n")
    assert turn.end is not None
    assert turn.end["finish_reason"] == "cancelled"
    assert "Forbidden" in turn.end["text"]
    assert len(turn.end["text"]) < len(LONG)


async def test_a_phone_line_hears_the_voice(system: System, tmp_path: Path) -> None:
    conversation = "on-the-phone"
    file = tmp_path / "line.ulaw"
    process = await asyncio.create_subprocess_shell(
        f"exec {sys.executable} phone/line.py {conversation} > {file}",
        cwd=EXAMPLES,
        env={**os.environ, "NATS_URL": system.nats.url},
    )
    try:
        until = time.monotonic() + SECONDS
        while not (file.exists() and file.stat().st_size):  # it listens, and is silent
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        turn = await system.answered(content="Hello!", conversation_id=conversation)
        expected = runpy.run_path(str(EXAMPLES / "phone" / "line.py"))["Line"]()
        expected.feed(turn.voice())
        frames = b"".join(iter(expected.frame, b"\xff" * 160))
        while frames not in file.read_bytes():
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
    finally:
        process.kill()
        await process.wait()


async def ready(url: str) -> None:
    """Something answers there."""
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(url):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def test_server_sent_events_have_words_and_voice_and_who_leaves_stops_it(
    system: System,
) -> None:
    (port,) = free_ports(1)
    folder = EXAMPLES / "fastapi"
    uvicorn = folder / ".venv" / "bin" / "uvicorn"
    process = await started(system, uvicorn, "app:app", f"--port={port}", folder=folder)
    try:
        await ready(f"http://127.0.0.1:{port}/openapi.json")
        ask = f"http://127.0.0.1:{port}/ask"
        async with aiohttp.ClientSession() as http:
            async with http.get(ask, params={"text": "Hello!"}) as answer:
                body = await answer.text()
            events = re.findall(r"event: (\w+)\ndata: (.*)\n\n", body)
            words = "".join(json.loads(data) for kind, data in events if kind == "text")
            assert words == REPLY
            assert {"voice", "done", "stored"} <= {kind for kind, _ in events}
            async with http.get(ask, params={"text": ""}) as refused:
                assert refused.status == 400
            system.emulator.change({"chat": {"replies": [LONG], "tokens_per_second": 20}})
            async with http.get(ask, params={"text": "Hello!"}) as left:
                await left.content.readline()
        turn = await newest(system)
        assert turn.end is not None
        assert turn.end["finish_reason"] == "cancelled"
    finally:
        process.kill()
        await process.communicate()


async def test_a_page_written_for_the_provider_works_when_its_route_asks_parley(
    system: System, tmp_path: Path
) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    (port,) = free_ports(1)
    folder, page = EXAMPLES / "nextjs", f"http://localhost:{port}/"
    process = await started(
        system, "node_modules/.bin/next", "dev", f"--port={port}", folder=folder
    )
    try:
        await ready(page)
        async with Browser(chromium()) as browser:
            tab = await browser.empty_tab()
            await tab.send("Page.navigate", url=page)
            # React has taken the form over: before that, it would be sent by the browser.
            form = "document.querySelector('form') ?? {}"
            taken = f"Object.keys({form}).some((key) => key.startsWith('__react'))"
            await tab.until(taken, seconds=SECONDS)
            await tab.evaluate("document.querySelector('input').focus()")
            await tab.send("Input.insertText", text="Why is the sea salty?")
            await tab.press("Enter")
            words = "[...document.querySelectorAll('li')].at(-1)?.innerText"
            await tab.until(f"{words} === {f'assistant: {REPLY}'!r}", seconds=SECONDS)
            await tab.until("!document.querySelector('button').disabled")
            await tab.picture(tmp_path / "page.png")
            await tab.close()
        turn = await newest(system)
        assert turn.end is not None
        assert turn.end["text"] == REPLY
        assert turn.end["finish_reason"] == "stop"
    finally:
        process.terminate()
        await process.communicate()
