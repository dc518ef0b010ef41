"""A stack on which the command line is shown, and a folder with `parley` on its PATH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from local.ports import preferred
from local.process import ROOT
from local.service import Service
from local.stack import Ports, Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

COLUMNS: Final = 92
_SERVICES: Final = ("chat", "tts", "access")
_SCRIPT: Final = {"speech": {"sound": "audible", "realtime_factor": 10}}


@dataclass(frozen=True, slots=True)
class Place:
    """Where commands are run: the folder, and what their environment says."""

    stack: Stack
    services: Mapping[str, Service]
    folder: Path
    environ: Mapping[str, str]

    def by(self, user: str) -> dict[str, str]:
        """The environment with a login."""
        return {**self.environ, **self.stack.accounts.login(user)}


@contextlib.asynccontextmanager
async def place() -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "here"
        folder.mkdir()
        command = Path(temporary) / "bin" / "parley"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m parley "$@"\n', encoding="utf-8")
        command.chmod(0o755)
        ports = Ports(nats=preferred(4222), nats_websocket=preferred(9222), s3=preferred(9000))
        stack = Stack(data=Path(temporary) / "data", emulate=True, script=_SCRIPT, ports=ports)
        async with stack:
            services = {
                name: Service(name, stack.process_environment(name, HTTP_PORT="0"))
                for name in _SERVICES
            }
            try:
                await asyncio.gather(*(service.start() for service in services.values()))
                yield Place(stack, services, folder, _environ(stack, command.parent))
            finally:
                await asyncio.gather(*(service.close() for service in services.values()))


def _environ(stack: Stack, programs: Path) -> dict[str, str]:
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'clients' / 'python'}",
        "NATS_URL": stack.nats.url,
        "HOME": str(programs.parent),
        "LANG": "C.UTF-8",
        "COLUMNS": str(COLUMNS),
    }
