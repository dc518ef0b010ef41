"""Processes of the project's programs that start at once: see tests/forkserver.py."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from local.process import ROOT, Child, NotStarted, until
from local.service import Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PR_SET_CHILD_SUBREAPER = 36
_REPLY_BYTES = 64
_START_SECONDS = 180.0  # it imports a program, perhaps on a machine with much else to do
_FORKS = sys.platform == "linux"


class Forked:
    """A child of ours, as `subprocess.Popen` has them."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None

    @property
    def pid(self) -> int:
        return self._pid

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            os.kill(self._pid, sig)


class Forkserver:
    """Of one module; started by its first use, and there as long as we are."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.settimeout(_START_SECONDS)
        path = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python")))
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forkserver", str(number), module],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(number,),
            )
        self._prctl = ctypes.CDLL(None).prctl
        atexit.register(self._end)

    def _end(self) -> None:
        self._connection.close()
        self._process.wait()

    def fork(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        files: tuple[IO[bytes], IO[bytes], IO[bytes]],
        *,
        cwd: Path | None = None,
        orphan_signal: int = signal.SIGKILL,
    ) -> Forked:
        """The program with these words and files; it is running when this returns."""
        request: dict[str, Any] = {
            "words": list(words),
            "environ": dict(environ),
            "cwd": None if cwd is None else str(cwd),
            "orphan_signal": int(orphan_signal),
        }
        data = json.dumps(request).encode()
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(self._connection, [data], [file.fileno() for file in files])
            pid = self._connection.recv(_REPLY_BYTES)
        finally:
            self._prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if not pid:
            raise NotStarted(
                f"{self._module} was not forked: its forkserver has said why, and ended"
            )
        return Forked(int(pid))


forkserver = functools.cache(Forkserver)


def warm(*services: str) -> None:
    """Their imports begin now, beside whatever else is started."""
    if _FORKS:
        for name in services:
            forkserver(f"services.{name}")


class ForkedService(Service):
    """A service that is forked rather than executed: that it starts by its command is tried in
    tests/integration/local and by `make demo`."""

    def _execute(
        self, command: Sequence[str], environ: Mapping[str, str] | None, log: BinaryIO
    ) -> Child:
        if not _FORKS or self.held:
            return super()._execute(command, environ, log)
        with Path(os.devnull).open("rb") as nothing:
            return forkserver(command[-1]).fork(
                (), environ or os.environ, (nothing, log, log), orphan_signal=self.orphan_signal
            )


async def run(
    module: str,
    *words: str,
    environ: Mapping[str, str],
    stdin: str = "",
    seconds: float = 90,
    cwd: Path | None = None,
) -> tuple[int, str, str]:
    """`python -m module` to its end: its status, and what it said on both."""
    with contextlib.ExitStack() as open_files:
        files = [open_files.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        given, out, err = files
        given.write(stdin.encode())
        given.seek(0)
        command = [sys.executable, "-m", module, *words]
        process: Child
        if _FORKS:
            process = forkserver(module).fork(words, environ, (given, out, err), cwd=cwd)
        else:
            process = subprocess.Popen(  # noqa: ASYNC220  it is not waited for
                command, env=dict(environ), cwd=cwd, stdin=given, stdout=out, stderr=err
            )
        try:
            if not await until(lambda: process.poll() is not None, seconds):
                raise TimeoutError(f"{command} has not ended within {seconds:g} s")
        finally:
            process.send_signal(signal.SIGKILL)
        for file in (out, err):
            file.seek(0)
        return process.poll() or 0, out.read().decode(), err.read().decode()
