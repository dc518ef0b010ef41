"""`make faults`: seeded runs of real processes, real kills; the seed is printed, a run repeats.

    python -m tests.faults --runs 30 --cluster-runs 8 --seed 1

The runs share one system, each finding it as the run before left it; after one that failed, the
next gets a fresh one.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults import cluster, scenarios
from tests.faults.scenarios import SCRIPT, SETTINGS
from tests.system import System

RUN_SECONDS = 180.0
TAIL = 2500  # characters of each log that are shown


async def _one(system: System, seed: int) -> bool:
    run_seed = cluster.run_seed if system.cluster else scenarios.run_seed
    began = time.monotonic()
    try:
        async with asyncio.timeout(RUN_SECONDS):
            name = await run_seed(system, seed)
    except Exception:  # noqa: BLE001  whatever it is, it is reported with its seed
        print(f"seed {seed} FAILED\n{traceback.format_exc()}", flush=True)
        for service in system.services[-4:]:
            print(f"--- {service.log}\n{service.log.read_text()[-TAIL:]}", flush=True)
        return False
    print(f"seed {seed}: {name} in {time.monotonic() - began:.1f} s", flush=True)
    return True


async def _series(seeds: list[int], *, of_three: bool) -> int:
    """So many of these passed, on one system, until one fails."""
    with tempfile.TemporaryDirectory(prefix="parley-faults-") as folder:
        async with System(
            Path(folder), script=SCRIPT, settings=SETTINGS, cluster=of_three
        ) as system:
            servers = 3 if of_three else 1
            print(f"a fresh system; servers: {servers}, store: {system.s3.kind}", flush=True)
            await system.up()
            for passed, seed in enumerate(seeds):
                if not await _one(system, seed):
                    return passed
    return len(seeds)


async def main(first: int, runs: int, cluster_runs: int) -> int:
    failed = 0
    for count, of_three in ((runs, False), (cluster_runs, True)):
        left = list(range(first, first + count))
        while left:
            left = left[await _series(left, of_three=of_three) :]
            failed += bool(left)
            left = left[1:]
    print(f"{runs + cluster_runs - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--cluster-runs", type=int, default=8, help="on three nats-servers")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # its reconnects are what we provoke
    sys.exit(asyncio.run(main(given.seed, given.runs, given.cluster_runs)))
