"""One server process: started, watched, frozen and stopped, with a deadline on every wait.

A child has its own session, so that Ctrl-C in a terminal reaches only its parent, which then stops
its children in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# How often a file or a process is looked at: far below what a person or a test notices.
_LOOK_EVERY_SECONDS = 0.01
_TAIL_LINES = 15


class NotStarted(Exception):
    """A server did not come up, or did not stop; its text says why and what to do."""


def temporary(name: str) -> Path:
    """A folder of its own for one server; it does not exist yet."""
    return Path(tempfile.gettempdir()) / f"parley-{name}-{uuid.uuid4().hex[:12]}"


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return True


class Child:
    """A process that writes to a log file. It may be started again after it ended."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NotStarted(f"{self.name} is not running: start it first")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status; negative for a signal; none while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Raises: NotStarted, when it runs already or cannot be executed."""
        if self.running:
            raise NotStarted(f"{self.name} runs already as process {self.pid}: stop it first")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = self._spawn(command, environ, log)

    def _spawn(
        self, command: Sequence[str], environ: Mapping[str, str] | None, log: BinaryIO
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command,
                env=None if environ is None else dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as exc:
            raise NotStarted(f"{self.name}: cannot execute {command[0]}: {exc.strerror}") from exc

    def tail(self) -> str:
        """The last lines of its log, for an error message."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-_TAIL_LINES:]) or "(its log is empty)"

    async def ready(self, condition: Callable[[], bool], seconds: float) -> None:
        """Waits for the condition.

        Raises: NotStarted, with the end of the log, when it ends first or takes longer.
        """
        if not await until(lambda: condition() or not self.running, seconds):
            await self.stop(0)
            raise NotStarted(
                f"{self.name} was not ready within {seconds:g} s: is the machine overloaded? "
                f"The end of {self.log}:\n{self.tail()}"
            )
        if not self.running:
            raise NotStarted(
                f"{self.name} ended with status {self.status}. "
                f"The end of {self.log}:\n{self.tail()}"
            )

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stops it in its tracks: it looks alive, and does nothing."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """As a power failure would: no goodbye."""
        self.signal(signal.SIGKILL)
        if not await until(lambda: not self.running, 5):
            raise NotStarted(f"{self.name}: process {self.pid} does not die; look at it by hand")

    async def stop(self, seconds: float) -> None:
        """Asks it to end; after so many seconds it is killed."""
        self.signal(signal.SIGTERM)
        self.thaw()  # a frozen process sees no SIGTERM
        if not await until(lambda: not self.running, seconds):
            await self.kill()
