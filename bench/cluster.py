"""What it costs that nothing acknowledged is ever lost: one server, and a cluster of three.

    python -m bench.cluster --rounds 3

runs today's services on each of them, in turn: one server as it comes, one that has each message on
its disk before it acknowledges it (`sync_interval: always`), and three of those, each stream with
three replicas, all on this machine and its disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import uvloop

from bench import page
from bench.contenders import Parley
from bench.revisions import described
from bench.servers import setups
from bench.surroundings import Surroundings
from bench.table import percentile, shown
from bench.workload import chat
from local.process import ROOT, temporary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.emulator_process import EmulatorProcess

_AT_ONCE: Final = 32
_EACH: Final = 3  # turns one after the other, of each of those at once


async def _measured(rounds: int) -> list[tuple[str, ...]]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    folder = temporary("cluster")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        around = await stack.enter_async_context(Surroundings())
        contenders = []
        for name, server, replicas in setups(folder):
            environ = {**around.environ(), "STREAM_REPLICAS": replicas}
            parley = Parley(name, ROOT, environ, server)
            contenders.append(await stack.enter_async_context(parley))
            await parley.serve()
            await parley.turns(_AT_ONCE, _AT_ONCE)  # its connections are made
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for parley in contenders:
                await _round(parley, around.emulator, found[parley.name])
    return _table(found)


async def _round(parley: Parley, emulator: EmulatorProcess, into: dict[str, list[float]]) -> None:
    await emulator.change({"chat": chat()})
    one = await parley.turns(3)
    into["first"] += one.first_audio
    into["whole"] += one.whole
    before = parley.cpu()
    batch = await parley.turns(_AT_ONCE, _AT_ONCE)
    into["first_32"] += batch.first_audio
    used = parley.cpu()["nats-server"] - before["nats-server"]
    into["nats"].append(used / _AT_ONCE)
    # A model so fast that the machine is what the next turn waits for.
    await emulator.change({"chat": chat(tokens_per_second=200.0, first_token_ms=50.0)})
    began = time.monotonic()
    await asyncio.gather(*(parley.turns(_EACH) for _ in range(_AT_ONCE)))
    into["rate"].append(_AT_ONCE * _EACH / (time.monotonic() - began))


def _table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            described("HEAD"),
            "first sound, ms",
            "whole turn, ms",
            "first sound, 32 at once, ms",
            "turns/s",
            "all servers' processor a turn, ms",
        )
    ]
    for name, of in found.items():
        times = (percentile(of[key], 50) or 0.0 for key in ("first", "whole", "first_32"))
        rate, used = percentile(of["rate"], 50), (percentile(of["nats"], 50) or 0.0) * 1000
        rows.append((name, *(shown(each * 1000) for each in times), shown(rate), shown(used)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    page.may_write(parser)
    arguments, where = parser.parse_args(), page.machine()
    page.tell("cluster", uvloop.run(_measured(arguments.rounds)), where, arguments.write)


if __name__ == "__main__":
    main()
