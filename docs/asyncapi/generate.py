#!/usr/bin/env python3
"""Writes docs/asyncapi.yaml, docs/asyncapi.json (which the services serve) and docs/schemas from
shared/contract.py; `--check` only says whether one of them is stale."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(DOCS.parent))

from docs.asyncapi.document import document  # noqa: E402
from docs.asyncapi.schemas import files  # noqa: E402

SCHEMAS = DOCS / "schemas"
HEAD = "# Generated from shared/contract.py by `make asyncapi`: do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Without anchors: what stands twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  yaml's form
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def generated() -> dict[Path, str]:
    """What each file has to hold."""
    whole = document()
    written = yaml.dump(whole, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=96)
    found = {
        DOCS / "asyncapi.yaml": HEAD + written,
        DOCS / "asyncapi.json": json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n",
    }
    for name, schema in files().items():
        found[SCHEMAS / name] = json.dumps(schema, ensure_ascii=False, indent=2) + "\n"
    return found


def stale(wanted: dict[Path, str]) -> list[Path]:
    """Files that differ, are missing, or that nothing makes any more."""
    left_over = set(SCHEMAS.glob("*.json")) - wanted.keys()
    differing = [
        path
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return [*differing, *sorted(left_over)]


def main(arguments: list[str]) -> int:
    wanted = generated()
    changed = stale(wanted)
    if "--check" in arguments:
        for path in changed:
            sys.stderr.write(f"{path.relative_to(DOCS.parent)} is stale: run `make asyncapi`\n")
        return 1 if changed else 0
    SCHEMAS.mkdir(exist_ok=True)
    for path in changed:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
