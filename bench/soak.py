"""Whether memory stays flat: 20,000 turns, each a conversation of its own, as fast as they go.

python -m bench.soak --turns 20000
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Final

import uvloop

from bench import page
from bench.contenders import SERVICES, Parley, memory_mb
from bench.revisions import described
from bench.surroundings import Surroundings
from bench.workload import chat, speech
from local.process import ROOT

_AT_ONCE: Final = 32
_LINES: Final = 10
_HEADINGS: Final = tuple(f"{name}, MB" for name in SERVICES)


async def _run(turns: int) -> list[tuple[str, ...]]:
    async with Surroundings() as around, Parley("soak", ROOT, around.environ()) as parley:
        # A voice of 0.4 s: what is kept of 20,000 longer ones would be gigabytes.
        voice = {**speech(0.4), "realtime_factor": 0.0, "first_audio_ms": 0.0, "wire_times": False}
        words = chat(first_token_ms=0.0, tokens_per_second=0.0, wire_times=False)
        await around.emulator.change({"chat": words, "speech": voice})
        await parley.serve()
        each = turns // _LINES // _AT_ONCE
        await parley.turns(_AT_ONCE, _AT_ONCE)  # its connections are made
        told: list[tuple[str, ...]] = [(f"turns ({described('HEAD')})", *_HEADINGS, "turns/s")]
        told.append(("0", *_memory(parley), ""))
        for line in range(_LINES):
            began = time.monotonic()
            await asyncio.gather(*(parley.turns(each) for _ in range(_AT_ONCE)))
            rate = each * _AT_ONCE / (time.monotonic() - began)
            done = (line + 1) * each * _AT_ONCE
            told.append((f"{done:,}", *_memory(parley), f"{rate:.1f}"))
            print(*told[-1], file=sys.stderr, flush=True)
            await around.emulator.clear_record()
    return told


def _memory(parley: Parley) -> tuple[str, ...]:
    return tuple(f"{memory_mb(parley.services[name].pid):.1f}" for name in SERVICES)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--turns", type=int, default=20_000)
    page.may_write(parser)
    arguments, where = parser.parse_args(), page.machine()
    page.tell("soak", uvloop.run(_run(arguments.turns)), where, arguments.write)


if __name__ == "__main__":
    main()
