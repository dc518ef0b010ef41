"""Takes markdown, code, links and emoji off a stream of text, so that only what is said remains.

How it reads: `_step` takes the longest plain stretch, or else asks the one rule for the next
character (`_rules`), or at the start of a line the rules for what opens a line (`_openers`).
To add a rule, write a method that first looks (`Tape.char`, `span`, `find`: they may raise `More`,
and then the rule is asked again when more text is there), then says or drops what it has seen.
Nothing may be said or changed before the last look: then the result cannot depend on how the text
was split, and each rule holds back at most the limit that it looks ahead.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from services.tts.text.lookahead import More, Tape

if TYPE_CHECKING:
    from collections.abc import Callable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Run:
    """Speakable text, and the range [start, end) of the shown text that it stands for.

    Where both are equally long, character stands for character; else the whole for the whole.
    A "\\n" ends an utterance: the end of a line, a heading, a list item, a row of a table.
    """

    text: str
    start: int
    end: int


# Unicode has no simple property for "a picture": these are the blocks and the strays that
# assistants use. ©, ®, ™, °, arrows (← → ⇒), ♭ ♮ ♯ and CJK signs are text and stay.
_PICTURES = (
    "\U0001f000-\U0001fbff\u2600-\u266c\u2670-\u27bf\u2b00-\u2bff\u25a0-\u25ff\u2500-\u259f"
    "\u231a\u231b\u2328\u23cf\u23e9-\u23fa\u2139\u24c2\u2194-\u2199\u21a9\u21aa\u3030\u303d"
)
# Zero width, direction and tag characters, controls, surrogates without their other half,
# private use (icon fonts), variation selectors and the keycap. ZWNJ and ZWJ have their own rule.
_NOTHING = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\r\u00ad\u061c"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufffc\ufffd\ufff9-\ufffb\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\u20e3"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff"
)
_DROPPED = _PICTURES + _NOTHING
_BREAKS = "\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_SPACES = " \t\x1f\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"

# A stretch that no rule needs to see. The look-aheads leave the last character to a rule while it
# may still become part of something: "." of "...", "-" of "---", a digit of a keycap, the h of
# "https://" and the w of "www." at the start of a word. A space is in it before what is said for
# certain; else it is for the rule of spaces.
_RULED = r"0-9hHwW.\-*_~`\[\]!?<&\\$|{}\#…！？。‼⁉\u200c\u200d"
_PLAIN = re.compile(
    rf"""(?!\ )(?:
         [^{_BREAKS}{_SPACES}{_DROPPED}{_RULED}]++
       | [0-9](?=[^\ufe0f\u20e3])
       | \.(?=[^.]) | -(?=[^-])
       | (?<=[A-Za-z0-9])[hHwW] | [hH](?=[^tT]) | [wW](?=[^wW])
       | (?<=[^{_BREAKS}{_SPACES}])[ ](?=[^{_BREAKS}{_SPACES}{_DROPPED}{_RULED}]|[hHwW])
    )++""",
    re.VERBOSE,
)
_CODE = re.compile(rf"[^`{_BREAKS}{_SPACES}{_DROPPED}\u200c\u200d]+")
_GONE = re.compile(f"[{_DROPPED}\u200c\u200d]*")
_PICTURE = re.compile(f"[{_PICTURES}]")
_INDENT = re.compile(rf"[{_SPACES}]*")
_CODE_INDENT = re.compile(r"[ \t>]*")
_REST_OF_LINE = re.compile(r"[^\n]*")
_WORD = re.compile(r"[A-Za-z0-9]")

# Look-ahead limits, in characters. What is not complete by then is let through as text.
_MARKER = 64  # a run of one sign: ***, ~~~, ......
_LABEL = 40  # [label]: at the start of a line, [^footnote]
_REFERENCE = 100  # the second half of [text][reference]
_DESTINATION = 1000  # (https://… "title")
_TAG = 300  # <a href="…">
_COMMENT = 500  # <!-- … -->
_HOST = 120
_RULER = 300  # |---|:--:|
_ENTITY = 32
_INLINE_CODE = 200  # a backtick without its partner makes no more than this verbatim

# A line that long which does not end a sentence, followed by a small letter, was wrapped by width.
_WRAPPED = 60

_DASHES = re.compile(r"-*")
_DOTS = re.compile(r"\.*")
_MARKS = re.compile(r"[!?]*")
_DIGITS = re.compile(r"[0-9]*")
_NUMBER = re.compile(r"[0-9.,]*")
_ENTITY_NAME = re.compile(r"[#0-9A-Za-z]*")
_COMMAND = re.compile(r"[A-Za-z]*")
_RUNS = {sign: re.compile(re.escape(sign) + "*") for sign in "*_~`#"}
_RULERS = {
    "-": re.compile(r"[-|:+ \t]*"),
    "|": re.compile(r"[-|:+ \t]*"),
    ":": re.compile(r"[-|:+ \t]*"),
    "*": re.compile(r"[* \t]*"),
    "_": re.compile(r"[_ \t]*"),
    "=": re.compile(r"[= \t]*"),
}
_REFERENCE_NAME = re.compile(r"[^\]\n]*")
_LABEL_NAME = re.compile(r"[^\]\s]*")
_INFO_WORD = re.compile(r"[\w+#.-]*")
_INFO = re.compile(r"[^`\n]*")
_TARGET = re.compile(r"[^\s()]*")
_TITLE_ENDS = {'"': '"', "'": "'", "(": ")"}
_HOST_NAME = re.compile(r"[\w.-]*")
_ADDRESS = re.compile(r"[^\s<>\"`|\[\]{}\\^“”‘’«»….,;:!?)'*_~\u2e80-\U0010ffff]+")
_ADDRESS_MARKS = re.compile(r"[.,;:!?)'*_~]*")
_TAG_NAME = re.compile(r"[A-Za-z0-9-]*")
_TAG_WORD = re.compile(r"[\w:.@-]*")
_TAG_REST = re.compile(r"[^<>]*")
_BETWEEN_ANGLES = re.compile(r"[^<>\s]*")
_BLOCKS = _words(
    "p br hr li ul ol dl dt dd tr table thead tbody div section article header footer pre"
    " blockquote details summary h1 h2 h3 h4 h5 h6"
)
_TAGS = _BLOCKS | _words(
    "a abbr audio b big body button center cite code col del em figure font form head html i iframe"
    " img input ins kbd label link main mark meta nav option p path q s samp script select small"
    " source span strike strong style sub sup svg td th u var video wbr"
)
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


@dataclass(frozen=True, slots=True)
class _Fence:
    sign: str
    length: int


_UNTIL_LINE_END = _Fence("", 0)
_TOO_LONG = -2  # no destination, but nothing that could be said either


class Spoken:
    """Reads a turn's text as it comes and gives out what is to be said of it.

    The runs, joined, are the same however the text is split. Ranges ascend and never overlap.
    """

    def __init__(
        self,
        *,
        code_blocks: Literal["skip", "announce"] = "skip",
        announcement: str = "Here is the code.",
    ) -> None:
        self._announcement = announcement if code_blocks == "announce" else ""
        self._tape = Tape()
        self._runs: list[Run] = []
        self._last = "\n"  # the last character said
        self._gap: Run | None = None  # said only if more of the line follows (tables)
        self._opening = True  # at the start of a line, or after its markers
        self._line_at = 0  # where the line begins, in the whole text
        self._row = False  # in a row of a table
        self._fence: _Fence | None = None  # in a block of code
        self._code = 0  # how many backticks opened the inline code; 0 outside
        self._code_until = 0  # where it ends at the latest, in the whole text
        self._address = False  # in what follows the host name of a URL
        self._brackets = 0  # "[" without their "]" so far
        self._emphasis = False  # after a single "*" that opened something
        self._formula = False  # after a "$" that opened something

    def feed(self, text: str) -> list[Run]:
        self._tape.add(text)
        return self._read()

    def finish(self) -> list[Run]:
        """What was held back for a look ahead; nothing may be fed afterwards."""
        self._tape.ended = True
        return self._read()

    def _read(self) -> list[Run]:
        try:
            while not self._tape.empty:
                self._step()
        except More:
            pass  # the rule that asked is asked again with the next text
        runs, self._runs = self._runs, []
        return runs

    def _step(self) -> None:
        if self._fence is not None:
            self._skip_code(self._fence)
        elif self._opening:
            self._open_line()
        elif self._code:
            self._read_code()
        elif self._address:
            self._skip_address()
        elif plain := _PLAIN.match(self._tape.text, self._tape.at):
            self._say(plain.group(), plain.end())
        else:
            char = self._tape.text[self._tape.at]
            self._rules.get(char, Spoken._other)(self)

    # What is said, and what is not

    def _say(self, text: str, end: int) -> None:
        """Say `text` for what stands from here to `end`."""
        if self._gap is not None:
            self._runs.append(self._gap)
            self._gap = None
        tape = self._tape
        self._runs.append(Run(text, tape.index(tape.at), tape.index(end)))
        self._last = text[-1]
        tape.at = end

    def _drop(self, end: int) -> None:
        self._tape.at = end

    def _keep(self) -> None:
        self._say(self._tape.text[self._tape.at], self._tape.at + 1)

    def _space(self, end: int) -> None:
        """One space for what stands from here to `end`, if a space means anything here."""
        if self._row:
            self._wait(" ", end)
        elif self._last in " \n":
            self._drop(end)
        else:
            self._say(" ", end)

    def _wait(self, text: str, end: int) -> None:
        if self._last != "\n" and (self._gap is None or text != " "):
            self._gap = Run(text, self._tape.index(self._tape.at), self._tape.index(end))
        self._drop(end)

    def _break(self, end: int) -> None:
        """An utterance ends here."""
        self._gap = None
        if self._last == "\n":
            self._drop(end)
        else:
            self._say("\n", end)

    def _say_any(self, text: str, end: int) -> None:
        """Say `text` as if it stood in the text: it may be a space or nothing that is said."""
        text = _GONE.sub("", text)
        if text.isspace():
            self._space(end)
        elif text:
            self._say(text, end)
        else:
            self._drop(end)

    def _part(self, end: int) -> None:
        """Drop a bracket; between two words it leaves a space."""
        tape = self._tape
        if _WORD.match(tape.before) and _WORD.match(tape.char(end)):
            self._space(end)
        else:
            self._drop(end)

    # Lines

    def _newline(self) -> None:
        tape = self._tape
        if self._was_wrapped():
            self._space(tape.at + 1)
        else:
            self._break(tape.at + 1)
        self._opening = True
        self._line_at = tape.index(tape.at)
        self._row = self._address = self._emphasis = self._formula = False
        self._code = self._brackets = 0

    def _was_wrapped(self) -> bool:
        tape = self._tape
        length = tape.index(tape.at) - self._line_at
        if length < _WRAPPED or self._row or self._last in "\n.!?…:;。！？।؟":
            return False
        begins = tape.span(_INDENT, tape.at + 1, _MARKER)
        return tape.char(begins).islower()

    def _open_line(self) -> None:
        tape = self._tape
        char = tape.text[tape.at]
        if _INDENT.fullmatch(char):
            self._drop(tape.at + 1)
        elif char == "\n":
            self._newline()
        elif char == ">":
            self._drop(tape.at + 1)
        else:
            self._opening = any(opener(self) for opener in self._openers.get(char, ()))

    def _open_heading(self) -> bool:
        tape = self._tape
        end = tape.span(_RUNS["#"], tape.at, _MARKER)
        if tape.char(end) not in " \t\n":  # "" is in any string: the text may end here
            return False
        self._drop(end)
        return True

    def _open_ruler(self) -> bool:
        """A line of nothing but rules: ---, ***, ===, |---|:-:|."""
        tape = self._tape
        end = tape.span(_RULERS[tape.text[tape.at]], tape.at, _RULER)
        if end - tape.at < _RULER and tape.char(end) not in "\n\r":
            return False
        self._drop(end)
        return True

    def _open_item(self) -> bool:
        tape = self._tape
        if tape.char(tape.at + 1) not in " \t\n":
            return False
        self._drop(tape.at + 1)
        return True

    def _open_row(self) -> bool:
        self._row = True
        self._drop(self._tape.at + 1)
        return True

    def _open_fence(self) -> bool:
        tape = self._tape
        sign = tape.text[tape.at]
        marks = tape.span(_RUNS[sign], tape.at, _MARKER)
        if marks - tape.at < 3:
            return False
        end = marks
        if sign == "`":  # ```code``` on one line is inline code
            end = tape.span(_INFO, marks, _REFERENCE)
            if end - marks < _REFERENCE and tape.char(end) == "`":
                return False
        self._begin_fence(_Fence(sign, marks - tape.at), end)
        return False

    def _begin_fence(self, fence: _Fence, end: int) -> None:
        self._fence = fence
        self._opening = False
        if self._announcement:
            self._break(self._tape.at)
            self._say(self._announcement, end)
        else:
            self._drop(end)

    def _open_reference(self) -> bool:
        """`[label]: https://… "title"` is never shown; `[^1]: a footnote` loses its mark."""
        tape = self._tape
        end = tape.span(_LABEL_NAME, tape.at + 1, _LABEL)
        if tape.char(end) != "]" or tape.char(end + 1) != ":":
            return False
        if tape.char(tape.at + 1) == "^":
            self._drop(end + 2)
            return True
        url = tape.span(_INDENT, end + 2, _MARKER)
        if not any(tape.starts(word, url) for word in ("http", "<", "/", "#", "mailto:", "www.")):
            return False
        self._fence = _UNTIL_LINE_END
        self._drop(url)
        return False

    # Code

    def _skip_code(self, fence: _Fence) -> None:
        tape = self._tape
        if not self._opening:
            end = _REST_OF_LINE.match(tape.text, tape.at)
            assert end is not None  # it matches nothing, too
            self._drop(end.end())
            if tape.empty:
                return
            if fence is _UNTIL_LINE_END:
                self._fence = None
                return
            self._drop(tape.at + 1)
            self._opening = True
            return
        begins = tape.span(_CODE_INDENT, tape.at, _MARKER)
        if tape.char(begins) == fence.sign:
            ends = tape.span(_RUNS[fence.sign], begins, _MARKER)
            after = tape.span(_CODE_INDENT, ends, _MARKER)
            if ends - begins >= fence.length and tape.char(after) in "\r\n":
                self._fence = None
                self._opening = False
                self._drop(after)
                return
        self._opening = False
        self._drop(begins)

    def _backticks(self) -> None:
        tape = self._tape
        end = tape.span(_RUNS["`"], tape.at, _MARKER)
        if end - tape.at == 1 and tape.before.isalpha() and tape.char(end).isalpha():
            self._say("'", end)  # it`s
            return
        if end - tape.at >= 3:  # a block may also begin behind words
            info = tape.span(_INFO_WORD, end, _LABEL)
            if tape.char(info) in "\r\n":
                self._begin_fence(_Fence("`", end - tape.at), info)
                return
        self._code = end - tape.at
        self._code_until = tape.index(end) + _INLINE_CODE
        self._drop(end)

    def _read_code(self) -> None:
        tape = self._tape
        char = tape.text[tape.at]
        if tape.index(tape.at) >= self._code_until:
            self._code = 0
        elif char == "`":
            end = tape.span(_RUNS["`"], tape.at, _MARKER)
            if end - tape.at == self._code:
                self._code = 0
            self._drop(end)
        elif verbatim := _CODE.match(tape.text, tape.at, tape.at + self._code_left()):
            self._say(verbatim.group(), verbatim.end())
        else:
            self._code_rules.get(char, Spoken._other)(self)

    def _code_left(self) -> int:
        return self._code_until - self._tape.index(self._tape.at)

    # Links and addresses

    def _open_bracket(self) -> None:
        tape = self._tape
        first = tape.char(tape.at + 1)
        end = -1
        if first == "^":
            end = self._closed(tape.span(_LABEL_NAME, tape.at + 2, _LABEL))
        elif first.isdecimal():  # a citation: [1], [1](https://…)
            end = self._closed(tape.span(_DIGITS, tape.at + 1, 3))
            if end > 0 and tape.char(end) == "(":
                end = max(end, self._destination(end))
        elif first and first in " xX" and tape.char(tape.at + 2) == "]":  # a task
            end = tape.at + 3
        if end > 0:
            self._drop(end)
            return
        self._part(tape.at + 1)
        self._brackets += 1

    def _closed(self, end: int) -> int:
        """The position after the "]" that has to stand at `end`; -1 if it does not."""
        return end + 1 if self._tape.char(end) == "]" else -1

    def _close_bracket(self) -> None:
        """A link's text was said as it came; now its destination, if it is one, is left out."""
        tape = self._tape
        end = tape.at + 1
        following = tape.char(end)
        if self._brackets and following == "(":
            end = self._destination(end)
            if end == _TOO_LONG:
                self._address = True
                end = tape.at + 2
            elif end < 0:
                end = tape.at + 1
        elif self._brackets and following == "[":
            end = max(end, self._closed(tape.span(_REFERENCE_NAME, end + 1, _REFERENCE)))
        if end == tape.at + 1:
            self._part(end)
        else:
            self._drop(end)
        self._brackets = max(0, self._brackets - 1)

    def _destination(self, start: int) -> int:
        """The position after `(https://… "title")`; negative if it is something else."""
        tape = self._tape
        if tape.char(start + 1) == "<":
            closed = tape.find(">", start + 2, _TAG)
            return self._title(closed + 1) if closed >= 0 else -1
        stop = start + _DESTINATION
        at = start
        depth = 0
        while depth < 8:
            char = tape.char(at)
            if char == "(":
                depth += 1
            elif char == ")":
                depth -= 1
            else:
                return self._title(at) if depth == 1 else -1
            if depth == 0:
                return at + 1
            at = tape.span(_TARGET, at + 1, stop - at)
            if at >= stop:
                return _TOO_LONG
        return -1

    def _title(self, at: int) -> int:
        """The position after ` "title")`; -1 if it is something else."""
        tape = self._tape
        at = tape.span(_INDENT, at, _MARKER)
        quote = _TITLE_ENDS.get(tape.char(at))
        if quote is not None:
            at = tape.find(quote, at + 1, _TAG)
            if at < 0:
                return -1
            at = tape.span(_INDENT, at + 1, _MARKER)
        return at + 1 if tape.char(at) == ")" else -1

    def _maybe_address(self) -> None:
        """An h or a w at the start of a word: of a URL only the host name is said."""
        tape = self._tape
        start = tape.at
        if not _WORD.match(tape.before):
            for scheme in ("https://", "http://"):
                if tape.starts(scheme, start):
                    start += len(scheme)
                    break
            if self._say_host(start):
                return
        self._keep()

    def _say_host(self, start: int) -> bool:
        tape = self._tape
        is_www = tape.starts("www.", start)
        if start == tape.at and not is_www:
            return False
        begins = start + 4 if is_www else start
        ends = tape.span(_HOST_NAME, begins, _HOST)
        host = tape.text[begins:ends].rstrip("._-")
        if not host:
            return False
        self._drop(begins)
        self._say(host, begins + len(host))
        self._address = True
        return True

    def _skip_address(self) -> None:
        """Path and query, without the punctuation that belongs to the sentence around them."""
        tape = self._tape
        if body := _ADDRESS.match(tape.text, tape.at):
            self._drop(body.end())
            return
        end = tape.span(_ADDRESS_MARKS, tape.at, _MARKER)
        following = tape.char(end)
        if end > tape.at and following and _ADDRESS.match(following):
            self._drop(end)
        else:
            self._address = False

    def _angle(self) -> None:
        """`<`: a tag, a comment, an address, or just less than."""
        tape = self._tape
        first = tape.char(tape.at + 1)
        if first == "!" and tape.starts("<!--", tape.at):
            end = tape.find("-->", tape.at + 4, _COMMENT)
            if end >= 0:
                self._drop(end + 3)
                return
        elif (first.isalnum() or first == "/") and (self._autolink() or self._tag()):
            return
        self._keep()

    def _autolink(self) -> bool:
        """<https://example.org/a> or <name@example.org>."""
        tape = self._tape
        start = tape.at + 1
        end = tape.span(_BETWEEN_ANGLES, start, _TAG)
        inner = tape.text[start:end]
        if not ("://" in inner or "@" in inner) or tape.char(end) != ">":
            return False
        scheme, _, rest = inner.rpartition("://")
        name = _HOST_NAME.match(rest) if scheme else None
        said = name.group().removeprefix("www.") if name else inner
        if said:
            begins = start + inner.find(said)
            self._drop(begins)
            self._say(said, begins + len(said))
        self._drop(end + 1)
        return True

    def _tag(self) -> bool:
        tape = self._tape
        start = tape.at + 2 if tape.char(tape.at + 1) == "/" else tape.at + 1
        end = tape.span(_TAG_NAME, start, _LABEL)
        name = tape.text[start:end].lower()
        is_closing = start > tape.at + 1
        if _WORD.match(tape.before) and not is_closing and name not in _TAGS:
            return False  # List<String>
        end = self._tag_end(end)
        if end < 0:
            return False
        if name in _BLOCKS:
            self._break(end)
        else:
            self._drop(end)
        return True

    def _tag_end(self, at: int) -> int:
        """The position after the ">" of a tag whose name ends at `at`; -1 if it is none."""
        tape = self._tape
        word = tape.span(_INDENT, at, _MARKER)
        if word > at:
            at = tape.span(_TAG_WORD, word, _LABEL)
            if tape.char(at) not in "=>/":
                return -1  # a <b and c
            if tape.char(at) == "=":
                at = tape.span(_TAG_REST, at, _TAG)
        if tape.char(at) == "/":
            at += 1
        return at + 1 if tape.char(at) == ">" else -1

    # Single signs

    def _stars(self) -> None:
        """`*`: emphasis, unless it is a multiplication."""
        tape = self._tape
        end = tape.span(_RUNS["*"], tape.at, _MARKER)
        before, after = tape.before, tape.char(end)
        single = end - tape.at == 1
        if single and after and after in "\ufe0f\u20e3":
            self._drop(end)
        elif end - tape.at < 3 and self._multiplies(before, after, single=single):
            self._say(tape.text[tape.at : end], end)
        else:
            if single:
                self._emphasis = not after.isspace() and not before.isalnum()
            self._drop(end)

    def _multiplies(self, before: str, after: str, *, single: bool) -> bool:
        if before.isspace() or before in ")]}":
            return after.isspace() or (before in ")]}" and after != "" and after in "([{")
        if before.isdecimal() and after.isdecimal():
            return True
        words = _WORD.match(before) and _WORD.match(after)
        return bool(single and words and not self._emphasis)

    def _underscores(self) -> None:
        """`_`: emphasis, unless it stands inside a word."""
        tape = self._tape
        end = tape.span(_RUNS["_"], tape.at, _MARKER)
        if tape.before.isalnum() and tape.char(end).isalnum():
            self._say(tape.text[tape.at : end], end)
        else:
            self._drop(end)

    def _tildes(self) -> None:
        """`~~` strikes out; a single one is "about" or a home directory."""
        tape = self._tape
        end = tape.span(_RUNS["~"], tape.at, _MARKER)
        if end - tape.at == 1:
            self._keep()
        else:
            self._drop(end)

    def _hashes(self) -> None:
        """`#`: said in C# and #1; dropped where it closes a heading, and as a keycap."""
        tape = self._tape
        end = tape.span(_RUNS["#"], tape.at, _MARKER)
        after = tape.char(end)
        closes = tape.before.isspace() and after in "\r\n"
        if closes or end - tape.at > 2 or after in "\ufe0f\u20e3":
            self._drop(end)
        else:
            self._say(tape.text[tape.at : end], end)

    def _digit(self) -> None:
        following = self._tape.char(self._tape.at + 1)
        if following and following in "\ufe0f\u20e3":
            self._drop(self._tape.at + 2)
        else:
            self._keep()

    def _marks(self) -> None:
        """`!` and `?`: "!!!!" is "!", "?!?!" is "?!"; "![" opens an image."""
        tape = self._tape
        if tape.text[tape.at] == "!" and tape.char(tape.at + 1) == "[":
            self._drop(tape.at + 1)
            return
        end = tape.span(_MARKS, tape.at, _MARKER)
        marks = tape.text[tape.at : end]
        if tape.char(end) == "[" and marks.endswith("!"):
            end -= 1
            marks = marks[:-1]
        if self._last in "!?":
            self._drop(end)
        else:
            self._say("?!" if "?" in marks and "!" in marks else marks[0], end)

    def _wide_marks(self) -> None:
        """`！？。`: the first of each kind is said, at once."""
        char = self._tape.text[self._tape.at]
        if char == self._last or (char == "？" and self._last == "！"):
            self._drop(self._tape.at + 1)
        else:
            self._keep()

    def _dots(self) -> None:
        tape = self._tape
        end = tape.span(_DOTS, tape.at, _MARKER)
        if end - tape.at < 3:
            self._say(tape.text[tape.at : end], end)
        elif self._last == "…":
            self._drop(end)
        else:
            self._say("…", end)

    def _ellipsis(self) -> None:
        if self._last == "…":
            self._drop(self._tape.at + 1)
        else:
            self._keep()

    def _dashes(self) -> None:
        """`-`; "--" is a dash between words, not before one (--help); a longer run is a dash."""
        tape = self._tape
        end = tape.span(_DASHES, tape.at, _MARKER)
        length = end - tape.at
        apart = tape.before.isspace() != tape.char(end).isspace()
        if length == 1 or (length == 2 and apart):
            self._say(tape.text[tape.at : end], end)
        elif self._last == "—":
            self._drop(end)
        else:
            self._say("—", end)

    def _ampersand(self) -> None:
        tape = self._tape
        end = tape.span(_ENTITY_NAME, tape.at + 1, _ENTITY)
        if tape.char(end) == ";":
            written = tape.text[tape.at : end + 1]
            decoded = html.unescape(written)
            if decoded != written:
                self._say_any(decoded, end + 1)
                return
        self._keep()

    def _backslash(self) -> None:
        """An escape is its character; \\( and \\[ open and close a formula; \\times is a sign."""
        tape = self._tape
        following = tape.char(tape.at + 1)
        if following == "\n" or (following and following in "()[]"):
            self._drop(tape.at + (1 if following == "\n" else 2))
        elif following in _ESCAPABLE:
            self._say(following, tape.at + 2)
        else:
            end = tape.span(_COMMAND, tape.at + 1, _ENTITY)
            sign = _SIGNS.get(tape.text[tape.at + 1 : end])
            if sign is None or tape.before in ":\\":
                self._keep()
            else:
                self._say_any(sign, end)

    def _dollar(self) -> None:
        """`$` before or after an amount is money, else it encloses a formula."""
        tape = self._tape
        before, after = tape.before, tape.char(tape.at + 1)
        if after == "$":
            self._drop(tape.at + 2)
        elif after.isdecimal():
            end = tape.span(_NUMBER, tape.at + 1, _LABEL)
            if tape.char(end) in set("$^_=\\{*"):
                self._formula = True
                self._drop(tape.at + 1)
            else:
                self._keep()
        elif self._formula or not self._counts(before, after):
            self._formula = not self._formula
            self._drop(tape.at + 1)
        else:
            self._keep()

    def _counts(self, before: str, after: str) -> bool:
        return before.isdecimal() or not after.strip() or after in ".-,;"

    def _bar(self) -> None:
        """`|` between the cells of a table is a comma, unless the cell ends with its own mark."""
        tape = self._tape
        if self._row:
            self._wait(" " if self._last in ".,;:!?…。！？" else ", ", tape.at + 1)
        elif tape.before.isspace() and tape.char(tape.at + 1).isspace():
            self._say(",", tape.at + 1)
        else:
            self._keep()

    def _other(self) -> None:
        """Spaces, breaks, and what has no sound."""
        tape = self._tape
        char = tape.text[tape.at]
        if char in "\u200c\u200d":  # they shape letters in Persian and Indic, and join emoji
            if tape.before.isalpha() or "\u0300" <= tape.before < "\u1000":
                self._keep()
            else:
                self._drop(tape.at + 1)
        elif _GONE.fullmatch(char):
            self._leave_out()
        elif _INDENT.fullmatch(char):
            self._space(tape.at + 1)
        elif char.isspace():
            self._break(tape.at + 1)
        else:
            self._keep()

    def _leave_out(self) -> None:
        """A picture between two words leaves a space; what has no width leaves nothing."""
        tape = self._tape
        if not _PICTURE.match(tape.text, tape.at):
            self._drop(tape.at + 1)
            return
        end = tape.span(_GONE, tape.at, _MARKER)
        if self._last.isalnum() and tape.char(end).isalnum():
            self._space(end)
        else:
            self._drop(end)

    def _brace(self) -> None:
        tape = self._tape
        if tape.text[tape.at] == "{" and tape.before == "}":  # \frac{a}{b}
            self._space(tape.at + 1)
        else:
            self._part(tape.at + 1)

    def _double_mark(self) -> None:
        """The single characters for !! and ?!."""
        self._say("!" if self._tape.text[self._tape.at] == "‼" else "?!", self._tape.at + 1)

    # Which rule is asked for which character

    _rules: ClassVar[dict[str, Callable[[Spoken], None]]] = {
        "\n": _newline,
        "`": _backticks,
        "[": _open_bracket,
        "]": _close_bracket,
        "<": _angle,
        "*": _stars,
        "_": _underscores,
        "~": _tildes,
        "#": _hashes,
        "!": _marks,
        "?": _marks,
        "！": _wide_marks,
        "？": _wide_marks,
        "。": _wide_marks,
        "‼": _double_mark,
        "⁉": _double_mark,
        ".": _dots,
        "…": _ellipsis,
        "-": _dashes,
        "&": _ampersand,
        "\\": _backslash,
        "$": _dollar,
        "|": _bar,
        "{": _brace,
        "}": _brace,
        **dict.fromkeys("hHwW", _maybe_address),
        **dict.fromkeys("0123456789", _digit),
    }
    _code_rules: ClassVar[dict[str, Callable[[Spoken], None]]] = {"\n": _newline}
    # What may open a line; a rule that is true has taken a marker, and another may follow it.
    _openers: ClassVar[dict[str, tuple[Callable[[Spoken], bool], ...]]] = {
        "#": (_open_heading,),
        "-": (_open_ruler, _open_item),
        "*": (_open_ruler, _open_item),
        "_": (_open_ruler,),
        "=": (_open_ruler,),
        ":": (_open_ruler,),
        "|": (_open_ruler, _open_row),
        "`": (_open_fence,),
        "~": (_open_fence,),
        "[": (_open_reference,),
        **dict.fromkeys("+•–—·◦‣▪●○■", (_open_item,)),
    }
