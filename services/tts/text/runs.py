"""What is said of a text: runs, each with the range of the shown text that it stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from services.tts.text.characters import SILENT, WORD
from services.tts.text.lookahead import Lookahead


class Run(NamedTuple):
    """Speakable text, and the range [start, end) of the shown text that it stands for.

    Where both are equally long, character stands for character; else the whole for the whole.
    A "\\n" ends an utterance: the end of a line, a heading, a list item, a row of a table.
    """

    text: str
    start: int
    end: int


@dataclass(slots=True)
class Line:
    """What is known of a line while it is read; with its end all of it is forgotten."""

    start: int  # in the whole text
    is_row: bool = False  # of a table
    brackets: int = 0  # "[" without their "]" so far
    emphasis: bool = False  # after a single "*" that opened something
    formula: bool = False  # after a "$" that opened something


class RunWriter:
    """Says or drops each stretch of a text, once and in order; `end` is where a stretch ends.

    It begins where `ahead.at` stands, and reading goes on behind it.
    """

    def __init__(self, ahead: Lookahead) -> None:
        self.ahead = ahead
        self.line = Line(0)
        self.last = "\n"  # the last character said
        self._runs: list[Run] = []
        self._postponed: Run | None = None

    def take(self) -> list[Run]:
        """What was said since the last call."""
        runs, self._runs = self._runs, []
        return runs

    def say(self, text: str, end: int) -> None:
        if self._postponed is not None:
            self._runs.append(self._postponed)
            self._postponed = None
        ahead = self.ahead
        offset = ahead.offset
        self._runs.append(Run(text, offset + ahead.at, offset + end))
        self.last = text[-1]
        ahead.at = end

    def drop(self, end: int) -> None:
        self.ahead.at = end

    def say_as_written(self, end: int) -> None:
        self.say(self.ahead.text[self.ahead.at : end], end)

    def keep(self) -> None:
        """Say the next character."""
        self.say(self.ahead.text[self.ahead.at], self.ahead.at + 1)

    def space(self, end: int) -> None:
        """Say one space, if it means anything here."""
        if self.line.is_row:
            self.postpone(" ", end)
        elif self.last in " \n":
            self.drop(end)
        else:
            self.say(" ", end)

    def postpone(self, text: str, end: int) -> None:
        """Say it only if more of the line follows."""
        if self.last != "\n" and (self._postponed is None or text != " "):
            offset = self.ahead.offset
            self._postponed = Run(text, offset + self.ahead.at, offset + end)
        self.drop(end)

    def end_utterance(self, end: int) -> None:
        self._postponed = None
        if self.last == "\n":
            self.drop(end)
        else:
            self.say("\n", end)

    def say_decoded(self, text: str, end: int) -> None:
        """Say what a code stood for: it may be a space, or nothing that has a sound."""
        text = SILENT.sub("", text)
        if text.isspace():
            self.space(end)
        elif text:
            self.say(text, end)
        else:
            self.drop(end)

    def drop_bracket(self, end: int) -> None:
        """Between two words it leaves a space."""
        if WORD.match(self.ahead.before) and WORD.match(self.ahead.char(end)):
            self.space(end)
        else:
            self.drop(end)


class Ranges:
    """Which range of the shown text each character of some runs stands for."""

    def __init__(self) -> None:
        self._starts = [0]  # as long as a lookahead of the runs, with the character in front
        self._ends = [0]

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, runs: Iterable[Run]) -> None:
        starts, ends = self._starts, self._ends
        for text, start, end in runs:
            length = len(text)
            if length == end - start:
                starts.extend(range(start, end))
                ends.extend(range(start + 1, end + 1))
            else:
                starts.extend([start] * length)
                ends.extend([end] * length)

    def forget(self, count: int) -> None:
        if count:
            del self._starts[:count]
            del self._ends[:count]

    def start(self, position: int) -> int:
        return self._starts[position]

    def end(self, position: int) -> int:
        return self._ends[position]
