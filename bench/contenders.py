"""Who is measured: Parley as of a revision, and programs that need no queue."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats

from bench.client import Client, whole
from bench.workload import QUESTION
from local.nats_cluster import NatsCluster
from local.nats_server import NatsServer
from local.process import ROOT, Started
from local.service import Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.client import Turn

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STREAMS: Final = ("CHAT_REQUESTS", "TTS_REQUESTS", "CHAT_DELTAS", "TTS_AUDIO")
SERVICES: Final = ("chat", "tts")


def cpu(pid: int) -> float:
    """Seconds of processor, user and system, that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """What a process has, or with `VmHWM` the most that it ever had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 1024


@dataclass(slots=True)
class Batch:
    """What some turns came to, in seconds; bytes of audio."""

    first_audio: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    cpu: float = 0.0


class Program:
    """A program that is given a batch by a line of JSON, and answers with one."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self.memory_mb = 0.0

    async def start(self) -> None:
        """Its imports and first connections are not what is measured."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=2**20,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        await self.turns(1)

    async def turns(self, count: int, at_once: int = 1, *, mode: str = "open") -> Batch:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"mode": mode, "turns": count, "at_once": at_once}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(180):
            line = await self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {await self._process.wait()}")
        found = json.loads(line)
        self.memory_mb = found["memory_mb"]
        turns = found["turns"]
        return Batch(
            [turn["first_audio"] for turn in turns],
            [turn["whole"] for turn in turns],
            [turn["bytes"] for turn in turns],
            found["cpu"],
        )

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            async with asyncio.timeout(20):
                await self._process.wait()


class _ServiceOf(Service):
    """A service whose code is that of another folder."""

    def __init__(self, name: str, environ: Mapping[str, str], root: Path) -> None:
        super().__init__(name, environ)
        self._root = root

    def _environ(self) -> Mapping[str, str]:
        # Python would look for modules in the folder that it is started in before all others.
        return {**self._settings, "PYTHONPATH": str(self._root), "PYTHONSAFEPATH": "1"}


class Parley(Started):
    """chat and tts as the files below `root` are, on a nats-server, or a cluster, of their own."""

    def __init__(
        self,
        name: str,
        root: Path,
        environ: Mapping[str, str],
        nats_server: NatsServer | NatsCluster | None = None,
    ) -> None:
        self.name = name
        self.nats = nats_server or NatsServer(websocket=False)
        self.client = Client()
        self._root, self._environ = root, environ
        self.services: dict[str, Service] = {}

    async def start(self) -> None:
        await self.nats.start()

    async def close(self) -> None:
        self.client.close()
        for service in self.services.values():
            await service.close()
        await self.nats.close()

    async def serve(self) -> dict[str, float]:
        """Starts the services one after the other: the seconds until each was ready."""
        took = {}
        for name in SERVICES:
            began = time.monotonic()
            await self._start(name, name)
            took[name] = time.monotonic() - began
        self.client = Client()
        await self.client.connect(self.nats.url)
        return took

    async def another(self) -> None:
        """A second replica of each."""
        for name in SERVICES:
            await self._start(f"{name}-2", name)

    async def _start(self, replica: str, name: str) -> None:
        settings = {"NATS_URL": self.nats.url, "HTTP_PORT": "0", "LOG_FORMAT": "json"}
        environ = {**os.environ, **self._environ, **settings, "LOG_LEVEL": "info"}
        service = self.services[replica] = _ServiceOf(name, environ, self._root)
        await service.start()

    async def kill(self) -> None:
        """Ends the services at once, and forgets what they had in hand."""
        self.client.close()
        for service in self.services.values():
            await service.kill()
            await service.close()
        self.services = {}
        admin = await nats.connect(self.nats.url)
        for stream in _STREAMS:
            await admin.jetstream().purge_stream(stream)
        await admin.close()

    # ------------------------------------------------------------ what it is asked

    async def asked(self, count: int, at_once: int = 1, **request: Any) -> list[Turn]:
        """So many turns, each of a new conversation, so many at once."""
        found: list[Turn] = []
        for _ in range(count // at_once):
            turns = [self.client.ask(content=QUESTION, **request) for _ in range(at_once)]
            found += await asyncio.gather(*(whole(turn) for turn in turns))
        return found

    async def turns(self, count: int, at_once: int = 1, *, mode: str = "open") -> Batch:
        del mode  # its connections are open, however the others work
        before = self.cpu()
        turns = await self.asked(count, at_once)
        return Batch(
            [turn.first_audio for turn in turns],
            [turn.whole for turn in turns],
            [sum(size for _, size in turn.chunks) for turn in turns],
            sum(self.cpu().values()) - sum(before.values()),
        )

    def cpu(self) -> dict[str, float]:
        """Seconds of processor by process."""
        used = {name: cpu(service.pid) for name, service in self.services.items()}
        servers = self.nats.servers if isinstance(self.nats, NatsCluster) else [self.nats]
        return {**used, "nats-server": sum(cpu(server.pid) for server in servers)}

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Of both services."""
        return sum(memory_mb(service.pid, what) for service in self.services.values())


def direct(environ: Mapping[str, str], sentences: int) -> Program:
    urls = (environ["TOGETHER_BASE_URL"], environ["TTS_URL"])
    return Program("direct", [sys.executable, "-m", "bench.direct", *urls, str(sentences)])
