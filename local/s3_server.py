"""An S3 server on this machine: a MinIO binary when there is one, else moto's server from PyPI.

MinIO keeps its data over a restart; moto holds it in memory and forgets it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import urllib3
from minio import Minio
from minio.error import MinioException

from local.child import Child, NotStarted, temporary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_START_SECONDS = 20.0  # MinIO needs 0.3 s, moto 1.2 s on a slow machine
_STOP_SECONDS = 5.0
_TRIES = 8  # MinIO cannot pick its own port; another process may take the one we saw free
_MOTO_RUNS = re.compile(r"Running on http://[\d.]+:(\d+)")

Kind = Literal["minio", "moto"]


def minio_binary(environ: Mapping[str, str] | None = None) -> str | None:
    """MINIO_BIN, else `minio` on PATH, else the one in the cache folder, else none.

    Raises: NotStarted, when MINIO_BIN names something that cannot be executed.
    """
    env = os.environ if environ is None else environ
    if named := env.get("MINIO_BIN"):
        if not os.access(named, os.X_OK):
            raise NotStarted(f"MINIO_BIN: {named} cannot be executed; unset it to use moto")
        return named
    if found := shutil.which("minio", path=env.get("PATH")):
        return found
    cache = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cached = Path(cache) / "parley" / "bin" / "minio"
    return str(cached) if os.access(cached, os.X_OK) else None


def free_port() -> int:
    """A port nobody listens on at this moment; it may be taken a moment later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(endpoint: str) -> bool:
    """Whether it does what the services will ask for.

    MinIO's own health pages say yes while its logins are still being loaded.
    """
    pool = urllib3.PoolManager(timeout=0.5, retries=False)
    access, secret = S3Server.access_key, S3Server.secret_key
    try:
        Minio(
            endpoint, access, secret, secure=False, region="us-east-1", http_client=pool
        ).list_buckets()
    except (MinioException, urllib3.exceptions.HTTPError):
        return False
    finally:
        pool.clear()
    return True


class S3Server:
    """A server with its own data; it keeps its port when it is started again.

    `kind` chooses MinIO or moto; without it MinIO is taken when a binary is found.
    """

    access_key = "parley"
    secret_key = "parley-local"  # noqa: S105 - a harmless value for a server on 127.0.0.1

    def __init__(
        self,
        data_dir: str | Path | None = None,
        *,
        kind: Kind | None = None,
        port: int = 0,
        log: str | Path | None = None,
    ) -> None:
        self._folder = temporary("s3")
        self._data = Path(data_dir) if data_dir is not None else self._folder / "data"
        self._program = None if kind == "moto" else minio_binary()
        if kind == "minio" and self._program is None:
            raise NotStarted("no MinIO binary: set MINIO_BIN, or put `minio` on PATH")
        self.kind: Kind = "moto" if self._program is None else "minio"
        self._port = port
        self._child = Child(self.kind, Path(log or self._folder / f"{self.kind}.log"))

    @property
    def endpoint(self) -> str:
        """Such as `127.0.0.1:9000`."""
        if not self._port:
            raise NotStarted("the S3 server has no address: start it first")
        return f"127.0.0.1:{self._port}"

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
        """Returns when it answers.

        Raises: NotStarted, with the end of its log.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._program is None:
            await self._start_moto()
        else:
            await self._start_minio(self._program)

    async def _start_moto(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        before = self.log.stat().st_size if self.log.exists() else 0

        def told() -> bool:
            if not self.log.exists():
                return False
            text = self.log.read_bytes()[before:].decode(errors="replace")
            if found := _MOTO_RUNS.search(text):
                self._port = int(found.group(1))
            return found is not None

        # MOTO_PORT would override nothing, but it names the port in moto's own links.
        environ = {k: v for k, v in os.environ.items() if k != "MOTO_PORT"}
        self._child.start(command, environ)
        await self._child.ready(told, _START_SECONDS)

    async def _start_minio(self, program: str) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        environ = {
            **os.environ,
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",  # it asks nobody about newer versions
        }
        wanted = self._port
        deadline = time.monotonic() + _START_SECONDS
        for attempt in range(_TRIES):
            port = wanted or free_port()
            # A folder of its own for certificates: one of the user's would turn on TLS.
            certificates = str(self._folder / "certs")
            command = [program, "server", "--quiet", "--certs-dir", certificates]
            command += ["--address", f"127.0.0.1:{port}", str(self._data)]
            self._child.start(command, environ)
            try:
                left = max(deadline - time.monotonic(), 1)
                await self._child.ready(partial(_answers, f"127.0.0.1:{port}"), left)
            except NotStarted as exc:
                if "port is already in use" in str(exc) and attempt < _TRIES - 1:
                    continue
                raise
            self._port = port
            return

    async def stop(self) -> None:
        """Ends it in order; its data stays as long as this object is not left."""
        await self._child.stop(_STOP_SECONDS)

    async def kill(self) -> None:
        """SIGKILL."""
        await self._child.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        self._child.freeze()

    def thaw(self) -> None:
        self._child.thaw()

    async def restart(self) -> None:
        """Starts it again on the same port and data, whether it was stopped, killed or runs."""
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
