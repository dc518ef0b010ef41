"""Signs: marks, dots, dashes, pictures, spaces, money and the signs of formulas."""

from __future__ import annotations

import re

from services.tts.text.characters import INDENT, JOINERS, KEYCAPS, PICTURE, SILENT
from services.tts.text.lookahead import MARKER
from services.tts.text.modes import Rule
from services.tts.text.runs import RunWriter

_DASHES = re.compile(r"-*")
_DOTS = re.compile(r"\.*")
_MARKS = re.compile(r"[!?]*")
_NUMBER = re.compile(r"[0-9.,]*")
_COMMAND = re.compile(r"[A-Za-z]*")

# Look-ahead limits, in characters.
_NUMBER_LENGTH = 40
_COMMAND_LENGTH = 32

# LaTeX commands that have a sign which a voice can say in any language; others stay as written.
_SIGNS = {
    "times": "×", "cdot": "·", "div": "÷", "pm": "±", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥",
    "neq": "≠", "ne": "≠", "approx": "≈", "infty": "∞", "sqrt": "√", "sum": "∑", "int": "∫",
    "to": "→", "rightarrow": "→", "Rightarrow": "⇒", "alpha": "α", "beta": "β", "gamma": "γ",
    "delta": "δ", "Delta": "Δ", "epsilon": "ε", "theta": "θ", "lambda": "λ", "mu": "μ", "pi": "π",
    "sigma": "σ", "omega": "ω", "ldots": "…", "dots": "…", "quad": " ", "frac": "", "text": "",
    "mathrm": "", "mathbf": "", "left": "", "right": "", "circ": "°", "percent": "%",
}  # fmt: skip
_ESCAPABLE = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_OF_FORMULAS = frozenset("$^_=\\{*")  # behind a number: it is no amount of money


class Punctuation:
    """Marks that are repeated are said once; runs of dots and dashes become the one sign."""

    def __init__(self, out: RunWriter) -> None:
        self._out = out
        self._ahead = out.ahead

    def rules(self) -> dict[str, Rule]:
        return {
            **dict.fromkeys("!?", self._marks),
            **dict.fromkeys("！？。", self._wide_marks),
            **dict.fromkeys("‼⁉", self._double_mark),
            ".": self._dots,
            "…": self._ellipsis,
            "-": self._dashes,
            "|": self._bar,
        }

    def _marks(self) -> None:
        """`!` and `?`: "!!!!" is "!", "?!?!" is "?!"; "![" opens an image."""
        ahead = self._ahead
        if ahead.text[ahead.at] == "!" and ahead.char(ahead.at + 1) == "[":
            self._out.drop(ahead.at + 1)
            return
        end = ahead.span(_MARKS, ahead.at, MARKER)
        marks = ahead.text[ahead.at : end]
        if ahead.char(end) == "[" and marks.endswith("!"):
            end -= 1
            marks = marks[:-1]
        if self._out.last in "!?":
            self._out.drop(end)
        else:
            self._out.say("?!" if "?" in marks and "!" in marks else marks[0], end)

    def _wide_marks(self) -> None:
        """`！？。`: the first of each kind is said, at once."""
        char, last = self._ahead.text[self._ahead.at], self._out.last
        if char == last or (char == "？" and last == "！"):
            self._out.drop(self._ahead.at + 1)
        else:
            self._out.keep()

    def _double_mark(self) -> None:
        """The single characters for !! and ?!."""
        ahead = self._ahead
        self._out.say("!" if ahead.text[ahead.at] == "‼" else "?!", ahead.at + 1)

    def _dots(self) -> None:
        ahead = self._ahead
        end = ahead.span(_DOTS, ahead.at, MARKER)
        if end - ahead.at < 3:
            self._out.say_as_written(end)
        elif self._out.last == "…":
            self._out.drop(end)
        else:
            self._out.say("…", end)

    def _ellipsis(self) -> None:
        if self._out.last == "…":
            self._out.drop(self._ahead.at + 1)
        else:
            self._out.keep()

    def _dashes(self) -> None:
        """`-`; "--" is a dash between words, not before one (--help); a longer run is a dash."""
        ahead = self._ahead
        end = ahead.span(_DASHES, ahead.at, MARKER)
        length = end - ahead.at
        apart = ahead.before.isspace() != ahead.char(end).isspace()
        if length == 1 or (length == 2 and apart):
            self._out.say_as_written(end)
        elif self._out.last == "—":
            self._out.drop(end)
        else:
            self._out.say("—", end)

    def _bar(self) -> None:
        """`|` between the cells of a table is a comma, unless the cell ends with its own mark."""
        ahead, out = self._ahead, self._out
        if out.line.is_row:
            out.postpone(" " if out.last in ".,;:!?…。！？" else ", ", ahead.at + 1)
        elif ahead.before.isspace() and ahead.char(ahead.at + 1).isspace():
            out.say(",", ahead.at + 1)
        else:
            out.keep()


