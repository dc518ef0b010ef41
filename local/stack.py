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
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from local.child import NotStarted, temporary
from local.emulator_process import EmulatorProcess
from local.nats_server import NatsServer
from local.s3_server import S3Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from local.s3_server import Kind

Service = Literal["chat", "tts"]

EMULATOR_KEY = "emulator-key"  # any key will do there
BUCKET = "parley-audio"
_PROVIDER = ("TOGETHER_API_KEY", "TOGETHER_BASE_URL", "TTS_URL")
_NEEDS: dict[Service, tuple[str, ...]] = {
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


class Stack:
    """Starts what is there, and stops it in reverse.

        async with Stack() as stack:
            environ = {**os.environ, **stack.environment("chat"), "HTTP_PORT": "8080"}

    With `data` what NATS and MinIO keep is kept there; without it everything is temporary.
    `emulate` none: unless `environ` has a TOGETHER_API_KEY, for then the real provider is used.
    """

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        logs: str | Path | None = None,
        emulate: bool | None = None,
        script: Mapping[str, Any] | None = None,
        s3: Kind | None = None,
        ports: Ports | None = None,
        nats_config: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._temporary = temporary("stack")
        self._data = None if data is None else Path(data)
        self.logs = Path(logs) if logs else (self._data or self._temporary) / "logs"
        ports = ports or Ports()
        self.nats = NatsServer(
            self._data / "nats" if self._data else None,
            port=ports.nats or -1,
            websocket_port=ports.nats_websocket or -1,
            config=nats_config,
            log=self.logs / "nats.log",
        )
        self.s3 = S3Server(
            self._data / "s3" if self._data else None,
            kind=s3,
            port=ports.s3,
            log=self.logs / "s3.log",
        )
        if emulate is None:
            real = self._environ.get("TOGETHER_API_KEY") or self._environ.get(
                "TOGETHER_API_KEY_FILE"
            )
            emulate = not real
        log = self.logs / "emulator.log"
        self.emulator = EmulatorProcess(script, port=ports.emulator, log=log) if emulate else None
        self._lock: IO[str] | None = None

    def environment(self, service: Service | None = None) -> dict[str, str]:
        """The variables that a service needs to find everything; of both without a name.

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
        return {name: value for name, value in found.items() if name.startswith(_NEEDS[service])}

    def process_environment(self, service: Service, **more: str) -> dict[str, str]:
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
        self._claim()
        self.logs.mkdir(parents=True, exist_ok=True)
        starts = [self.nats.start(), self.s3.start()]
        if self.emulator is not None:
            starts.append(self.emulator.start())
        started = await asyncio.gather(*starts, return_exceptions=True)
        for outcome in started:
            if isinstance(outcome, BaseException):
                raise outcome

    def _claim(self) -> None:
        """Two stacks on one folder would destroy each other's data."""
        if self._data is None:
            return
        self._data.mkdir(parents=True, exist_ok=True)
        self._lock = (self._data / "in-use").open("w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            self._lock.close()
            self._lock = None
            raise NotStarted(
                f"{self._data} is in use by another stack: stop it, or give another folder"
            ) from exc

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


def stop_signals() -> asyncio.Event:
    """Set by Ctrl-C, by SIGTERM, and when the terminal goes away."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
