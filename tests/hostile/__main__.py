"""`make hostile`: a storm of generated messages against running services; the seed repeats it.

python -m tests.hostile --messages 10000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.whole import assert_whole
from tests.hostile.messages import generated
from tests.hostile.storm import SCRIPT, SETTINGS, Account, complaints, resident, storm
from tests.system import System

ROUND = 1_000  # messages between two looks at the memory
WARM_UP = 3  # rounds, in which the allocator comes to keep what large messages need
MAX_GROWTH = 30 * 2**20  # from then on: rounds differ by as much


async def main(count: int, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="parley-hostile-") as folder:
        async with System(Path(folder), script=SCRIPT, settings=SETTINGS) as system:
            for name in ("chat", "tts"):
                await system.add(name).ready()
            wrong = await _rounds(system, count, seed)
            await system.until_empty("CHAT_REQUESTS", "TTS_REQUESTS")
            await system.ears.listen(system.client)
            assert_whole(await system.answered(content="Still there?", speech={}), system)
            print("a turn after it is whole")
            return wrong


async def _rounds(system: System, count: int, seed: int) -> int:
    wrong, before, account = 0, dict[str, int](), Account()
    for sent in range(0, count, ROUND):
        size = min(ROUND, count - sent)
        messages = generated(size, seed * 1_000 + sent // ROUND)
        began = time.monotonic()
        account.how.clear()
        await storm(system, messages, account)
        memory = {service.name: resident(service) for service in system.services}
        before = memory if sent < WARM_UP * ROUND else before
        shown = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in memory.items())
        outcomes = ", ".join(f"{how} {n}" for how, n in account.how.most_common())
        print(f"{sent + size}: {time.monotonic() - began:.0f} s; {outcomes}; {shown}", flush=True)
        bugs = complaints(system.services)
        for line in (*map(str, account.open.values()), *bugs):
            print(f"  WRONG {line[:2000]}")
        wrong += len(account.open) + len(bugs)
        account.open.clear()
        if not all(service.running for service in system.services):
            raise SystemExit("a service has ended")
    for name, grown in ((name, memory[name] - before[name]) for name in memory):
        print(f"{name}: {grown / 2**20:+.0f} MiB since the warm-up")
        wrong += grown > MAX_GROWTH
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.exit(1 if asyncio.run(main(given.messages, given.seed)) else 0)
