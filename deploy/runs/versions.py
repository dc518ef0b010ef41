"""`make versions`: an upgrade and a rollback between an older version and this one, turns running.

    python -m deploy.runs.versions [--from REVISION]

Processes on this machine, with a NATS, an S3 and a provider of their own; the older version comes
from git (the last tag, or BEFORE). Each roll starts the other version's process, waits until it is
ready, and tells the old one to end: chat first, then tts, so that in between each stands beside the
other one's other half. Every turn is looked at whole, and must have been told once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from local.process import ROOT
from local.service import Service
from tests.e2e.whole import FAST, assert_whole
from tests.forked import ForkedService
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# The oldest commit to which one can go back from this one, as long as there is no tag: the first
# with accounts, tokens and limits.
BEFORE = "f563952"
ASK_SECONDS = 0.5
SERVICES = ("chat", "tts")
# A setting of a stream that differs: the older version stands beside it, and says so in its log.
CHANGED = {"RETENTION_AUDIO": "43200"}


class Version(Service):
    """A service of another checkout, with this one's libraries."""

    def __init__(self, folder: Path, name: str, environ: Mapping[str, str], log: Path) -> None:
        super().__init__(name, environ, log=log)
        self._folder = folder

    def _command(self) -> list[str]:
        # -P: nothing is imported from where we happen to be.
        return [sys.executable, "-P", "-m", f"services.{self.name}"]

    def _environ(self) -> Mapping[str, str]:
        return {**super()._environ(), "PYTHONPATH": str(self._folder)}


def older() -> str:
    """The last release before this commit, else BEFORE."""
    told = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "HEAD^"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or BEFORE


def checkout(revision: str, folder: Path) -> None:
    """What the services of a revision are made of."""
    archive = folder.with_suffix(".tar")
    subprocess.run(
        ["git", "archive", "--output", archive, revision, "services", "shared"],
        cwd=ROOT,
        check=True,
    )
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")


def where(folder: Path) -> str:
    """The file that `services.chat` comes from there."""
    told = subprocess.run(
        [sys.executable, "-P", "-c", "import services.chat as c; print(c.__file__)"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.strip()


class Rolled:
    """A system in which one version of each service follows the other."""

    def __init__(self, system: System, folders: Mapping[str, Path]) -> None:
        self.system, self.folders = system, folders
        self.running: dict[str, Service] = {}
        self._count = 0

    def _environ(self, version: str) -> dict[str, str]:
        changed = CHANGED if self.folders[version] == ROOT else {}
        return {**os.environ, **self.system.environment(), **changed}

    def _start(self, version: str, name: str) -> Service:
        self._count += 1
        log = self.system.folder / f"{self._count}-{name}-{version}.log"
        folder, environ = self.folders[version], self._environ(version)
        ours = folder == ROOT
        service = (
            ForkedService(name, environ, log=log) if ours else Version(folder, name, environ, log)
        )
        service.spawn()
        return service

    async def to(self, version: str, *names: str) -> None:
        for name in names or SERVICES:
            new, old = self._start(version, name), self.running.get(name)
            self.running[name] = new
            try:
                await new.ready()
            finally:
                if old is not None:
                    old.signal(signal.SIGTERM)
                    assert await old.ended() == 0, old.obituary()
                    await old.close()

    async def provision(self, version: str) -> str:
        """As the Job does with each apply; what it says."""
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-P", "-m", "shared.provision", "--apply"],
            env={**self._environ(version), "PYTHONPATH": str(self.folders[version])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    async def close(self) -> None:
        for service in self.running.values():
            await service.kill()
            await service.close()


@contextlib.asynccontextmanager
async def turns(system: System) -> AsyncIterator[list[str]]:
    """Asked for all the time while the block runs, in few conversations; all whole at its end."""
    asked: list[str] = []

    async def ask() -> None:
        while True:
            asked.append(await system.ask(conversation_id=f"c{len(asked) % 4}", content="Well?"))
            await asyncio.sleep(ASK_SECONDS)

    asking = asyncio.create_task(ask())
    try:
        yield asked
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    await system.ears.whole(*asked, seconds=60)
    for turn_id in asked:
        assert_whole(system.ears.turn(turn_id), system)


async def rehearse(revision: str, folder: Path) -> None:
    """Raises AssertionError for whatever a user would have missed."""
    before = folder / "before"
    await asyncio.to_thread(checkout, revision, before)
    assert where(before).startswith(str(before)), where(before)
    async with System(folder / "system") as system:
        system.emulator.change(FAST)
        rolled = Rolled(system, {revision: before, "this": ROOT})
        try:
            await system.ears.listen(system.client)
            await rolled.to(revision)
            async with turns(system) as asked:
                for version in ("this", revision, "this"):
                    count, since = len(asked), time.monotonic()
                    say(f"{version}: {await rolled.provision(version)}")
                    await rolled.to(version)
                    await system.ears.whole(asked[-1])
                    seconds = time.monotonic() - since
                    say(f"rolled to {version} in {seconds:.0f} s, {len(asked) - count} turns asked")
            history = await system.history("c0")
            ours = len([t for n, t in enumerate(asked) if n % 4 == 0])
            assert len(history["messages"]) == 2 * ours
            again = [t for t in asked if system.ears.turn(t).deltas[-1]["attempt"] > 1]
            say(f"{len(asked)} turns, all whole; {len(again)} texts begun again by another worker")
        finally:
            await rolled.close()


def say(what: str) -> None:
    print(what, flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.runs.versions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--from", dest="revision", default=older(), help="default: %(default)s")
    revision = parser.parse_args(arguments).revision
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(rehearse(revision, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
