"""`make bench`: Parley against the floor, in turn, on one emulator; one table of ratios.

Times on a shared machine drift, so each figure is taken in turn and quoted as a ratio of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats

from bench.direct import QUESTION
from local.process import start_all
from local.service import Service
from local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg

# Six sentences, about 60 tokens, as an assistant speaks.
REPLY = (
    "The sea covers more than two thirds of our planet, and most of it has never been seen. "
    "It is salty because rivers carry minerals into it. The deepest place is in the Pacific, "
    "almost eleven kilometres down. Light reaches only the first two hundred metres. "
    "Below that live creatures that make their own light. We know the surface of the moon better."
)
SPEECH = {"first_audio_ms": 80, "realtime_factor": 20}
SLOW_MODEL = {"first_token_ms": 120, "tokens_per_second": 40, "replies": [REPLY]}
FAST_MODEL = {"first_token_ms": 120, "tokens_per_second": 200, "replies": [REPLY]}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Result:
    first_audio: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    cpu: float = 0.0


class Parley:
    """The user of Parley: publishes requests, listens to the voice."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._chunks: dict[str, list[tuple[float, int]]] = {}
        self._ended: dict[str, asyncio.Event] = {}

    async def listen(self) -> None:
        await self._client.subscribe("tts.audio", cb=self._on_audio)
        await self._client.flush()
        await self._client.flush()

    async def _on_audio(self, msg: Msg) -> None:
        headers = msg.headers or {}
        turn_id, kind = headers["Parley-Turn"], headers["Parley-Type"]
        if kind == "chunk":
            self._chunks.setdefault(turn_id, []).append((time.monotonic(), len(msg.data)))
        elif kind == "stored":
            self._ended[turn_id].set()
        elif kind == "failed":
            raise SystemExit(f"a turn failed: {msg.data.decode()}")

    async def turn(self) -> dict[str, float]:
        turn_id = uuid.uuid4().hex
        self._ended[turn_id] = asyncio.Event()
        request = {"turn_id": turn_id, "content": QUESTION}
        began = time.monotonic()
        await self._client.publish("chat.request", json.dumps(request).encode())
        async with asyncio.timeout(120):
            await self._ended[turn_id].wait()
        chunks = self._chunks.pop(turn_id)
        return {
            "first_audio": chunks[0][0] - began,
            "whole": time.monotonic() - began,
            "bytes": sum(size for _, size in chunks),
        }


def _cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU that these processes have used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


class Bench:
    def __init__(self, stack: Stack, environment: dict[str, str], client: Client) -> None:
        self._environment = environment
        assert stack.emulator is not None
        self._emulator = stack.emulator
        self._parley = Parley(client)
        environ = {**os.environ, **environment, "HTTP_PORT": "0", "LOG_FORMAT": "json"}
        self.services = [Service(name, environ) for name in ("chat", "tts")]

    async def start(self) -> None:
        await start_all(self.services)
        await self._parley.listen()
        await self._parley.turn()  # it makes every connection

    async def close(self) -> None:
        for service in self.services:
            await service.close()

    async def script(self, **script: Any) -> None:
        await self._emulator.change(script)

    async def made(self) -> float:
        """Seconds of audio that the emulator has made so far."""
        return float((await self._emulator.totals())["seconds_of_audio"])

    async def direct(self, turns: int, at_once: int, into: Result) -> None:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.direct"),
            self._environment["TOGETHER_BASE_URL"],
            self._environment["TTS_URL"],
            str(turns),
            str(at_once),
            stdout=subprocess.PIPE,
        )
        out, _ = await program.communicate()
        for line in out.splitlines():
            _take(json.loads(line), into)

    async def parley(self, turns: int, at_once: int, into: Result) -> None:
        pids = [service.pid for service in self.services]
        before = _cpu(pids)
        for _ in range(turns // at_once):
            for one in await asyncio.gather(*(self._parley.turn() for _ in range(at_once))):
                _take(one, into)
        into.cpu += _cpu(pids) - before


def _take(line: dict[str, float], into: Result) -> None:
    if "cpu" in line:
        into.cpu += line["cpu"]
        return
    into.first_audio.append(line["first_audio"])
    into.whole.append(line["whole"])
    into.received.append(int(line["bytes"]))


async def _both(bench: Bench, rounds: int, turns: int, at_once: int) -> tuple[Result, Result]:
    """In turn, so that a machine that slows down slows both."""
    floor, parley = Result(), Result()
    for number in range(rounds):
        print(f"  round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        await bench.direct(turns, at_once, floor)
        await bench.parley(turns, at_once, parley)
    return floor, parley


def _row(name: str, figures: tuple[float, float], unit: str, goal: str = "") -> str:
    floor, parley = figures
    ratio = parley / floor if floor else float("nan")
    return f"{name:<52} {floor:>9.1f} {parley:>9.1f} {unit:<3} {ratio:>6.2f}   {goal}".rstrip()


def _ms(floor: list[float], parley: list[float]) -> tuple[float, float]:
    return statistics.median(floor) * 1000, statistics.median(parley) * 1000


async def run(rounds: int) -> None:
    async with Stack(emulate=True) as stack:
        environment = stack.environment()
        client = await nats.connect(environment["NATS_URL"])
        bench = Bench(stack, environment, client)
        try:
            await bench.script(chat=SLOW_MODEL, speech=SPEECH)
            await bench.start()
            print("one conversation, model 40 tokens/s", file=sys.stderr)
            one = await _both(bench, rounds, 2, 1)
            print("one conversation, model 200 tokens/s, slow voice", file=sys.stderr)
            await bench.script(chat=FAST_MODEL, speech={**SPEECH, "realtime_factor": 6})
            before = await bench.made()
            fast = Result()
            await bench.parley(2, 1, fast)
            made = await bench.made() - before
            print("16 conversations at once", file=sys.stderr)
            await bench.script(chat=SLOW_MODEL, speech=SPEECH)
            many = await _both(bench, max(1, rounds // 2), 16, 16)
        finally:
            await bench.close()
            await client.close()
    _print(one, fast, made, many)


def _print(
    one: tuple[Result, Result], fast: Result, made: float, many: tuple[Result, Result]
) -> None:
    received = sum(fast.received) / 48_000
    (floor, parley), (floors, parleys) = one, many
    cpu = (floors.cpu * 1000 / len(floors.whole), parleys.cpu * 1000 / len(parleys.whole))
    print(f"{'median':<52} {'direct':>9} {'Parley':>9} {'':3} {'ratio':>6}   goal")
    rows = [
        _row("first audio", _ms(floor.first_audio, parley.first_audio), "ms", "<= 0.75"),
        _row("whole turn, voice stored", _ms(floor.whole, parley.whole), "ms"),
        _row("first audio, 16 at once", _ms(floors.first_audio, parleys.first_audio), "ms"),
        _row("whole turn, 16 at once", _ms(floors.whole, parleys.whole), "ms"),
        _row("CPU per turn, 16 at once (chat + tts)", cpu, "ms"),
        _row("audio made and received, 200 tokens/s, slow voice", (made, received), "s", "1.00"),
    ]
    print("\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="each with both programs in turn")
    asyncio.run(run(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
