"""`make bench`: every figure of the table with its goal, in one run, on one emulator.

Times on a shared machine drift, so each case is taken in turn by all who take part, over and over;
the figures are medians. `--compare` runs the services of another revision beside today's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from bench import table
from bench.contenders import Parley, checkout, described, direct
from bench.measure import Bench, cores
from bench.workload import chat, speech
from local.emulator_process import EmulatorProcess
from local.object_store import object_store, preferred_kind
from local.process import ROOT, start_all, temporary

if TYPE_CHECKING:
    from collections.abc import Mapping

_SENTENCES = 6
_BUCKET = "parley-audio"


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was found, as it goes into the file of `--json`."""
    emulator = EmulatorProcess({"chat": chat(), "speech": speech()})
    store = object_store(preferred_kind())
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        for server in (emulator, store):
            stack.push_async_callback(server.close)
        await start_all([emulator, store])
        environ = {
            "TOGETHER_API_KEY": "bench",
            "TOGETHER_BASE_URL": emulator.base_url,
            "TTS_URL": emulator.tts_url,
            "MINIO_ENDPOINT": store.endpoint,
            "MINIO_ACCESS_KEY": store.access_key,
            "MINIO_SECRET_KEY": store.secret_key,
            "MINIO_BUCKET": _BUCKET,
            "MINIO_SECURE": "false",
        }
        parleys = [Parley(described("HEAD"), ROOT, environ)]
        if arguments.compare:
            folder = temporary("bench")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            root = checkout(arguments.compare, folder)
            parleys.append(Parley(described(arguments.compare), root, environ))
        for parley in parleys:
            await stack.enter_async_context(parley)
        floor = direct(environ, _SENTENCES)
        stack.push_async_callback(floor.close)
        await floor.start()
        bench = Bench(
            emulator,
            parleys,
            floor,
            None,
            quick=arguments.quick,
            say=lambda text: print(f"{_since(began)} {text}", file=sys.stderr, flush=True),
        )
        for number in range(arguments.rounds):
            print(
                f"{_since(began)} round {number + 1} of {arguments.rounds}",
                file=sys.stderr,
                flush=True,
            )
            await bench.round()
    names = [parley.name for parley in parleys]
    return {
        "revisions": names,
        "rounds": arguments.rounds,
        "seconds": round(time.monotonic() - began),
        "machine": {"cores": cores(), "python": platform.python_version()},
        "figures": {name: table.figures(bench.samples, name) for name in names},
        "goals": {row.key: row.goal for row in table.ROWS},
        "met": {
            row.key: row.met(table.figures(bench.samples, names[0])[row.key]) for row in table.ROWS
        },
        "samples": bench.samples,
    }


def _since(began: float) -> str:
    seconds = int(time.monotonic() - began)
    return f"{seconds // 60}:{seconds % 60:02}"


def _print(found: Mapping[str, Any]) -> None:
    print(table.plain(table.lines(found["figures"])))
    print()
    print(table.plain(table.beside(found["samples"])))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="each takes every case in turn")
    parser.add_argument("--quick", action="store_true", help="one round of smaller cases: a look")
    parser.add_argument("--compare", metavar="REV", help="the services of another revision, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was found")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    found = uvloop.run(run(arguments))
    _print(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
