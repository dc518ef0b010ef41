"""The command line as a process, against a stack with logins and tokens."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pytest_asyncio

from local.process import ROOT
from local.stack import Stack
from tests import forked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import pytest

SCRIPT = {
    "chat": {"first_token_ms": 5, "tokens_per_second": 400},
    "speech": {"realtime_factor": 200, "first_audio_ms": 5},
}
# Neither the logins of whoever runs this, nor a key for the real provider.
ENVIRON = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith(("NATS_", "PARLEY_", "TOGETHER_", "ACCESS_"))
} | {"PYTHONPATH": f"{ROOT / 'clients' / 'python'}{os.pathsep}{ROOT}", "COLUMNS": "100"}


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def values(self) -> list[dict[str, Any]]:
        """Of --json: each line is one."""
        return [json.loads(line) for line in self.out.splitlines()]


async def parley(
    *words: str,
    environ: Mapping[str, str] | None = None,
    stdin: str = "",
    seconds: float = 90,
    cwd: Path | None = None,
) -> Ran:
    """Runs it to its end. Nobody is ever shown a traceback."""
    ran = Ran(
        *await forked.run(
            "parley",
            *words,
            environ={**ENVIRON, **(environ or {})},
            stdin=stdin,
            seconds=seconds,
            cwd=cwd,
        )
    )
    assert "Traceback" not in ran.out + ran.err, ran
    return ran


class World:
    """The stack, and who may log in."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(data=folder, emulate=True, script=SCRIPT, environ=ENVIRON)
        self._services: list[forked.ForkedService] = []

    async def __aenter__(self) -> Self:
        await self.stack.start()
        for name in ("chat", "tts", "access"):
            environ = self.stack.process_environment(name, HTTP_PORT="0")
            log = self.stack.logs / f"{name}.log"
            self._services.append(forked.ForkedService(name, environ, log=log))
        await asyncio.gather(*(service.start() for service in self._services))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(service.close() for service in self._services))
        await self.stack.close()

    @property
    def url(self) -> str:
        return self.stack.nats.url

    @property
    def seeds(self) -> str:
        return str(self.stack.accounts.secrets / "access_keys")

    async def run(self, *words: str, user: str = "client", **more: Any) -> Ran:
        """By the login of a user, from the environment; "": without a login."""
        login = self.stack.accounts.login(user) if user else {}
        environ = {"NATS_URL": self.url, **login, **more.pop("environ", {})}
        return await parley(*words, environ=environ, **more)

    async def run_by_token(self, token: str, *words: str, **more: Any) -> Ran:
        environ = {"NATS_URL": self.stack.nats.ws_url, "PARLEY_TOKEN": token}
        return await parley(*words, environ=environ, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with World(tmp_path_factory.mktemp("cli")) as running:
        yield running
