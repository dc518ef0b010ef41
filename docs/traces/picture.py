"""The spans of one trace as a picture: a row for each, below the one that began it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.collector import Spanned

_WIDTH: Final = 960
_ROW, _BAR, _TOP, _FOOT = 26, 14, 58, 18
_NAMES: Final = 318  # pixels for the names
_RIGHT: Final = 96  # for what stands behind the longest bar
_INDENT: Final = 14
_LETTER: Final = 7.2  # its width at most, about
_TICKS: Final = 8  # at most
_STEPS: Final = (10, 20, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000)  # milliseconds

_STYLE: Final = """
  .bg { fill: #ffffff } text { fill: #1f2733 } .dim { fill: #667085 }
  .grid { stroke: #e4e8ef } .row { fill: #f6f8fb }
  .chat { fill: #3b76d6 } .tts { fill: #2f9468 } .call { fill: #8a5cd0 } .wait { fill: #a3adbd }
  .error { fill: #d23b3b } text.error { fill: #b42323 } .event { stroke: #1f2733 }
  @media (prefers-color-scheme: dark) {
    .bg { fill: #0f141b } text { fill: #e2e8f0 } .dim { fill: #94a0b3 }
    .grid { stroke: #252d3a } .row { fill: #151c26 }
    .chat { fill: #5b93ee } .tts { fill: #46b083 } .call { fill: #a883e6 } .wait { fill: #5f6b7d }
    .error { fill: #ee6262 } text.error { fill: #ff8c8c } .event { stroke: #f5f7fa }
  }
"""


def rows(
    spans: Sequence[Spanned], parent: str = "", depth: int = 0
) -> Iterator[tuple[int, Spanned]]:
    """Each span with its depth, in the order of a tree; the roots are those whose parent is not
    among the spans."""
    ids = {span.id for span in spans}
    below = [s for s in spans if (s.parent == parent if depth else s.parent not in ids)]
    for span in sorted(below, key=lambda s: (s.start, s.end)):
        yield depth, span
        yield from rows(spans, span.id, depth + 1)


def svg(spans: Sequence[Spanned], title: str) -> str:
    """Raises ValueError where there is no span."""
    begin, end = min(s.start for s in spans), max(s.end for s in spans)
    scale = (_WIDTH - _NAMES - _RIGHT) / (end - begin)
    found = list(rows(spans))
    height = _TOP + len(found) * _ROW + _FOOT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
        '  font-family="system-ui, sans-serif" font-size="13" role="img"',
        f'  aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="bg" width="{_WIDTH}" height="{height}" rx="8"/>',
        f'<text x="14" y="24" font-weight="600">{escape(title)}</text>',
    ]
    for number in range(0, len(found), 2):
        y = _TOP + number * _ROW
        lines.append(f'<rect class="row" x="8" y="{y}" width="{_WIDTH - 16}" height="{_ROW}"/>')
    lines += _axis(end - begin, scale, height)
    for number, (depth, span) in enumerate(found):
        lines += _row(span, depth, _TOP + number * _ROW, begin, scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _axis(length: int, scale: float, height: int) -> Iterator[str]:
    milliseconds = length / 1e6
    step = next((s for s in _STEPS if milliseconds / s <= _TICKS), _STEPS[-1])
    for tick in range(0, int(milliseconds) + 1, step):
        x = _NAMES + tick * 1e6 * scale
        yield f'<path class="grid" d="M{x:.1f} {_TOP - 8}V{height - _FOOT + 4}"/>'
        yield f'<text class="dim" x="{x:.1f}" y="{_TOP - 14}" font-size="11">{tick} ms</text>'


def _row(span: Spanned, depth: int, top: int, begin: int, scale: float) -> Iterator[str]:
    x, middle = _NAMES + (span.start - begin) * scale, top + _ROW / 2
    width = max(1.5, (span.end - span.start) * scale)
    error = span.attributes.get("error.type", "")
    left = 14 + depth * _INDENT
    yield f'<text x="{left}" y="{middle + 4.5}">{escape(_name(span, _NAMES - left))}</text>'
    yield (
        f'<rect class="{_kind(span)}" x="{x:.1f}" y="{middle - _BAR / 2}" width="{width:.1f}"'
        f' height="{_BAR}" rx="2"/>'
    )
    for event, at in span.events.items():
        place = _NAMES + (at - begin) * scale
        yield (
            f'<path class="event" d="M{place:.1f} {middle - 10}v20" stroke-width="1.6">'
            f"<title>{escape(event)}</title></path>"
        )
    said = _said(span, error)
    shade = "error" if error else "dim"
    near = x + width + 6
    if near + 6 * len(said) > _WIDTH:  # no room behind it
        yield (
            f'<text class="{shade}" x="{x - 6:.1f}" y="{middle + 4}" font-size="11"'
            f' text-anchor="end">{escape(said)}</text>'
        )
    else:
        yield (
            f'<text class="{shade}" x="{near:.1f}" y="{middle + 4}" font-size="11">'
            f"{escape(said)}</text>"
        )


def _name(span: Spanned, room: float) -> str:
    """With the number of a piece; cut where there is no room for all of it."""
    number = span.attributes.get("parley.piece")
    name = span.name if number is None else f"{span.name} {number}"
    most = int(room / _LETTER)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _said(span: Spanned, error: str) -> str:
    events = [f"{name} after {(at - span.start) / 1e6:.0f} ms" for name, at in span.events.items()]
    return " · ".join([f"{(span.end - span.start) / 1e6:.0f} ms", *events, *filter(None, [error])])


def _kind(span: Spanned) -> str:
    if span.status == "error":
        return "error"
    if span.name.endswith(".queue"):
        return "wait"
    return "call" if span.kind == "client" else span.name.partition(".")[0]
