"""The table of drills, as it stands in docs/runbooks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.drills.field import FACTOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.drills.field import Row

COLUMNS = (
    "broken",
    "what the dashboard showed",
    "which alert, after",
    "what mended it",
    "quiet after",
    "turns that failed meanwhile",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def table(rows: Sequence[Row]) -> str:
    return HEAD + "".join(_row(row) for row in rows)


def _row(row: Row) -> str:
    seen = "<br>".join(f"*{title}*: {text}" for title, text in row.seen.items())
    others = [name for name in row.others if name != row.alert]
    alert = f"[{row.alert}](#{row.alert.lower()}), {duration(row.alert_seconds)}"
    if others:
        alert += "; then " + ", ".join(f"[{name}](#{name.lower()})" for name in others)
    commands = "<br>".join(f"`{line}`" for line in row.commands)
    cells = [
        row.drill,
        seen,
        alert,
        commands,
        duration(row.quiet_seconds),
        f"{row.failed} of {row.asked}",
    ]
    return f"| {' | '.join(cells)} |\n"


def duration(seconds: float) -> str:
    """As it is, and with the rules' own windows."""
    return f"{seconds:.0f} s (≙ {_words(seconds * FACTOR)})"


def _words(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
