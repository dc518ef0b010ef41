"""A program in a terminal of its own: what it shows, and when, and what is typed there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

from local.process import Started, until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DIE_SECONDS = 10.0


class Terminal(Started):
    """Such as a person sits at; it hangs up when it is closed."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        columns: int = 100,
        rows: int = 30,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        self._command, self._environ, self._cwd = command, dict(environ), cwd
        self._size = (rows, columns)
        self._ours = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._seen = 0  # characters that were waited for
        self.shown: list[tuple[float, str]] = []  # seconds since the start, and what came then

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def text(self) -> str:
        """All that it has shown, control sequences included."""
        return "".join(text for _, text in self.shown)

    async def start(self) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *self._size, 0, 0))
        self._began = time.monotonic()
        self._process = subprocess.Popen(  # noqa: ASYNC220  it does not wait
            self._command,
            env={"TERM": "xterm-256color", **self._environ},
            cwd=self._cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # Its controlling terminal: Ctrl-C there is a signal, and so is the end of it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  one call
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # nobody has the other side any more
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._ours)
            return
        self.shown.append((time.monotonic() - self._began, data.decode(errors="replace")))

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    async def until(self, text: str, seconds: float = 30.0) -> str:
        """What came up to this, since the last time.

        Raises: TimeoutError.
        """
        begin = self._seen
        if not await until(lambda: text in self.text[begin:], seconds):
            raise TimeoutError(f"no {text!r} within {seconds:g} s, but {self.text[begin:]!r}")
        found = self.text.index(text, begin) + len(text)
        self._seen = found
        return self.text[begin:found]

    async def ended(self, seconds: float = 30.0) -> int:
        """Its exit status. Raises: TimeoutError."""
        if not await until(lambda: self.process.poll() is not None, seconds):
            raise TimeoutError(f"it has not ended within {seconds:g} s: {self.text[-500:]!r}")
        return int(self.process.returncode)

    def hang_up(self) -> None:
        """As the window is closed."""
        if self._ours >= 0:
            asyncio.get_running_loop().remove_reader(self._ours)
            os.close(self._ours)
            self._ours = -1

    async def close(self) -> None:
        self.hang_up()
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await until(lambda: self.process.poll() is not None, _DIE_SECONDS)
