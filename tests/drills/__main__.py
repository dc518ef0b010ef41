"""`make drills`: breaks a running system on purpose, and mends it as docs/runbooks.md tells.

    python -m tests.drills [--only WORD] [--write]

`--write` puts the table into docs/runbooks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.drills import runbook
from tests.drills.drills import DRILLS, run
from tests.drills.table import table


async def drills(only: str) -> str:
    rows = []
    for drill in DRILLS:
        if only not in drill.name:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            row = await run(drill, Path(folder))
        print(f"{time.monotonic() - began:5.0f} s  {drill.name}: {row.alert}", flush=True)
        rows.append(row)
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="those whose name has it")
    parser.add_argument("--write", action="store_true", help="the table into docs/runbooks.md")
    given = parser.parse_args()
    if given.write and given.only:
        sys.exit("the table is of all drills: --write or --only")
    made = asyncio.run(drills(given.only))
    print(made)
    if given.write:
        runbook.FILE.write_text(runbook.with_table(made), encoding="utf-8")


if __name__ == "__main__":
    main()
