"""A recording of a terminal: an asciinema v2 cast, and an SVG in which it plays."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyte

if TYPE_CHECKING:
    from collections.abc import Iterator

# Nobody waits for longer than this for the next thing to happen.
LONGEST_PAUSE: Final = 1.5
_LAST_SECONDS: Final = 4.0  # that the last picture stays
_FRAME_SECONDS: Final = 0.12  # what follows sooner is one picture
_CELL, _LINE, _PADDING, _TOP = 8.4, 19, 14, 34  # pixels
_COLOURS: Final = {
    "default": "#d7dae0",
    "red": "#ff7b72",
    "green": "#7ee787",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "white": "#ffffff",
    "black": "#6e7681",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """What a terminal of so many columns and rows was sent, and when, in seconds."""

    columns: int
    rows: int
    title: str
    events: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    def shortened(self) -> Recording:
        """With no pause that is longer than anybody likes to wait."""
        found: list[tuple[float, str]] = []
        at = before = 0.0
        for when, text in self.events:
            at += min(when - before, LONGEST_PAUSE)
            before = when
            found.append((round(at, 3), text))
        return Recording(self.columns, self.rows, self.title, found)

    def cast(self) -> str:
        """For `asciinema play`."""
        head = {"version": 2, "width": self.columns, "height": self.rows, "title": self.title}
        lines: list[Any] = [head, *([when, "o", text] for when, text in self.events)]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def frames(self) -> Iterator[tuple[float, list[str]]]:
        """The pictures, each from a time on, as SVG text of each row."""
        screen = pyte.Screen(self.columns, self.rows)
        stream = pyte.Stream(screen)
        shown: list[str] = []
        drawn = 0.0
        for number, (when, text) in enumerate(self.events):
            stream.feed(text)
            following = self.events[number + 1 :][:1]
            soon = following and following[0][0] - when < _FRAME_SECONDS
            if soon and when - drawn < _FRAME_SECONDS:
                continue
            rows = [_row(screen.buffer[y], self.columns) for y in range(self.rows)]
            if rows != shown:
                shown, drawn = rows, when
                yield when, rows


def _row(cells: Any, columns: int) -> str:
    """Runs of one style; what is behind the last letter is left out."""
    text = "".join(cells[x].data for x in range(columns)).rstrip()
    found, at = "", 0
    while at < len(text):
        end, style = at, _style(cells[at])
        while end < len(text) and _style(cells[end]) == style:
            end += 1
        found += f"<tspan{style}>{html.escape(text[at:end])}</tspan>"
        at = end
    return found


def _style(cell: Any) -> str:
    colour = _COLOURS.get(cell.fg, _COLOURS["default"])
    weight = ' font-weight="bold"' if cell.bold else ""
    fill = "" if colour == _COLOURS["default"] else f' fill="{colour}"'
    return fill + weight


def svg(recording: Recording) -> str:
    """The pictures stand below each other, and one of them at a time is seen."""
    frames = list(recording.frames())
    length = frames[-1][0] + _LAST_SECONDS
    width = round(recording.columns * _CELL + 2 * _PADDING)
    inside = recording.rows * _LINE + 2 * _PADDING
    height = inside + _TOP
    known: dict[str, int] = {}  # each row is written once, and used wherever it is seen
    film = moves = ""
    for number, (when, rows) in enumerate(frames):
        moves += f"{100 * when / length:.2f}%{{transform:translateY(-{number * inside}px)}}"
        for y, row in enumerate(rows):
            if row:
                name = known.setdefault(row, len(known))
                film += f'<use href="#r{name}" y="{number * inside + (y + 1) * _LINE}"/>'
    defined = "".join(f'<text id="r{name}">{row}</text>' for row, name in known.items())
    title = html.escape(recording.title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{title}">\n'
        f"<title>{title}</title>\n"
        "<style>\n"
        f".film{{animation:film {length:.1f}s step-end infinite}}\n"
        f"@keyframes film{{0%{{transform:translateY(0)}}{moves}}}\n"
        f"@media (prefers-reduced-motion:reduce){{.film{{animation:none;"
        f"transform:translateY(-{(len(frames) - 1) * inside}px)}}}}\n"
        f"text{{font:14px ui-monospace,Menlo,Consolas,monospace;fill:{_COLOURS['default']};"
        "white-space:pre}\n"
        "</style>\n"
        f"<defs>{defined}</defs>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#161b22"/>\n'
        '<circle cx="20" cy="18" r="6" fill="#ff5f57"/><circle cx="40" cy="18" r="6" '
        'fill="#febc2e"/><circle cx="60" cy="18" r="6" fill="#28c840"/>\n'
        f'<svg x="{_PADDING}" y="{_TOP}" width="{width - 2 * _PADDING}" height="{inside}">\n'
        f'<g class="film">{film}</g>\n'
        "</svg>\n</svg>\n"
    )
