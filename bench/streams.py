"""Where one stream ends: acknowledged publishes a second, as the services send them.

    python -m bench.streams

on one server, on one that has each message on its disk before it acknowledges it, and on a cluster
of three of those; for the text events and for the audio frames of turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from typing import Final

import uvloop

from bench import page
from bench.client import Wire
from bench.servers import setups
from local.process import ROOT, temporary

_CONVERSATIONS: Final = 200
# subject, bytes of a message, messages a turn, how many may be un-acknowledged
_KINDS: Final = (("chat.delta", 200, 60, 512), ("tts.audio", 4_800, 45, 512))


class _Publisher:
    """Keeps so many publishes under way."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._acked, self._sent, self._refused = 0, 0, 0
        self._moved = asyncio.Event()

    def _take(self, _subject: bytes, _head: bytes, body: bytes, _now: float) -> None:
        self._acked += 1
        self._refused += b'"error"' in body
        self._moved.set()

    async def run(self, url: str, subject: str, size: int, seconds: float) -> float:
        """Messages acknowledged a second.

        Raises: SystemExit, where one was refused.
        """
        wire = await Wire.connect(url, self._take)
        inbox = f"_INBOX.{uuid.uuid4().hex}"
        wire.send(f"SUB {inbox} 1\r\n".encode())
        await wire.flush()
        lines = [f"PUB {subject}.c{n} {inbox} {size}\r\n".encode() for n in range(_CONVERSATIONS)]
        body = bytes(size) + b"\r\n"
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            room = self._window - (self._sent - self._acked)
            wire.send(
                b"".join(lines[(self._sent + n) % _CONVERSATIONS] + body for n in range(room))
            )
            self._sent += room
            self._moved.clear()
            await asyncio.wait_for(self._moved.wait(), 30)
        wire.close()
        if self._refused:
            raise SystemExit(f"{self._refused} publishes were refused")
        return self._acked / passed


def _provision(url: str, replicas: str) -> None:
    environ = {**os.environ, "NATS_URL": url, "STREAM_REPLICAS": replicas}
    command = [sys.executable, "-m", "shared.provision", "--apply"]
    subprocess.run(command, env=environ, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


async def _measured(seconds: float) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "text events/s", "turns/s", "audio frames/s", "turns/s")]
    folder = temporary("streams")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name, server, replicas in setups(folder):
            async with server:
                await asyncio.to_thread(_provision, server.url, replicas)
                cells = []
                for subject, size, of_a_turn, window in _KINDS:
                    rate = await _Publisher(window).run(server.url, subject, size, seconds)
                    cells += [f"{rate:,.0f}", f"{rate / of_a_turn:,.0f}"]
                rows.append((name, *cells))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    page.may_write(parser)
    arguments, where = parser.parse_args(), page.machine()
    page.tell("streams", uvloop.run(_measured(arguments.seconds)), where, arguments.write)


if __name__ == "__main__":
    main()
