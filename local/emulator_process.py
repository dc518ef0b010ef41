"""The emulated provider as a process of its own: with its own core, and one that can be killed."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp

from local.process import NotStarted, Process, python_path
from local.together.script import script as checked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_ASK_SECONDS = 30.0


class EmulatorProcess(Process):
    """`python -m local.together`; it keeps its port when it is started again.

    It begins with `script` each time; what `change` and `add_fault` said is lost with the process.
    """

    def __init__(
        self,
        script: Mapping[str, Any] | None = None,
        *,
        port: int = 0,
        log: str | Path | None = None,
    ) -> None:
        checked(dict(script or {}))  # a mistake is better named here than in a log
        super().__init__("emulator", log=log)
        self._script = dict(script or {})
        self._port = port
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

    def _command(self) -> Sequence[str]:
        file = self.folder / "script.json"
        file.write_text(json.dumps(self._script), encoding="utf-8")
        command = [sys.executable, "-m", "local.together"]
        return [*command, "--port", str(self._port), "--script", str(file)]

    def _environ(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": python_path(os.environ)}

    async def _is_ready(self) -> bool:
        for line in self.said().splitlines(keepends=True):
            if line.startswith("{") and line.endswith("}\n"):
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

    async def record(self, match: str = "") -> dict[str, Any]:
        """What it was asked; with `match` only the chats and commits in whose texts it occurs."""
        found: dict[str, Any] = await self._ask("GET", f"record?match={quote(match)}")
        return found

    async def clear_record(self) -> None:
        await self._ask("DELETE", "record")

    async def totals(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._ask("GET", "record?totals=1")
        return found
