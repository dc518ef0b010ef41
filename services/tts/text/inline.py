"""What stands within a line: plain text, code, emphasis; the rules for other signs are given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from services.tts.text.blocks import Blocks
from services.tts.text.characters import (
    BREAKS,
    DROPPED,
    JOINERS,
    KEYCAPS,
    SPACES,
    WORD,
)
from services.tts.text.lookahead import MARKER
from services.tts.text.modes import Mode, Rule
from services.tts.text.runs import RunWriter

# A stretch that no rule needs to see. The look-aheads leave the last character to a rule while it
# may still become part of something: "." of "...", "-" of "---", a digit of a keycap, the h of
# "https://" and the w of "www." at the start of a word. A space is in it before what is said for
# certain; else it is for the rule of spaces.
_RULED = rf"0-9hHwW.\-*_~`\[\]!?<&\\$|{{}}\#…！？。‼⁉{JOINERS}"
_PLAIN = re.compile(
    rf"""(?!\ )(?:
         [^{BREAKS}{SPACES}{DROPPED}{_RULED}]++
       | [0-9](?=[^{KEYCAPS}])
       | \.(?=[^.]) | -(?=[^-])
       | (?<=[A-Za-z0-9])[hHwW] | [hH](?=[^tT]) | [wW](?=[^wW])
       | (?<=[^{BREAKS}{SPACES}])[ ](?=[^{BREAKS}{SPACES}{DROPPED}{_RULED}]|[hHwW])
    )++""",
    re.VERBOSE,
)
_CODE = re.compile(rf"[^`{BREAKS}{SPACES}{DROPPED}{JOINERS}]+")

_CODE_SPAN = 200  # a backtick without its partner makes no more than this verbatim
_LANGUAGE = 40  # behind ``` of a block of code that begins behind words

_LANGUAGE_NAME = re.compile(r"[\w+#.-]*")
_RUNS = {sign: re.compile(re.escape(sign) + "*") for sign in "*_~`#"}


class Inline:
    """Says plain text, and asks one rule for each other character."""

    def __init__(self, out: RunWriter, rules: Mapping[str, Rule], otherwise: Rule) -> None:
        self._out = out
        self._ahead = out.ahead
        self._rules = rules
        self._otherwise = otherwise

    def read(self) -> Mode:
        ahead = self._ahead
        plain = _PLAIN.match(ahead.text, ahead.at)
        if plain is not None:
            self._out.say(plain.group(), plain.end())
            return Mode.TEXT
        rule = self._rules.get(ahead.text[ahead.at], self._otherwise)
        return rule() or Mode.TEXT


class CodeSpans:
    """`` `code` `` is said as it stands, without its backticks."""

    def __init__(self, out: RunWriter, blocks: Blocks, otherwise: Callable[[], None]) -> None:
        self._out = out
        self._ahead = out.ahead
        self._blocks = blocks
        self._otherwise = otherwise
        self._ticks = 0  # how many opened the code
        self._stop = 0  # where it ends at the latest, in the whole text

    def rules(self) -> dict[str, Rule]:
        return {"`": self._backticks}

    def _backticks(self) -> Mode | None:
        ahead = self._ahead
        end = ahead.span(_RUNS["`"], ahead.at, MARKER)
        ticks = end - ahead.at
        if ticks == 1 and ahead.before.isalpha() and ahead.char(end).isalpha():
            self._out.say("'", end)  # it`s
            return None
        if ticks >= 3:  # a block may also begin behind words
            language = ahead.span(_LANGUAGE_NAME, end, _LANGUAGE)
            if ahead.char(language) in "\r\n":
                return self._blocks.begin_code("`", end, language)
        self._ticks = ticks
        self._stop = ahead.index(end) + _CODE_SPAN
        self._out.drop(end)
        return Mode.CODE_SPAN

    def read(self) -> Mode:
        ahead = self._ahead
        char = ahead.text[ahead.at]
        left = self._stop - ahead.index(ahead.at)
        if left <= 0:
            return Mode.TEXT
        if char == "\n":
            return self._blocks.newline()
        if char == "`":
            return self._end()
        if verbatim := _CODE.match(ahead.text, ahead.at, ahead.at + left):
            self._out.say(verbatim.group(), verbatim.end())
        else:
            self._otherwise()
        return Mode.CODE_SPAN

    def _end(self) -> Mode:
        ahead = self._ahead
        end = ahead.span(_RUNS["`"], ahead.at, MARKER)
        ticks = end - ahead.at
        self._out.drop(end)
        return Mode.TEXT if ticks == self._ticks else Mode.CODE_SPAN


class Emphasis:
    """`*`, `_`, `~` and `#` where they are no markers; what is marked is said like the rest."""

    def __init__(self, out: RunWriter) -> None:
        self._out = out
        self._ahead = out.ahead

    def rules(self) -> dict[str, Rule]:
        return {
            "*": self._stars,
            "_": self._underscores,
            "~": self._tildes,
            "#": self._hashes,
        }

    def _end_of(self, sign: str) -> int:
        return self._ahead.span(_RUNS[sign], self._ahead.at, MARKER)

    def _stars(self) -> None:
        """`*`: emphasis, unless it is a multiplication."""
        ahead, end = self._ahead, self._end_of("*")
        before, after = ahead.before, ahead.char(end)
        single = end - ahead.at == 1
        if single and after and after in KEYCAPS:
            self._out.drop(end)
        elif end - ahead.at < 3 and self._multiplies(before, after, single=single):
            self._out.say_as_written(end)
        else:
            if single:
                self._out.line.emphasis = not after.isspace() and not before.isalnum()
            self._out.drop(end)

    def _multiplies(self, before: str, after: str, *, single: bool) -> bool:
        if before.isspace() or before in ")]}":
            return after.isspace() or (before in ")]}" and after != "" and after in "([{")
        if before.isdecimal() and after.isdecimal():
            return True
        words = WORD.match(before) and WORD.match(after)
        return bool(single and words and not self._out.line.emphasis)

    def _underscores(self) -> None:
        """`_`: emphasis, unless it stands inside a word."""
        end = self._end_of("_")
        if self._ahead.before.isalnum() and self._ahead.char(end).isalnum():
            self._out.say_as_written(end)
        else:
            self._out.drop(end)

    def _tildes(self) -> None:
        """`~~` strikes out; a single one is "about" or a home directory."""
        end = self._end_of("~")
        if end - self._ahead.at == 1:
            self._out.keep()
        else:
            self._out.drop(end)

    def _hashes(self) -> None:
        """`#`: said in C# and #1; dropped where it closes a heading, and as a keycap."""
        ahead, end = self._ahead, self._end_of("#")
        after = ahead.char(end)
        closes = ahead.before.isspace() and after in "\r\n"
        if closes or end - ahead.at > 2 or after in KEYCAPS:
            self._out.drop(end)
        else:
            self._out.say_as_written(end)
