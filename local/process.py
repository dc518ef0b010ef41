"""One process that serves: started until it is ready, frozen, killed, restarted, stopped.

It has its own session, so that Ctrl-C in a terminal reaches only its parent, which then stops its
processes in order.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent

# How often a file or a process is looked at: far below what a person or a test notices.
_LOOK_EVERY_SECONDS = 0.01
_DIE_SECONDS = 10.0
_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1
_PORT_IS_TAKEN = ("address already in use", "port is already in use", "is not available on")


class NotStarted(Exception):
    """A server did not come up, or did not stop; its text says why and what to do."""


def _prctl() -> Callable[..., int] | None:
    """Found before a fork: nothing may be loaded between that and the execution."""
    if sys.platform != "linux":
        return None
    found: Callable[..., int] = ctypes.CDLL(None).prctl
    return found


_PRCTL = _prctl()


def temporary(name: str) -> Path:
    """A folder of its own for one server; it does not exist yet."""
    return Path(tempfile.gettempdir()) / f"parley-{name}-{uuid.uuid4().hex[:12]}"


def python_path(environ: Mapping[str, str]) -> str:
    """PYTHONPATH with which `python -m` finds this project from any folder."""
    before = environ.get("PYTHONPATH")
    return f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return True


def _taken(said: str) -> list[str]:
    """The lines that say that a port is taken."""
    return [
        line for line in said.splitlines() if any(words in line.lower() for words in _PORT_IS_TAKEN)
    ]


def wants_another_port(error: NotStarted) -> bool:
    """Whether somebody else was faster: the same again, elsewhere, may start."""
    return bool(_taken(str(error)))


async def start_all(processes: Sequence[Process]) -> None:
    """Returns when all of them are ready.

    Raises: NotStarted, for the first that is not.
    """
    outcomes = await asyncio.gather(*(p.start() for p in processes), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


class Child(Protocol):
    """A process of which we are the parent; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def send_signal(self, sig: int, /) -> None: ...


