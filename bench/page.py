"""What runs write into docs/performance.md: each the part between its marks."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

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


def begin(part: str) -> str:
    return f"<!-- {part}: written by a program -->"


def end(part: str) -> str:
    return f"<!-- /{part} -->"


def replaced(page: str, part: str, text: str) -> str:
    """The page with another text between the marks of a part.

    Raises: SystemExit, where the page has no such part.
    """
    before, first, rest = page.partition(begin(part))
    _, last, after = rest.partition(end(part))
    if not (first and last):
        raise SystemExit(f"the page has no part between {begin(part)} and {end(part)}")
    return f"{before}{first}\n\n{text}\n\n{last}{after}"


def may_write(parser: argparse.ArgumentParser) -> None:
    """`--write PAGE`, for `tell`."""
    parser.add_argument("--write", type=Path, metavar="PAGE", help="what is found, into this page")


def tell(
    part: str, lines: Sequence[Sequence[str]], where: Mapping[str, Any], to: Path | None
) -> None:
    """Prints a table, and writes it into the page where one is named."""
    print(table.plain(lines))
    if to is not None:
        text = f"{table.markdown(lines)}\n\n{told(where)}"
        to.write_text(replaced(to.read_text(encoding="utf-8"), part, text), encoding="utf-8")


def told(where: Mapping[str, Any]) -> str:
    """On what it was measured."""
    found = f"{where['cores']} cores ({where['processor']}), Python {where['python']}"
    if where["load"] > QUIET:
        found += f"; other work ran there: its load was {where['load']:.1f} as the run began"
    return f"{found}."


def measured(found: Mapping[str, Any]) -> str:
    """The tables, with what was measured where."""
    where, samples = found["machine"], found["samples"]
    today = found["revisions"][0]
    cost = table.measuring(samples, today)
    costs = (
        "The measuring itself took, of the same cores, for each turn with 32 at once: "
        f"client {table.shown(cost['client'])} ms, emulator {table.shown(cost['emulator'])} ms."
    )
    notes = [f"{found['rounds']} rounds in {found['seconds']} s. {told(where)}", costs]
    if second := table.second_of_audio(samples[today]):
        notes.append(f"A second of audio more costs a turn {second}.")
    if found["figures"][today]["replicas"] is None:
        notes.append(
            f"Two replicas against one are measured from six cores on: here are {where['cores']}."
        )
    return "\n\n".join(
        [
            table.markdown(table.named(table.lines(found["figures"]))),
            "\n".join(f"- {note}" for note in notes),
            table.markdown(table.beside(samples)),
        ]
    )
