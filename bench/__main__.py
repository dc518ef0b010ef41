"""`make bench`: every figure of the table with its goal, in one run, on one emulator.

Times on a shared machine drift, so each case is taken in turn by all who take part, over and over;
the figures are medians. `--compare` runs the services of another revision beside today's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from bench import page, plots, rivals, table
from bench.contenders import Program, direct
from bench.measure import Bench
from bench.revisions import revisions
from bench.surroundings import Surroundings
from local.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

SENTENCES: Final = 6
RESULTS: Final = ROOT / "bench" / "results"
CORES_FOR_TWO: Final = 6  # two replicas of each service, NATS with the store, emulator with client


class _Run:
    """What is started for one, and closed behind it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._began = time.monotonic()
        self._machine = page.machine()
        self._stack = contextlib.AsyncExitStack()

    async def run(self) -> dict[str, Any]:
        """What was found, as it goes into the file of `--json`."""
        async with self._stack:
            bench = await self._bench()
            for number in range(self._arguments.rounds):
                self._say(f"round {number + 1} of {self._arguments.rounds}")
                await bench.round()
        names = [parley.name for parley in self._parleys]
        figures = {name: table.figures(bench.samples, name) for name in names}
        return {
            "revisions": names,
            "rounds": self._arguments.rounds,
            "seconds": round(time.monotonic() - self._began),
            "machine": self._machine,
            "figures": figures,
            "goals": {row.key: row.goal for row in table.ROWS},
            "met": {row.key: row.met(figures[names[0]][row.key]) for row in table.ROWS},
            "samples": bench.samples,
        }

    async def _bench(self) -> Bench:
        around = await self._stack.enter_async_context(Surroundings())
        environ = around.environ()
        found = revisions(environ, self._arguments.compare)
        self._parleys = self._stack.enter_context(found)
        for parley in self._parleys:
            await self._stack.enter_async_context(parley)
        return Bench(
            around.emulator,
            self._parleys,
            await self._program(direct(environ, SENTENCES)),
            await self._program(rivals.pipecat(environ)) if self._arguments.rival else None,
            quick=self._arguments.quick,
            two_replicas=page.cores() >= CORES_FOR_TWO,
            say=self._say,
        )

    async def _program(self, program: Program) -> Program:
        self._stack.push_async_callback(program.close)
        await program.start()
        return program

    def _say(self, text: str) -> None:
        seconds = int(time.monotonic() - self._began)
        print(f"{seconds // 60}:{seconds % 60:02} {text}", file=sys.stderr, flush=True)


def _print(found: Mapping[str, Any]) -> None:
    samples, today = found["samples"], found["revisions"][0]
    print(table.plain(table.lines(found["figures"])))
    print()
    print(table.plain(table.beside(samples)))
    cost = {who: table.shown(ms) for who, ms in table.measuring(samples, today).items()}
    print(f"\nthe measuring itself, ms of processor a turn: {cost}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="each takes every case in turn")
    add("--quick", action="store_true", help="one round of smaller cases: a look")
    add("--compare", metavar="REV", help="the services of another revision, too")
    add("--rival", action="store_true", help="Pipecat, too, in an environment of its own")
    add("--json", type=Path, metavar="FILE", help="everything that was found")
    page.may_write(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    return arguments


def main() -> None:
    arguments = _arguments()
    found = uvloop.run(_Run(arguments).run())
    _print(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found), encoding="utf-8")
    if arguments.write:
        before = arguments.write.read_text(encoding="utf-8")
        after = page.replaced(before, "table", page.measured(found))
        arguments.write.write_text(after, encoding="utf-8")
        plots.draw(found, RESULTS)
        table_alone = {name: of for name, of in found.items() if name != "samples"}
        (RESULTS / "table.json").write_text(
            json.dumps(table_alone, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
