"""What a run writes into docs/performance.md: the part between two marks."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import table

if TYPE_CHECKING:
    from collections.abc import Mapping

BEGIN: Final = "<!-- measured: `make bench` writes what is below -->"
END: Final = "<!-- /measured -->"
QUIET: Final = 1.0  # processes that want a core, of a machine that is left alone


def cores() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """What the figures belong to; `load` of other work, where it is asked before the run."""
    return {
        "cores": cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def written(page: str, found: Mapping[str, Any]) -> str:
    """The page with this run's figures in place of those of the last.

    Raises: SystemExit, where the page has no such part.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the page has no part between {BEGIN} and {END}")
    return f"{before}{begin}\n\n{measured(found)}\n\n{end}{after}"


def measured(found: Mapping[str, Any]) -> str:
    """The tables, with what was measured where."""
    where, samples = found["machine"], found["samples"]
    today = found["revisions"][0]
    cost = table.measuring(samples, today)
    cores = where["cores"]
    told = (
        f"{found['rounds']} rounds in {found['seconds']} s; {cores} cores ({where['processor']}), "
        f"Python {where['python']}.\n"
        "The measuring itself took, of the same cores, for each turn with 32 at once: "
        f"client {table.shown(cost['client'])} ms, emulator {table.shown(cost['emulator'])} ms."
    )
    notes = [told]
    if where["load"] > QUIET:
        notes.append(
            f"Other work ran on the machine: its load was {where['load']:.1f} as the run began."
        )
    if found["figures"][today]["replicas"] is None:
        notes.append(f"Two replicas against one are measured from six cores on: here are {cores}.")
    return "\n\n".join(
        [
            table.markdown(table.named(table.lines(found["figures"]))),
            "\n".join(notes),
            table.markdown(table.beside(samples)),
        ]
    )
