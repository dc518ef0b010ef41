"""What HTML puts between a text: tags, comments, addresses in angles, entities."""

from __future__ import annotations

import html
import re

from services.tts.text.characters import INDENT, WORD
from services.tts.text.links import HOST_NAME
from services.tts.text.lookahead import MARKER, Lookahead
from services.tts.text.modes import Rule
from services.tts.text.runs import RunWriter

# Look-ahead limits, in characters. What is not complete by then is let through as text.
_TAG = 300  # <a href="…">
_NAME = 40
_COMMENT = 500  # <!-- … -->
_ENTITY = 32

_ENTITY_NAME = re.compile(r"[#0-9A-Za-z]*")
_TAG_NAME = re.compile(r"[A-Za-z0-9-]*")
_TAG_WORD = re.compile(r"[\w:.@-]*")
_TAG_REST = re.compile(r"[^<>]*")
_BETWEEN_ANGLES = re.compile(r"[^<>\s]*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BLOCKS = _words(
    "p br hr li ul ol dl dt dd tr table thead tbody div section article header footer pre"
    " blockquote details summary h1 h2 h3 h4 h5 h6"
)
_NAMES = _BLOCKS | _words(
    "a abbr audio b big body button center cite code col del em figure font form head html i iframe"
    " img input ins kbd label link main mark meta nav option p path q s samp script select small"
    " source span strike strong style sub sup svg td th u var video wbr"
)


class Tags:
    """`<` and `&`: dropped with what belongs to them, or said where they are signs of their own."""

    def __init__(self, out: RunWriter) -> None:
        self._out = out
        self._ahead = out.ahead

    def rules(self) -> dict[str, Rule]:
        return {"<": self._angle, "&": self._ampersand}

    def _angle(self) -> None:
        """`<`: a tag, a comment, an address, or just less than."""
        ahead = self._ahead
        first = ahead.char(ahead.at + 1)
        if first == "!" and ahead.starts("<!--", ahead.at):
            end = ahead.find("-->", ahead.at + 4, _COMMENT)
            if end >= 0:
                self._out.drop(end + 3)
                return
        elif (first.isalnum() or first == "/") and (self._autolink() or self._tag()):
            return
        self._out.keep()

    def _autolink(self) -> bool:
        """<https://example.org/a> or <name@example.org>."""
        ahead = self._ahead
        start = ahead.at + 1
        end = ahead.span(_BETWEEN_ANGLES, start, _TAG)
        inner = ahead.text[start:end]
        if not ("://" in inner or "@" in inner) or ahead.char(end) != ">":
            return False
        scheme, _, rest = inner.rpartition("://")
        name = HOST_NAME.match(rest) if scheme else None
        said = name.group().removeprefix("www.") if name else inner
        if said:
            begins = start + inner.find(said)
            self._out.drop(begins)
            self._out.say(said, begins + len(said))
        self._out.drop(end + 1)
        return True

    def _tag(self) -> bool:
        ahead = self._ahead
        start = ahead.at + 2 if ahead.char(ahead.at + 1) == "/" else ahead.at + 1
        end = ahead.span(_TAG_NAME, start, _NAME)
        name = ahead.text[start:end].lower()
        is_closing = start > ahead.at + 1
        if WORD.match(ahead.before) and not is_closing and name not in _NAMES:
            return False  # List<String>
        end = _tag_end(ahead, end)
        if end < 0:
            return False
        if name in _BLOCKS:
            self._out.end_utterance(end)
        else:
            self._out.drop(end)
        return True

    def _ampersand(self) -> None:
        ahead = self._ahead
        end = ahead.span(_ENTITY_NAME, ahead.at + 1, _ENTITY)
        if ahead.char(end) == ";":
            written = ahead.text[ahead.at : end + 1]
            decoded = html.unescape(written)
            if decoded != written:
                self._out.say_decoded(decoded, end + 1)
                return
        self._out.keep()


def _tag_end(ahead: Lookahead, at: int) -> int:
    """The position after the ">" of a tag whose name ends at `at`; -1 if it is none."""
    word = ahead.span(INDENT, at, MARKER)
    if word > at:
        at = ahead.span(_TAG_WORD, word, _NAME)
        if ahead.char(at) not in "=>/":
            return -1  # a <b and c
        if ahead.char(at) == "=":
            at = ahead.span(_TAG_REST, at, _TAG)
    if ahead.char(at) == "/":
        at += 1
    return at + 1 if ahead.char(at) == ">" else -1
