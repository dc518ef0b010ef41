"""One of the services as a process."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import urllib3

from local.process import NotStarted, Process, python_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LOOK_SECONDS = 3.0
_BAD_SETTING = 2  # its exit status for one
_LISTENS = "process.started"  # the event of its log


class Service(Process):
    """`python -m services.<name>`; ready when `/readyz` says so."""

    start_seconds = 60.0  # one second when warm; much longer right after an installation
    stop_seconds = 15.0

    def __init__(
        self, name: str, environ: Mapping[str, str], *, log: str | Path | None = None
    ) -> None:
        """With HTTP_PORT 0 it picks its own port, and LOG_FORMAT must be `json`."""
        super().__init__(name, log=log)
        self._settings = dict(environ)

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", f"services.{self.name}"]

    def _environ(self) -> Mapping[str, str]:
        return {**self._settings, "PYTHONPATH": python_path(self._settings)}

    def url(self, path: str) -> str:
        """Of its HTTP side.

        Raises: NotStarted, when it does not listen yet.
        """
        port = int(self._settings.get("HTTP_PORT", "8080")) or self._told_port()
        return f"http://127.0.0.1:{port}{path}"

    def _told_port(self) -> int:
        for line in self.said().splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # half written
                continue
            if event.get("event") == _LISTENS:
                return int(event["http_port"])
        raise NotStarted(f"{self.name} has no address yet")

    async def _is_ready(self) -> bool:
        # Before it says so another process may have the port, and answer in its place.
        return _LISTENS in self.said() and await asyncio.to_thread(self.is_ready)

    def is_ready(self) -> bool:
        """What `/readyz` says; blocks."""
        try:
            url = self.url("/readyz")
            answer = urllib3.request("GET", url, timeout=_LOOK_SECONDS, retries=False)
        except (NotStarted, urllib3.exceptions.HTTPError):
            return False
        return answer.status == 200

    def _why_ended(self) -> str:
        return "A setting is wrong: its name is below. " if self.status == _BAD_SETTING else ""
