"""The emulated provider as a process of its own: with its own core, and one that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from local import scripts
from local.child import Child, NotStarted, temporary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_START_SECONDS = 20.0  # numpy and aiohttp load in 0.5 s; a busy machine takes several
_STOP_SECONDS = 5.0
_ASK_SECONDS = 30.0
ROOT = Path(__file__).resolve().parent.parent


def python_path(environ: Mapping[str, str]) -> str:
    """PYTHONPATH with which `python -m` finds this project from any folder."""
    before = environ.get("PYTHONPATH")
    return f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)


class EmulatorProcess:
    """`python -m local.together_emulator`; it keeps its port when it is started again.

    It begins with `script` each time; what `change` and `add_fault` said is lost with the process.
    """

    def __init__(
        self,
        script: Mapping[str, Any] | None = None,
        *,
        port: int = 0,
        log: str | Path | None = None,
    ) -> None:
        scripts.script(dict(script or {}))  # a mistake is better named here than in a log
        self._script = dict(script or {})
        self._folder = temporary("emulator")
        self._port = port
        self._child = Child("the emulator", Path(log or self._folder / "emulator.log"))
        self._told: dict[str, Any] = {}

    @property
    def base_url(self) -> str:
        """For TOGETHER_BASE_URL."""
        return self._address("base_url")

    @property
    def tts_url(self) -> str:
        """For TTS_URL."""
        return self._address("tts_url")

    @property
    def control_url(self) -> str:
        return self._address("control_url")

    def _address(self, name: str) -> str:
        if not self._told:
            raise NotStarted("the emulator has no address: start it first")
        return str(self._told[name])

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    @property
    def log(self) -> Path:
        return self._child.log

    async def start(self) -> None:
        """Returns when it listens.

        Raises: NotStarted, with the end of its log.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / "script.json"
        file.write_text(json.dumps(self._script), encoding="utf-8")
        before = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", "local.together_emulator"]
        command += ["--port", str(self._port), "--script", str(file)]
        self._child.start(command, {**os.environ, "PYTHONPATH": python_path(os.environ)})
        await self._child.ready(lambda: self._listening(before), _START_SECONDS)

    def _listening(self, before: int) -> bool:
        lines = self.log.read_bytes()[before:].splitlines(keepends=True)
        for line in lines:
            if line.startswith(b"{") and line.endswith(b"}\n"):
                self._told = json.loads(line)
                self._port = int(self._told["port"])
                return True
        return False

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """Raises: ValueError, with the emulator's words, for what it refuses."""
        timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
        url = f"{self.control_url}/{path}"
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.request(method, url, json=body) as answer,
        ):
            data = await answer.json()
            if answer.status >= 400:
                raise ValueError(data.get("error") or f"{path}: status {answer.status}")
            return data

    async def change(self, data: Mapping[str, Any]) -> None:
        """Changes what `data` names; faults are replaced as a whole."""
        await self._ask("PUT", "script", dict(data))

    async def add_fault(self, **fault: Any) -> int:
        """One more fault; the answer is its id."""
        return int((await self._ask("POST", "faults", fault))["id"])

    async def remove_fault(self, number: int) -> None:
        await self._ask("DELETE", f"faults/{number}")

    async def hits(self, number: int) -> int:
        """How often the fault with this id has hit."""
        faults = await self._ask("GET", "faults")
        return next((int(f["hits"]) for f in faults if f["id"] == number), 0)

    async def record(self, match: str = "") -> dict[str, Any]:
        """What it was asked; see record.py."""
        found: dict[str, Any] = await self._ask("GET", f"record?match={match}")
        return found

    async def totals(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._ask("GET", "record?totals=1")
        return found

    async def reset(self) -> None:
        """The first script again, and an empty record."""
        await self._ask("POST", "reset")

    async def stop(self) -> None:
        await self._child.stop(_STOP_SECONDS)

    async def kill(self) -> None:
        """SIGKILL."""
        await self._child.kill()

    def freeze(self) -> None:
        self._child.freeze()

    def thaw(self) -> None:
        self._child.thaw()

    async def restart(self) -> None:
        """Starts it again on the same port, whether it was stopped, killed or runs."""
        await self.stop()
        await self.start()

    async def close(self) -> None:
        """Stops it and removes what is temporary."""
        await self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

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
