"""What is printed: answers on standard output, all else on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Console
from rich.text import Text as Line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from parley.cli.outcome import Failure

_CONTROLS: Final = dict.fromkeys(
    [*range(9), *range(11, 13), *range(14, 32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}"
)


def harmless(text: str) -> str:
    """Without what a terminal would obey: whoever speaks, moves no cursor."""
    return text.translate(_CONTROLS)


class _Console(Console):
    """Of rich, which would exit by itself when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Screen:
    """With `json`, standard output has one JSON value a line, and nothing else."""

    def __init__(self, *, json: bool = False) -> None:
        self.is_json = json
        self.out = _Console(highlight=False, soft_wrap=True)
        self.err = _Console(stderr=True, highlight=False, soft_wrap=True)
        self._in_line = False  # words stand in it, and more are to come

    @property
    def is_terminal(self) -> bool:
        return self.out.is_terminal

    def value(self, value: Mapping[str, object]) -> None:
        """One line of JSON; nothing where JSON was not asked for."""
        if self.is_json:
            sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
            sys.stdout.flush()

    def words(self, text: str) -> None:
        """As they come, without a line break."""
        if not self.is_json:
            sys.stdout.write(harmless(text))
            sys.stdout.flush()
            self._in_line = (text or "\n")[-1] != "\n"

    def _break(self) -> None:
        if self._in_line and self.is_terminal:
            self.words("\n")

    def line(self, text: str = "", style: str = "") -> None:
        if not self.is_json:
            self._break()
            self.out.print(Line(harmless(text), style=style))

    def show(self, what: RenderableType) -> None:
        if not self.is_json:
            self.out.print(what)

    def note(self, text: str, style: str = "dim") -> None:
        """For people, beside the answer."""
        self._break()
        self.err.print(Line(harmless(text), style=style))

    def fail(self, failure: Failure) -> None:
        self.value(failure.describe())
        self._break()
        self.err.print(Line(f"parley: {harmless(failure.message)}", style="red"))
        if failure.hint:
            self.note(failure.hint)
