"""Standard input: of a terminal key by key, with a prompt; of anything else line by line."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from typing import TYPE_CHECKING, Any, Final, Self

from parley.cli.editor import Editor, End, Key, Line, Typed

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES: Final = 4_096


class Keyboard:
    """For `async with`; the terminal is as before behind it.

    Ctrl-C is a key, too, whatever standard input is.
    """

    def __init__(self) -> None:
        self.is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self.editor = Editor()
        self._typed: asyncio.Queue[Typed] = asyncio.Queue()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._before: list[Any] | None = None
        self._prompt: str | None = None

    # ------------------------------------------------------------ its life

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._typed.put_nowait, Key("ctrl-c"))
        if not self.is_terminal:
            threading.Thread(target=self._read_lines, args=(loop,), daemon=True).start()
            return self
        self._before = termios.tcgetattr(0)
        self._take()
        loop.add_reader(0, self._on_keys)
        loop.add_signal_handler(signal.SIGCONT, self._on_continued)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGINT)
        if self._before is None:
            return
        loop.remove_reader(0)
        loop.remove_signal_handler(signal.SIGCONT)
        self.hide()
        self._give_back()

    def _take(self) -> None:
        """Each key at once and unseen. Ctrl-C is no signal: it would reach whoever started us, as
        `make` did, too."""
        with contextlib.suppress(termios.error, OSError):
            tty.setcbreak(0)
            now = termios.tcgetattr(0)
            now[0] &= ~termios.IXON
            now[3] &= ~(termios.IEXTEN | termios.ISIG)
            termios.tcsetattr(0, termios.TCSADRAIN, now)

    def _suspend(self) -> None:
        """Ctrl-Z, for all that stand in the foreground; `fg` goes on."""
        self._give_back()
        os.kill(0, signal.SIGTSTP)

    def _give_back(self) -> None:
        assert self._before is not None
        with contextlib.suppress(termios.error, OSError):  # the terminal may have gone
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def _on_continued(self) -> None:
        self._take()
        self._draw()

    # ------------------------------------------------------------ what is typed

    async def next(self) -> Typed:
        return await self._typed.get()

    def _on_keys(self) -> None:
        try:
            data = os.read(0, _READ_BYTES)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(0)
            self._typed.put_nowait(End())
            return
        for typed in self.editor.feed(self._decoder.decode(data)):
            if typed == Key("ctrl-z"):
                self._suspend()
            else:
                self._typed.put_nowait(typed)
        self._draw()

    def _read_lines(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: a file or a pipe has no other way to be waited for everywhere."""
        rest = ""
        while True:
            try:
                data = os.read(0, _READ_BYTES)
            except OSError:
                data = b""
            *lines, rest = (rest + self._decoder.decode(data, final=not data)).split("\n")
            found: list[Typed] = [Line(line) for line in lines]
            if not data:
                found += [*([Line(rest)] if rest else []), End()]
            try:
                for typed in found:
                    loop.call_soon_threadsafe(self._typed.put_nowait, typed)
            except RuntimeError:  # the loop is closed
                return
            if not data:
                return

    # ------------------------------------------------------------ the prompt

    def prompt(self, text: str) -> None:
        """Shows it, with what is typed, from now on."""
        if self.is_terminal:
            self._prompt = text
            self._draw()

    def hide(self) -> None:
        """Nothing that is typed is shown, until the next prompt."""
        if self._prompt is not None:
            self._prompt = None
            _write("\r\x1b[K")

    def close_line(self, line: str) -> None:
        """The prompt's line stays on the screen, with what was said."""
        if self._prompt is not None:
            _write(f"\r\x1b[K{self._prompt}{line}\n")
            self._prompt = None

    def above(self, say: Callable[[], None]) -> None:
        """Prints something while the prompt may be shown."""
        if self._prompt is not None:
            _write("\r\x1b[K")
        say()
        self._draw()

    def _draw(self) -> None:
        if self._prompt is None:
            return
        width = max(shutil.get_terminal_size().columns - len(self._prompt), 8)
        text, column = self.editor.view(width)
        at = len(self._prompt) + column
        _write(f"\r\x1b[K{self._prompt}{text}\r" + (f"\x1b[{at}C" if at else ""))


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may have gone
        sys.stdout.write(text)
        sys.stdout.flush()
