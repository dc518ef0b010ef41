"""Links, images, footnotes, citations and addresses: their words are said, their targets not."""

from __future__ import annotations

import re

from services.tts.text.characters import INDENT, WORD
from services.tts.text.lookahead import MARKER, Lookahead
from services.tts.text.modes import Mode, Rule
from services.tts.text.runs import RunWriter

# Look-ahead limits, in characters. What is not complete by then is let through as text.
_FOOTNOTE = 40  # [^footnote]
_REFERENCE = 100  # the second half of [text][reference]
_DESTINATION = 1000  # (https://… "title")
_TITLE = 300
_HOST = 120

_DIGITS = re.compile(r"[0-9]*")
_FOOTNOTE_NAME = re.compile(r"[^\]\s]*")
_REFERENCE_NAME = re.compile(r"[^\]\n]*")
_TARGET = re.compile(r"[^\s()]*")
_TITLE_ENDS = {'"': '"', "'": "'", "(": ")"}
HOST_NAME = re.compile(r"[\w.-]*")
_ADDRESS = re.compile(r"[^\s<>\"`|\[\]{}\\^“”‘’«»….,;:!?)'*_~\u2e80-\U0010ffff]+")
_ADDRESS_MARKS = re.compile(r"[.,;:!?)'*_~]*")

_TOO_LONG = -2  # no destination, but nothing that could be said either


class Links:
    """A link's text is said as it comes; its destination is dropped when the text has ended."""

    def __init__(self, out: RunWriter) -> None:
        self._out = out
        self._ahead = out.ahead

    def rules(self) -> dict[str, Rule]:
        return {
            "[": self._open_bracket,
            "]": self._close_bracket,
            **dict.fromkeys("hHwW", self._maybe_address),
        }

    def _open_bracket(self) -> None:
        ahead = self._ahead
        end = _without_text(ahead)
        if end > 0:
            self._out.drop(end)
            return
        self._out.drop_bracket(ahead.at + 1)
        self._out.line.brackets += 1

    def _close_bracket(self) -> Mode | None:
        ahead, line = self._ahead, self._out.line
        start = ahead.at + 1
        end = _after_text(ahead, start) if line.brackets else start
        if end == _TOO_LONG:
            self._out.drop(start + 1)
        elif end == start:
            self._out.drop_bracket(end)
        else:
            self._out.drop(end)
        line.brackets = max(0, line.brackets - 1)
        return Mode.ADDRESS if end == _TOO_LONG else None

    def _maybe_address(self) -> Mode | None:
        """An h or a w at the start of a word: of a URL only the host name is said."""
        ahead = self._ahead
        start = ahead.at
        if not WORD.match(ahead.before):
            for scheme in ("https://", "http://"):
                if ahead.starts(scheme, start):
                    start += len(scheme)
                    break
            if self._say_host(start):
                return Mode.ADDRESS
        self._out.keep()
        return None

    def _say_host(self, start: int) -> bool:
        ahead = self._ahead
        is_www = ahead.starts("www.", start)
        if start == ahead.at and not is_www:
            return False
        begins = start + 4 if is_www else start
        ends = ahead.span(HOST_NAME, begins, _HOST)
        host = ahead.text[begins:ends].rstrip("._-")
        if not host:
            return False
        self._out.drop(begins)
        self._out.say(host, begins + len(host))
        return True

    def skip_address(self) -> Mode:
        """Path and query, without the punctuation that belongs to the sentence around them."""
        ahead = self._ahead
        if body := _ADDRESS.match(ahead.text, ahead.at):
            self._out.drop(body.end())
            return Mode.ADDRESS
        end = ahead.span(_ADDRESS_MARKS, ahead.at, MARKER)
        following = ahead.char(end)
        if end > ahead.at and following and _ADDRESS.match(following):
            self._out.drop(end)
            return Mode.ADDRESS
        return Mode.TEXT


def _without_text(ahead: Lookahead) -> int:
    """Where a bracket ends of which nothing is said; -1 if it is another."""
    first = ahead.char(ahead.at + 1)
    if first == "^":
        return _closed(ahead, ahead.span(_FOOTNOTE_NAME, ahead.at + 2, _FOOTNOTE))
    if first.isdecimal():  # a citation: [1], [1](https://…)
        end = _closed(ahead, ahead.span(_DIGITS, ahead.at + 1, 3))
        if end > 0 and ahead.char(end) == "(":
            return max(end, _destination(ahead, end))
        return end
    if first and first in " xX" and ahead.char(ahead.at + 2) == "]":  # a task
        return ahead.at + 3
    return -1


def _after_text(ahead: Lookahead, start: int) -> int:
    """Where the destination behind a link's text ends: `start` if there is none."""
    following = ahead.char(start)
    if following == "(":
        end = _destination(ahead, start)
        return start if end == -1 else end
    if following == "[":
        return max(start, _closed(ahead, ahead.span(_REFERENCE_NAME, start + 1, _REFERENCE)))
    return start


def _closed(ahead: Lookahead, end: int) -> int:
    """The position after the "]" that has to stand at `end`; -1 if it does not."""
    return end + 1 if ahead.char(end) == "]" else -1


def _destination(ahead: Lookahead, start: int) -> int:
    """The position after `(https://… "title")`; negative if it is something else."""
    if ahead.char(start + 1) == "<":
        closed = ahead.find(">", start + 2, _TITLE)
        return _title(ahead, closed + 1) if closed >= 0 else -1
    stop = start + _DESTINATION
    at = start
    depth = 0
    while depth < 8:
        char = ahead.char(at)
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        else:
            return _title(ahead, at) if depth == 1 else -1
        if depth == 0:
            return at + 1
        at = ahead.span(_TARGET, at + 1, stop - at)
        if at >= stop:
            return _TOO_LONG
    return -1


def _title(ahead: Lookahead, at: int) -> int:
    """The position after ` "title")`; -1 if it is something else."""
    at = ahead.span(INDENT, at, MARKER)
    quote = _TITLE_ENDS.get(ahead.char(at))
    if quote is not None:
        at = ahead.find(quote, at + 1, _TITLE)
        if at < 0:
            return -1
        at = ahead.span(INDENT, at + 1, MARKER)
    return at + 1 if ahead.char(at) == ")" else -1
