"""Quotes and brackets around a place of the piece that begins at `ahead.at`."""

from __future__ import annotations

import re

from services.tts.text.lookahead import Lookahead

# A bracket that was opened so many characters ago does not keep its text together any longer.
_BRACKET = 60
_CLOSING = 4  # quotes and brackets behind a full stop, at most

_CLOSERS = re.compile(r"[\"'”’“»«›‹)\]」』】）》〉]*")
_WIDE_PAIRS = (("「", "」"), ("『", "』"), ("“", "”"), ("（", "）"), ("《", "》"))


def closed(ahead: Lookahead, end: int) -> int:
    """The position after the quotes and brackets that close at `end`: .") and ! ».

    Raises:
        More: they may still come.
    """
    after = ahead.span(_CLOSERS, end, _CLOSING)
    if _is_open(ahead, "«", "»", end) and ahead.char(after) == " " and ahead.char(after + 1) == "»":
        return after + 2
    return after


def closed_wide(ahead: Lookahead, end: int) -> int:
    """The same where scripts need no space: looks ahead only inside quotes.

    Raises:
        More: they may still come.
    """
    if any(_is_open(ahead, first, last, end) for first, last in _WIDE_PAIRS):
        return ahead.span(_CLOSERS, end, _CLOSING)
    return end


def bracket_around(ahead: Lookahead, end: int) -> int:
    """Where the bracket around this place was opened, not long ago; -1 outside."""
    text, at = ahead.text, ahead.at
    opened = max(text.rfind("(", at, end), text.rfind("（", at, end))
    if opened < 0 or end - opened > _BRACKET:
        return -1
    return opened if opened > max(text.rfind(")", at, end), text.rfind("）", at, end)) else -1


def _is_open(ahead: Lookahead, opening: str, closing: str, end: int) -> bool:
    text, at = ahead.text, ahead.at
    opened = text.rfind(opening, at, end)
    return opened >= 0 and opened > text.rfind(closing, at, end)
