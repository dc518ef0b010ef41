"""Whether memory stays flat: 20,000 turns, each a conversation of its own, as fast as they go.

python -m bench.soak --turns 20000
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Final

import uvloop

from bench.contenders import Parley
from bench.revisions import described
from bench.surroundings import Surroundings
from bench.workload import chat, speech
from local.process import ROOT

_AT_ONCE: Final = 32
_LINES: Final = 20


async def _run(turns: int) -> None:
    async with Surroundings() as around, Parley("soak", ROOT, around.environ()) as parley:
        # A voice of 0.4 s: what is kept of 20,000 longer ones would be gigabytes.
        voice = {**speech(0.4), "realtime_factor": 0.0, "first_audio_ms": 0.0, "wire_times": False}
        words = chat(first_token_ms=0.0, tokens_per_second=0.0, wire_times=False)
        await around.emulator.change({"chat": words, "speech": voice})
        await parley.serve()
        each = turns // _LINES // _AT_ONCE
        print(f"{described('HEAD')}: turns, chat + tts MB, turns/s", flush=True)
        print(f"{0:>6} {parley.memory_mb():7.1f}", flush=True)
        for line in range(_LINES):
            began = time.monotonic()
            await asyncio.gather(*(parley.turns(each) for _ in range(_AT_ONCE)))
            rate = each * _AT_ONCE / (time.monotonic() - began)
            done = (line + 1) * each * _AT_ONCE
            print(f"{done:>6} {parley.memory_mb():7.1f} {rate:6.1f}", flush=True)
            await around.emulator.clear_record()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--turns", type=int, default=20_000)
    uvloop.run(_run(parser.parse_args().turns))


if __name__ == "__main__":
    main()
