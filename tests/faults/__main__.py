"""`make faults`: seeded runs of real processes, real kills; the seed is printed, a run repeats.

python -m tests.faults --runs 30 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import traceback

from tests.faults.scenarios import SCRIPT, run_seed
from tests.system import System

RUN_SECONDS = 180.0
SETTINGS = {
    # Shorter than the defaults, so that a run ends; the same code waits.
    "CHAT_FIRST_TOKEN_TIMEOUT": "3",
    "CHAT_TOKEN_TIMEOUT": "2",
    "TTS_FIRST_AUDIO_TIMEOUT": "3",
    "TTS_AUDIO_TIMEOUT": "2",
    "MINIO_PATIENCE": "3",
}


async def main(first: int, runs: int) -> int:
    failed: list[int] = []
    async with System(script=SCRIPT, settings=SETTINGS) as system:
        print(f"store: {system.s3.kind}; seeds {first} to {first + runs - 1}", flush=True)
        await system.up()
        for seed in range(first, first + runs):
            began = time.monotonic()
            try:
                async with asyncio.timeout(RUN_SECONDS):
                    name = await run_seed(system, seed)
            except Exception:  # noqa: BLE001  reported, and the next seed gets a fresh system
                failed.append(seed)
                print(f"seed {seed} FAILED\n{traceback.format_exc()}", flush=True)
                for service in system.services[-4:]:
                    print(f"--- {service.log}\n{service.log.read_text()[-2500:]}", flush=True)
                break
            print(f"seed {seed}: {name} in {time.monotonic() - began:.1f} s", flush=True)
    passed = 0 if failed and not runs else (failed[0] - first if failed else runs)
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.seed, given.runs)))
