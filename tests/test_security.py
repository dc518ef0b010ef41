"""Each threat in docs/security.md names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[a-z_0-9/]+\.py)::(test_[a-z_0-9]+)`", PAGE)


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_threat_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "::test_" in line]
    table = PAGE.partition("## Threats")[2].partition("\n\n|")[2].partition("\n\n")[0]
    assert len(rows) == len(table.splitlines()) - 2  # its head and the line below


def test_every_test_that_a_threat_names_is_there() -> None:
    assert [each for each in NAMED if each[1] not in functions(each[0])] == []
    assert len(NAMED) == PAGE.count("::test_")