class Pictures:
    """Spaces, breaks, pictures, and what has no width."""

    def __init__(self, out: RunWriter) -> None:
        self._out = out
        self._ahead = out.ahead

    def rules(self) -> dict[str, Rule]:
        return {" ": self._space, **dict.fromkeys("0123456789", self._digit)}

    def _space(self) -> None:
        """As `other` has it, which needs to look at it more closely: each token has one."""
        self._out.space(self._ahead.at + 1)

    def other(self) -> None:
        """The rule for what no other rule is for."""
        ahead, out = self._ahead, self._out
        char = ahead.text[ahead.at]
        if char in JOINERS:
            if ahead.before.isalpha() or "\u0300" <= ahead.before < "\u1000":
                out.keep()
            else:
                out.drop(ahead.at + 1)
        elif SILENT.fullmatch(char):
            self._leave_out()
        elif INDENT.fullmatch(char):
            out.space(ahead.at + 1)
        elif char.isspace():
            out.end_utterance(ahead.at + 1)
        else:
            out.keep()

    def _leave_out(self) -> None:
        """A picture between two words leaves a space; what has no width leaves nothing."""
        ahead = self._ahead
        if not PICTURE.match(ahead.text, ahead.at):
            self._out.drop(ahead.at + 1)
            return
        end = ahead.span(SILENT, ahead.at, MARKER)
        if self._out.last.isalnum() and ahead.char(end).isalnum():
            self._out.space(end)
        else:
            self._out.drop(end)

    def _digit(self) -> None:
        following = self._ahead.char(self._ahead.at + 1)
        if following and following in KEYCAPS:
            self._out.drop(self._ahead.at + 2)
        else:
            self._out.keep()


class Formulas:
    """`$`, `\\`, `{` and `}`: of a formula its signs are said, of an amount its currency."""

    def __init__(self, out: RunWriter) -> None:
        self._out = out
        self._ahead = out.ahead

    def rules(self) -> dict[str, Rule]:
        return {"$": self._dollar, "\\": self._backslash, **dict.fromkeys("{}", self._brace)}

    def _backslash(self) -> None:
        """An escape is its character; \\( and \\[ open and close a formula; \\times is a sign."""
        ahead = self._ahead
        following = ahead.char(ahead.at + 1)
        if following == "\n" or (following and following in "()[]"):
            self._out.drop(ahead.at + (1 if following == "\n" else 2))
        elif following in _ESCAPABLE:
            self._out.say(following, ahead.at + 2)
        else:
            end = ahead.span(_COMMAND, ahead.at + 1, _COMMAND_LENGTH)
            sign = _SIGNS.get(ahead.text[ahead.at + 1 : end])
            if sign is None or ahead.before in ":\\":
                self._out.keep()
            else:
                self._out.say_decoded(sign, end)

    def _dollar(self) -> None:
        """`$` before or after an amount is money, else it encloses a formula."""
        ahead, line = self._ahead, self._out.line
        after = ahead.char(ahead.at + 1)
        if after == "$":
            self._out.drop(ahead.at + 2)
        elif after.isdecimal():
            end = ahead.span(_NUMBER, ahead.at + 1, _NUMBER_LENGTH)
            if ahead.char(end) in _OF_FORMULAS:
                line.formula = True
                self._out.drop(ahead.at + 1)
            else:
                self._out.keep()
        elif line.formula or not _is_money(ahead.before, after):
            line.formula = not line.formula
            self._out.drop(ahead.at + 1)
        else:
            self._out.keep()

    def _brace(self) -> None:
        ahead = self._ahead
        if ahead.text[ahead.at] == "{" and ahead.before == "}":  # \frac{a}{b}
            self._out.space(ahead.at + 1)
        else:
            self._out.drop_bracket(ahead.at + 1)


def _is_money(before: str, after: str) -> bool:
    return before.isdecimal() or not after.strip() or after in ".-,;"
