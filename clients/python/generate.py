#!/usr/bin/env python3
"""Writes what the client shares with the services into its package: the contract and the timeline.

The client is installed without the services, so that it has copies; `--check` only says whether
they are stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = HERE.parent.parent / "shared"
# Copy, and its original.
COPIES = {"contract.py": "contract.py", "timeline.py": "timeline.py"}
HEAD = """\
# Generated from shared/{name} by clients/python/generate.py (`make clients`): do not edit.
# pyright: reportUnknownVariableType=false
"""


def generated(name: str) -> str:
    return HEAD.format(name=name) + (SHARED / COPIES[name]).read_text(encoding="utf-8")


def stale() -> list[str]:
    """The names of the copies that are not what their originals say."""
    found = []
    for name in COPIES:
        target = HERE / "parley" / name
        if not target.is_file() or target.read_text(encoding="utf-8") != generated(name):
            found.append(name)
    return found


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        for name in stale():
            sys.stderr.write(f"clients/python/parley/{name} is stale: run `make clients`\n")
        return 1 if stale() else 0
    for name in COPIES:
        (HERE / "parley" / name).write_text(generated(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
