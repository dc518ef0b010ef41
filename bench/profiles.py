"""Where the processor's time goes: the ten functions of each service that take most.

    python -m bench.profiles --compare REV

24 conversations at once, sampled by py-spy, which is installed in an environment of its own; a
function's share is of the samples in which the service did anything, by itself and with what it
calls. What runs in C (uvloop, the kernel) counts for the Python function that called it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

import uvloop

from bench import page
from bench.contenders import SERVICES, Parley
from bench.environment import installed
from bench.revisions import revisions
from bench.surroundings import Surroundings
from bench.table import markdown

_PACKAGE: Final = "py-spy>=0.4,<1"
_AT_ONCE: Final = 24
_BATCHES: Final = 5
_SECONDS: Final = 10
_TOP: Final = 10
# What py-spy takes for work, and is waiting for some.
_WAITING: Final = re.compile(r"\b(select \(selectors|wait \(threading|_worker \(concurrent)\b")
_OF_THE_LOOP: Final = {"asyncio/runners.py: Runner.run": "uvloop itself: reads, writes, timers"}
_FRAME: Final = re.compile(r"(?P<name>.+) \((?P<file>[^:)]+)(:\d+)?\)")


def top(raw: str) -> list[tuple[str, ...]]:
    """Of py-spy's raw format: function, share by itself, share with what it calls, in %."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in raw.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        if _WAITING.search(frames[-1]):
            continue
        total += int(samples)
        alone[_named(frames[-1])] += int(samples)
        within.update({_named(frame): int(samples) for frame in frames})
    return [
        (f"`{name}`", f"{count * 100 / total:.1f}", f"{within[name] * 100 / total:.1f}")
        for name, count in alone.most_common(_TOP)
    ]


def _named(frame: str) -> str:
    """`package/file.py: function`, without where it is installed."""
    found = _FRAME.match(frame)
    if found is None:
        return frame
    file = found["file"].rpartition("site-packages/")[2]
    file = re.sub(r".*/(?=(services|shared)/)|.*/python3\.\d+/", "", file)
    name = f"{file}: {found['name']}"
    return _OF_THE_LOOP.get(name, name)


async def _profiled(parley: Parley, folder: Path) -> dict[str, list[tuple[str, ...]]]:
    await parley.serve()
    await parley.turns(_AT_ONCE, _AT_ONCE)
    spy = installed("profiler", _PACKAGE).parent / "py-spy"
    files = {name: folder / f"{parley.name}-{name}.txt" for name in SERVICES}
    words = ("record", "-F", "-r", "200", "-d", str(_SECONDS), "-f", "raw")
    spies = [
        await asyncio.create_subprocess_exec(
            *(spy, *words, "-o", file, "-p", str(parley.services[name].pid)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, file in files.items()
    ]
    for _ in range(_BATCHES):
        await parley.turns(_AT_ONCE, _AT_ONCE)
    for each in spies:
        if await each.wait():
            raise SystemExit("py-spy may not look at the services: it needs ptrace")
    return {name: top(file.read_text(encoding="utf-8")) for name, file in files.items()}


async def _run(before: str | None) -> list[str]:
    told = []
    async with Surroundings() as around:
        with (
            tempfile.TemporaryDirectory() as folder,
            revisions(around.environ(), before) as found,
        ):
            for parley in found:
                async with parley:
                    for service, lines in (await _profiled(parley, Path(folder))).items():
                        heading = (f"{service}, {parley.name}", "by itself, %", "with its calls, %")
                        told.append(markdown([heading, *lines]))
                        print(told[-1], end="\n\n", flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profiles", description=__doc__)
    parser.add_argument("--compare", metavar="REV", help="another revision, too")
    page.may_write(parser)
    arguments, where = parser.parse_args(), page.machine()
    tables = uvloop.run(_run(arguments.compare))
    if arguments.write:
        text = "\n\n".join([*tables, page.told(where)])
        before = arguments.write.read_text(encoding="utf-8")
        after = page.replaced(before, "profiles", text)
        arguments.write.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
