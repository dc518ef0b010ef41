"""Everything the services need, on this machine: NATS, an S3 server, the emulated provider."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from local.accounts import Accounts, websocket
from local.emulator_process import EmulatorProcess
from local.nats_server import NatsServer
from local.object_store import object_store, preferred_kind
from local.process import NotStarted, Started, start_all, temporary, until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.s3_server import Kind

ServiceName = Literal["access", "chat", "tts"]

_CLAIM_SECONDS = 3.0
EMULATOR_KEY = "emulator-key"  # any key will do there
BUCKET = "parley-audio"
_PROVIDER = ("TOGETHER_API_KEY", "TOGETHER_BASE_URL", "TTS_URL")
_NEEDS: dict[ServiceName, tuple[str, ...]] = {
    "access": ("NATS_", "ACCESS_"),
    "chat": ("NATS_", "TOGETHER_"),
    "tts": ("NATS_", "TOGETHER_API_KEY", "TTS_", "MINIO_"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the servers listen on 127.0.0.1; 0 is a free port of their own choice."""

    nats: int = 0
    nats_websocket: int = 0
    s3: int = 0
    emulator: int = 0


class Stack(Started):
    """Starts what is there, and stops it in reverse.

        async with Stack() as stack:
            environ = {**os.environ, **stack.environment("chat"), "HTTP_PORT": "8080"}

    With `data` what NATS and S3 keep is kept there, from one stack to the next, unless it is to be
    a `fresh` one; without it everything is temporary.
    `origins`: of the pages that may connect to NATS, such as `http://127.0.0.1:8000`.
    `emulate` none: unless `environ` has a TOGETHER_API_KEY, for then the real provider is used.
    """

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        fresh: bool = False,
        emulate: bool | None = None,
        script: Mapping[str, Any] | None = None,
        s3: Kind | None = None,
        ports: Ports | None = None,
        origins: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._temporary = temporary("stack")
        self.data = None if data is None else Path(data)
        self._fresh = fresh
        self.logs = (self.data or self._temporary) / "logs"
        ports = ports or Ports()
        self.accounts = Accounts((self.data or self._temporary) / "accounts")
        self.nats = NatsServer(
            self.data / "nats" if self.data else None,
            port=ports.nats or -1,
            websocket_port=ports.nats_websocket or -1,
            config=self.accounts.config,
            websocket_config=websocket(origins),
            log=self.logs / "nats.log",
        )
        kind = s3 or preferred_kind(None if fresh else self.data)
        self.s3 = object_store(kind, self.data, port=ports.s3, log=self.logs / f"{kind}.log")
        if emulate is None:
            real = self._environ.get("TOGETHER_API_KEY") or self._environ.get(
                "TOGETHER_API_KEY_FILE"
            )
            emulate = not real
        log = self.logs / "emulator.log"
        self.emulator = EmulatorProcess(script, port=ports.emulator, log=log) if emulate else None
        self._lock: IO[str] | None = None

    def environment(self, service: ServiceName | None = None) -> dict[str, str]:
        """The variables that a service needs to find everything, its login at NATS among them, once
        the stack has started; of both, and without a login, where no name is given.

        With the real provider: what the caller's environment says of it, its key included.
        """
        found = {
            "NATS_URL": self.nats.url,
            "MINIO_ENDPOINT": self.s3.endpoint,
            "MINIO_ACCESS_KEY": self.s3.access_key,
            "MINIO_SECRET_KEY": self.s3.secret_key,
            "MINIO_BUCKET": BUCKET,
            "MINIO_SECURE": "false",
            "MINIO_REGION": "us-east-1",
        }
        if self.emulator is not None:
            found["TOGETHER_API_KEY"] = EMULATOR_KEY
            found["TOGETHER_BASE_URL"] = self.emulator.base_url
            found["TTS_URL"] = self.emulator.tts_url
        else:
            names = [*_PROVIDER, *(f"{name}_FILE" for name in _PROVIDER)]
            found |= {name: self._environ[name] for name in names if self._environ.get(name)}
        if service is None:
            return found
        found |= self.accounts.login(service) | self.accounts.guard()
        return {name: value for name, value in found.items() if name.startswith(_NEEDS[service])}

    def process_environment(self, service: ServiceName, **more: str) -> dict[str, str]:
        """The caller's environment with `environment` in place of whatever it says of the same."""
        ours = {**self.environment(service), **more}
        # Logins are for other servers, and a variable may not be given as text and as file.
        foreign = {"NATS_USER", "NATS_PASSWORD", "NATS_CREDS", "NATS_NKEY_SEED", "NATS_CA"}
        foreign |= set(ours) | {"MINIO_PUBLIC_ENDPOINT"}
        foreign |= {f"{name}_FILE" for name in foreign}
        return {**{k: v for k, v in self._environ.items() if k not in foreign}, **ours}

    async def start(self) -> None:
        """Returns when all of them answer.

        Raises: NotStarted, for the first that does not.
        """
        await self._claim()
        if self._fresh:
            self._forget()
        self.logs.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self.accounts.prepare)
        self._adopt()
        emulator = [] if self.emulator is None else [self.emulator]
        await start_all([self.nats, self.s3, *emulator])

    async def _claim(self) -> None:
        """Two stacks on one folder would destroy each other's data.

        The servers hold the claim, too: of a stack that was killed they end a moment later.
        """
        if self.data is None:
            return
        self.data.mkdir(parents=True, exist_ok=True)
        self._lock = (self.data / "in-use").open("w", encoding="utf-8")
        if not await until(self._is_ours, _CLAIM_SECONDS):
            self._lock.close()
            self._lock = None
            raise NotStarted(
                f"{self.data} is in use by another stack: stop it, or give another folder"
            )
        self.nats.held = self.s3.held = (self._lock.fileno(),)

    def _is_ours(self) -> bool:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _adopt(self) -> None:
        """What an earlier version kept is in the account that a server without accounts has."""
        if self.data is not None:
            kept = self.data / "nats" / "jetstream"
            if (kept / "$G").exists() and not (kept / "PARLEY").exists():
                (kept / "$G").rename(kept / "PARLEY")

    def _forget(self) -> None:
        if self.data is not None:
            for kept in ("nats", "minio", "seaweedfs", "logs"):
                shutil.rmtree(self.data / kept, ignore_errors=True)

    async def close(self) -> None:
        """Stops everything and removes what is temporary."""
        async with contextlib.AsyncExitStack() as closing:
            closing.callback(self._release)
            closing.push_async_callback(self.nats.close)
            closing.push_async_callback(self.s3.close)
            if self.emulator is not None:
                closing.push_async_callback(self.emulator.close)

    def _release(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def stop_signals() -> asyncio.Event:
    """Set by Ctrl-C, by SIGTERM, and when the terminal goes away."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
