"""`make demo` as people run it: a spoken turn, kept for the next time, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nats

from local.ask import fetch
from local.process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OFFLINE = {k: v for k, v in os.environ.items() if not k.startswith(("TOGETHER_", "NATS_"))}
SECONDS = 90  # for a start of everything, on a machine that has other things to do


@contextlib.asynccontextmanager
async def demo(folder: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.demo", "--data", str(folder / "kept")),
        *("--out", str(folder / "demo.wav"), *words),
        cwd=ROOT,
        env=OFFLINE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    assert left_behind(folder) == []


def left_behind(folder: Path) -> list[str]:
    """The command lines of processes that have to do with this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environ = (process / "environ").read_bytes().decode(errors="replace")
            if str(folder) in command + environ and process.name != str(os.getpid()):
                found.append(command)
    return found


async def said(process: asyncio.subprocess.Process, until: str) -> str:
    """What it printed up to these words."""
    assert process.stdout is not None
    text = ""
    while until not in text:
        line = (await process.stdout.readline()).decode()
        assert line, f"it ended early, having said:\n{text}"
        text += line
    return text


async def turns(text: str) -> dict[str, bool]:
    """The turns that NATS has kept, by conversation; whether the voice of each can be fetched."""
    address = next(word for word in text.split() if word.startswith("nats://"))
    client = await nats.connect(address)
    jetstream = client.jetstream()
    found = {}
    state = (await jetstream.stream_info("TTS_AUDIO")).state
    for number in range(state.first_seq, state.last_seq + 1):
        message = await jetstream.get_msg("TTS_AUDIO", number)
        headers = message.headers or {}
        if headers["Parley-Type"] == "stored":
            event = json.loads(message.data or b"")
            conversation = headers["Parley-Conversation"]
            # The event's own link ends where the store had to take another port meanwhile.
            asked = json.dumps({"turn_id": event["turn_id"]}).encode()
            link = await client.request(f"tts.link.{conversation}", asked, timeout=SECONDS)
            wav = await fetch(json.loads(link.data)["url"], event["sha256"])
            found[conversation] = len(wav) > 100_000
    await client.close()
    return found


async def test_what_was_said_is_there_the_next_time(tmp_path: Path) -> None:
    async with demo(tmp_path, "--once") as first:
        await said(first, "heard live")
        assert await first.wait() == 0
    async with demo(tmp_path) as second:
        text = await said(second, "Ctrl-C stops everything.")
        assert list((await turns(text)).values()) == [True, True]
        second.send_signal(signal.SIGINT)
        assert await second.wait() == 0


async def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    for step in ("Parley on this machine", "NATS, S3", "You:"):
        async with demo(tmp_path) as process:
            await said(process, step)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)  # as people do
            assert await process.wait() == 0