class Started(ABC):
    """Started by its `async with`, and closed behind it, or when the start fails."""

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class Process(Started):
    """A server of one kind: the kind says what is executed, and how one sees that it is ready.

        async with NatsServer() as server:
            await server.kill()
            await server.restart()  # same ports, same data

    `folder` holds what is temporary, and goes with the server; `log` is by default in it.
    """

    start_seconds = 20.0
    stop_seconds = 5.0
    # What it gets when its parent is killed (on Linux): nobody is left who would ask it to end.
    orphan_signal = signal.SIGKILL
    held: tuple[int, ...] = ()  # files of the parent that stay open as long as it lives

    def __init__(self, name: str, *, log: str | Path | None = None) -> None:
        self.name = name
        self.folder = temporary(name)
        self.log = Path(log or self.folder / f"{name}.log")
        self._process: Child | None = None
        self._log_before = 0  # bytes of earlier runs
        self._was_ready = False

    # ------------------------------------------------------------ what a kind says of itself

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What is executed; asked anew for each start, after `folder` is there."""

    def _environ(self) -> Mapping[str, str] | None:
        """Its environment; none: the parent's."""
        return None

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Whether it does what it is there for; asked over and over after a start."""

    def _may_move(self, taken: str) -> bool:  # noqa: ARG002 - a kind may ask which port it was
        """Whether to start again where a port was taken; `taken`: what it said of it.

        By default where it had that port before: an outgoing connection may have it for a moment.
        """
        return self._was_ready

    def _why_ended(self) -> str:
        """A hint for a person, by the exit status."""
        return ""

    # ------------------------------------------------------------ what it does

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

    def said(self) -> str:
        """What this run has logged so far."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_before)
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def obituary(self) -> str:
        """How it ended, and what it logged last."""
        return (
            f"{self.name} ended with status {self.status}. {self._why_ended()}{self._last_words()}"
        )

    def _last_words(self) -> str:
        tail = "\n".join(self.said().splitlines()[-_TAIL_LINES:])
        return f"The end of {self.log}:\n{tail or '(it is empty)'}"

    # ------------------------------------------------------------ life

    def spawn(self) -> None:
        """Executes it, and does not wait for anything.

        Raises: NotStarted, when it runs already or cannot be executed.
        """
        if self.running:
            raise NotStarted(f"{self.name} runs already as process {self.pid}: stop it first")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command, environ = self._command(), self._environ()
        with self.log.open("ab") as log:
            self._log_before = log.tell()
            try:
                self._process = self._execute(command, environ, log)
            except OSError as exc:
                said = f"{self.name}: cannot execute {command[0]}: {exc.strerror}"
                raise NotStarted(said) from exc

    def _execute(
        self, command: Sequence[str], environ: Mapping[str, str] | None, log: BinaryIO
    ) -> Child:
        """A child of this process, in a session of its own, which says all it says to `log`."""
        return subprocess.Popen(
            command,
            env=None if environ is None else dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=self.held,
            preexec_fn=self._with_its_parent(),  # noqa: PLW1509  it calls prctl, no more
        )

    def _with_its_parent(self) -> Callable[[], None] | None:
        """Run in the child before it executes anything: it never outlives its parent."""
        if _PRCTL is None:
            return None
        parent, number, prctl = os.getpid(), int(self.orphan_signal), _PRCTL

        def tie() -> None:
            prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
            if os.getppid() != parent:  # it died in between
                os._exit(1)

        return tie

    async def ready(self, seconds: float | None = None) -> None:
        """Returns when it is ready.

        Raises: NotStarted, with the end of the log, when it ends first or takes longer.
        """
        seconds = self.start_seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        while not (is_ready := await self._is_ready()) and self.running:
            if time.monotonic() > deadline:
                await self.kill()
                raise NotStarted(
                    f"{self.name} was not ready within {seconds:g} s: is the machine overloaded? "
                    f"{self._last_words()}"
                )
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        if not (is_ready and self.running):
            raise NotStarted(self.obituary())
        self._was_ready = True

    async def start(self) -> None:
        """Returns when it is ready.

        Raises: NotStarted, with the end of its log.
        """
        deadline = time.monotonic() + self.start_seconds
        while True:
            self.spawn()
            try:
                await self.ready(max(deadline - time.monotonic(), 1))
            except NotStarted:
                taken = "\n".join(_taken(self.said()))
                if taken and self._may_move(taken) and time.monotonic() < deadline:
                    continue
                raise
            return

    def signal(self, number: signal.Signals) -> None:
        """Does nothing to one that has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP: it looks alive, its connections stay open, and it does nothing.

        Returns when it has stopped: on a busy machine it runs on for a while after the signal.
        """
        self.signal(signal.SIGSTOP)
        if self.running:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    async def ended(self, seconds: float = 20.0) -> int:
        """Its exit status, once it has ended.

        Raises: TimeoutError.
        """
        if not await until(lambda: not self.running, seconds):
            raise TimeoutError(f"{self.name} has not ended within {seconds:g} s")
        return self.status or 0

    async def kill(self) -> None:
        """SIGKILL, as a power failure would: no goodbye."""
        self.signal(signal.SIGKILL)
        if not await until(lambda: not self.running, _DIE_SECONDS):
            raise NotStarted(f"{self.name}: process {self.pid} does not die; look at it by hand")

    async def stop(self, seconds: float | None = None) -> None:
        """Asks it to end; after so many seconds it is killed."""
        self.signal(signal.SIGTERM)
        self.thaw()  # a frozen process sees no SIGTERM
        patience = self.stop_seconds if seconds is None else seconds
        if not await until(lambda: not self.running, patience):
            await self.kill()

    async def restart(self) -> None:
        """Starts it again on the same ports and data, whether it was stopped, killed or runs."""
        await self.stop()
        await self.start()

    async def close(self) -> None:
        """Stops it and removes what is temporary."""
        await self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
