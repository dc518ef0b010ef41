"""A line of text as it is typed in a terminal: keys in, finished lines out. It prints nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.cells import cell_len

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HISTORY: Final = 500
# Control sequences of a terminal, of which a part may come later.
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O[@-~]|[^\[O])")
_SEQUENCE_KEYS: Final = {
    **dict.fromkeys(("\x1b[A", "\x1bOA"), "up"),
    **dict.fromkeys(("\x1b[B", "\x1bOB"), "down"),
    **dict.fromkeys(("\x1b[C", "\x1bOC"), "right"),
    **dict.fromkeys(("\x1b[D", "\x1bOD"), "left"),
    **dict.fromkeys(("\x1b[H", "\x1bOH", "\x1b[1~"), "home"),
    **dict.fromkeys(("\x1b[F", "\x1bOF", "\x1b[4~"), "end"),
    "\x1b[3~": "delete",
}
_CONTROL_KEYS: Final = {
    **dict.fromkeys(("\r", "\n"), "enter"),
    **dict.fromkeys(("\x7f", "\x08"), "backspace"),
    "\x01": "home",
    "\x02": "left",
    "\x04": "ctrl-d",
    "\x05": "end",
    "\x06": "right",
    "\x0e": "down",
    "\x10": "up",
    "\x15": "ctrl-u",
    "\x17": "ctrl-w",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One that was finished by Enter."""

    text: str


@dataclass(frozen=True, slots=True)
class Key:
    """One that means nothing to a line: `ctrl-k`, `ctrl-c` …"""

    name: str


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more will be typed."""


Typed: TypeAlias = Line | Key | End


@dataclass(slots=True)
class Editor:
    """`feed` it what a terminal sends."""

    text: str = ""
    cursor: int = 0
    _history: list[str] = field(default_factory=list[str])
    _at: int = 0  # in the history; its length: the line that is new
    _new: str = ""
    _rest: str = ""  # of a control sequence

    def feed(self, data: str) -> list[Typed]:
        """What is typed by that, in order."""
        data, self._rest = self._rest + data, ""
        found: list[Typed] = []
        at = 0
        while at < len(data):
            if data[at] == "\x1b":
                sequence = _SEQUENCE.match(data, at)
                if sequence is None:
                    self._rest = data[at:]
                    break
                at = sequence.end()
                self._press(_SEQUENCE_KEYS.get(sequence.group(), ""))
                continue
            typed = self._type(data[at])
            at += 1
            if typed is not None:
                found.append(typed)
        return found

    def _type(self, letter: str) -> Typed | None:
        if letter >= " " and letter != "\x7f":
            self._insert(letter)
            return None
        name = _CONTROL_KEYS.get(letter) or f"ctrl-{chr(ord(letter) + 96)}"
        if name == "enter":
            return Line(self._taken())
        if name == "ctrl-d" and not self.text:
            return End()
        return None if self._press(name) else Key(name)

    def _press(self, name: str) -> bool:
        """Whether it means something here."""
        action = self._actions().get(name)
        if action is not None:
            action()
        return action is not None

    def _actions(self) -> dict[str, Callable[[], None]]:
        return {
            "left": lambda: self._move(self.cursor - 1),
            "right": lambda: self._move(self.cursor + 1),
            "home": lambda: self._move(0),
            "end": lambda: self._move(len(self.text)),
            "backspace": lambda: self._cut(self.cursor - 1, self.cursor),
            "delete": lambda: self._cut(self.cursor, self.cursor + 1),
            "ctrl-d": lambda: self._cut(self.cursor, self.cursor + 1),
            "ctrl-u": lambda: self._cut(0, self.cursor),
            "ctrl-w": lambda: self._cut(self._word(), self.cursor),
            "up": lambda: self._recall(self._at - 1),
            "down": lambda: self._recall(self._at + 1),
        }

    def _insert(self, letter: str) -> None:
        self.text = self.text[: self.cursor] + letter + self.text[self.cursor :]
        self.cursor += 1

    def _move(self, to: int) -> None:
        self.cursor = min(max(to, 0), len(self.text))

    def _cut(self, start: int, end: int) -> None:
        start = max(start, 0)
        self.text = self.text[:start] + self.text[end:]
        self._move(start)

    def _word(self) -> int:
        """Where the word before the cursor begins."""
        before = self.text[: self.cursor].rstrip()
        return before.rfind(" ") + 1

    def _recall(self, at: int) -> None:
        if not 0 <= at <= len(self._history):
            return
        if self._at == len(self._history):
            self._new = self.text
        self._at = at
        self.text = self._new if at == len(self._history) else self._history[at]
        self.cursor = len(self.text)

    def _taken(self) -> str:
        text, self.text, self.cursor = self.text, "", 0
        if text.strip() and self._history[-1:] != [text]:
            self._history = [*self._history, text][-MAX_HISTORY:]
        self._at, self._new = len(self._history), ""
        return text

    def clear(self) -> None:
        self.text, self.cursor, self._at, self._new = "", 0, len(self._history), ""

    def view(self, width: int) -> tuple[str, int]:
        """What of it fits into so many columns, and in which of them the cursor is."""
        start = 0
        while cell_len(self.text[start : self.cursor]) >= width and start < self.cursor:
            start += 1
        end = len(self.text)
        while cell_len(self.text[start:end]) >= width and end > self.cursor:
            end -= 1
        return self.text[start:end], cell_len(self.text[start : self.cursor])
