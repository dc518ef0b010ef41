"""docs/runbooks.md: its commands, which a drill runs, and the table that the drills write."""

from __future__ import annotations

import re

from local.process import ROOT

FILE = ROOT / "docs" / "runbooks.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BEGIN, _END = "<!-- drills -->\n", "<!-- /drills -->\n"


def text() -> str:
    return FILE.read_text(encoding="utf-8")


def paragraph(alert: str) -> str:
    """What is said of an alert.

    Raises: AssertionError, when nothing is.
    """
    found = re.search(rf"(?ms)^## {alert}\n(.*?)(?=^## |\Z)", text())
    assert found, f"docs/runbooks.md says nothing of {alert}"
    return str(found[1])


def command(alert: str, begin: str) -> str:
    """The line of that paragraph that begins so: what is run is what is told."""
    lines = [line for block in _BLOCK.findall(paragraph(alert)) for line in block.splitlines()]
    found = [line for line in lines if line.startswith(begin)]
    assert len(found) == 1, f"docs/runbooks.md, {alert}: {begin!r} in {lines}"
    return str(found[0])


def with_table(table: str) -> str:
    """The file with this table of drills in the place of the last one."""
    before, _, rest = text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table}{_END}{after}"
