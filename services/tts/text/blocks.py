"""Lines: headings, rulers, list items, rows of tables, definitions, blocks of code."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

from services.tts.text.characters import INDENT
from services.tts.text.lookahead import MARKER
from services.tts.text.modes import Mode
from services.tts.text.runs import Line, RunWriter

# A line that long which does not end a sentence, followed by a small letter, was wrapped by width.
_WRAPPED = 60

# Look-ahead limits, in characters.
_LABEL = 40  # [label]: at the start of a line
_INFO_STRING = 100  # behind ``` of a block of code
_RULER = 300  # |---|:--:|

_HASHES = re.compile(r"#*")
_FENCES = {sign: re.compile(sign + "*") for sign in "`~"}
_RULERS = {
    **dict.fromkeys("-|:", re.compile(r"[-|:+ \t]*")),
    "*": re.compile(r"[* \t]*"),
    "_": re.compile(r"[_ \t]*"),
    "=": re.compile(r"[= \t]*"),
}
_LABEL_NAME = re.compile(r"[^\]\s]*")
_INFO = re.compile(r"[^`\n]*")
_CODE_INDENT = re.compile(r"[ \t>]*")
_REST_OF_LINE = re.compile(r"[^\n]*")
_ADDRESS_BEGINNINGS = ("http", "<", "/", "#", "mailto:", "www.")


class Blocks:
    """Reads what opens a line, and skips what stands in blocks of code.

    To say something in place of a block of code, give an `announcement`.
    """

    def __init__(self, out: RunWriter, announcement: str = "") -> None:
        self._out = out
        self._ahead = out.ahead
        self._announcement = announcement
        self._fence = ("", 0)  # the sign and the length of what opened the block of code

    def newline(self) -> Mode:
        ahead = self._ahead
        end = ahead.at + 1
        if self._was_wrapped():
            self._out.space(end)
        else:
            self._out.end_utterance(end)
        self._out.line = Line(ahead.index(end))
        return Mode.LINE_START

    def _was_wrapped(self) -> bool:
        ahead, line = self._ahead, self._out.line
        length = ahead.index(ahead.at) - line.start
        if length < _WRAPPED or line.is_row or self._out.last in "\n.!?…:;。！？।؟":
            return False
        begins = ahead.span(INDENT, ahead.at + 1, MARKER)
        return ahead.char(begins).islower()

    def open_line(self) -> Mode:
        ahead = self._ahead
        char = ahead.text[ahead.at]
        if char == "\n":
            return self.newline()
        if char == ">" or INDENT.fullmatch(char):
            self._out.drop(ahead.at + 1)
            return Mode.LINE_START
        for opener in self._openers.get(char, ()):
            mode = opener(self)
            if mode is not None:
                return mode
        return Mode.TEXT

    # Openers: each is asked at its sign, and returns None where it is something else.

    def _heading(self) -> Mode | None:
        ahead = self._ahead
        end = ahead.span(_HASHES, ahead.at, MARKER)
        if ahead.char(end) not in " \t\n":  # "" is in any string: the text may end here
            return None
        self._out.drop(end)
        return Mode.LINE_START

    def _ruler(self) -> Mode | None:
        """A line of nothing but rules: ---, ***, ===, |---|:-:|."""
        ahead = self._ahead
        end = ahead.span(_RULERS[ahead.text[ahead.at]], ahead.at, _RULER)
        if end - ahead.at < _RULER and ahead.char(end) not in "\n\r":
            return None
        self._out.drop(end)
        return Mode.LINE_START

    def _item(self) -> Mode | None:
        ahead = self._ahead
        if ahead.char(ahead.at + 1) not in " \t\n":
            return None
        self._out.drop(ahead.at + 1)
        return Mode.LINE_START

    def _row(self) -> Mode:
        self._out.line.is_row = True
        self._out.drop(self._ahead.at + 1)
        return Mode.LINE_START

    def _block_of_code(self) -> Mode | None:
        ahead = self._ahead
        sign = ahead.text[ahead.at]
        marks = ahead.span(_FENCES[sign], ahead.at, MARKER)
        if marks - ahead.at < 3:
            return None
        end = marks
        if sign == "`":  # ```code``` on one line is a span of code
            end = ahead.span(_INFO, marks, _INFO_STRING)
            if end - marks < _INFO_STRING and ahead.char(end) == "`":
                return None
        return self.begin_code(sign, marks, end)

    def _definition(self) -> Mode | None:
        """`[label]: https://… "title"` is never shown; `[^1]: a footnote` loses its mark."""
        ahead = self._ahead
        end = ahead.span(_LABEL_NAME, ahead.at + 1, _LABEL)
        if ahead.char(end) != "]" or ahead.char(end + 1) != ":":
            return None
        if ahead.char(ahead.at + 1) == "^":
            self._out.drop(end + 2)
            return Mode.LINE_START
        address = ahead.span(INDENT, end + 2, MARKER)
        if not any(ahead.starts(beginning, address) for beginning in _ADDRESS_BEGINNINGS):
            return None
        self._out.drop(address)
        return Mode.DEFINITION

    _openers: ClassVar[dict[str, tuple[Callable[[Blocks], Mode | None], ...]]] = {
        "#": (_heading,),
        "-": (_ruler, _item),
        "*": (_ruler, _item),
        "_": (_ruler,),
        "=": (_ruler,),
        ":": (_ruler,),
        "|": (_ruler, _row),
        "`": (_block_of_code,),
        "~": (_block_of_code,),
        "[": (_definition,),
        **dict.fromkeys("+•–—·◦‣▪●○■", (_item,)),
    }

    # What is skipped line by line

    def begin_code(self, sign: str, marks: int, end: int) -> Mode:
        """A block of code begins: its signs end at `marks`, the first line's info at `end`."""
        self._fence = (sign, marks - self._ahead.at)
        if self._announcement:
            self._out.end_utterance(self._ahead.at)
            self._out.say(self._announcement, end)
        else:
            self._out.drop(end)
        return Mode.CODE

    def skip_code(self) -> Mode:
        ahead = self._ahead
        self._skip_line()
        if ahead.empty:
            return Mode.CODE
        self._out.drop(ahead.at + 1)
        return Mode.CODE_LINE_START

    def start_line_of_code(self) -> Mode:
        ahead = self._ahead
        sign, length = self._fence
        begins = ahead.span(_CODE_INDENT, ahead.at, MARKER)
        if ahead.char(begins) == sign:
            ends = ahead.span(_FENCES[sign], begins, MARKER)
            after = ahead.span(_CODE_INDENT, ends, MARKER)
            if ends - begins >= length and ahead.char(after) in "\r\n":
                self._out.drop(after)
                return Mode.TEXT
        self._out.drop(begins)
        return Mode.CODE

    def skip_definition(self) -> Mode:
        self._skip_line()
        return Mode.DEFINITION if self._ahead.empty else Mode.TEXT

    def _skip_line(self) -> None:
        rest = _REST_OF_LINE.match(self._ahead.text, self._ahead.at)
        assert rest is not None  # it matches nothing, too
        self._out.drop(rest.end())
