"""MinIO, where this machine has a binary of it (`make minio` builds one)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from local.ports import free_port
from local.process import NotStarted
from local.s3_server import S3Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def minio_binary(environ: Mapping[str, str] | None = None) -> str | None:
    """MINIO_BIN, else `minio` on PATH, else the one in the cache folder, else none.

    An empty MINIO_BIN says that none is wanted.

    Raises: NotStarted, when MINIO_BIN names something that cannot be executed.
    """
    env = os.environ if environ is None else environ
    if (named := env.get("MINIO_BIN")) is not None:
        if named and not os.access(named, os.X_OK):
            raise NotStarted(f"MINIO_BIN: {named} cannot be executed; leave it empty for SeaweedFS")
        return named or None
    if found := shutil.which("minio", path=env.get("PATH")):
        return found
    cache = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cached = Path(cache) / "parley" / "bin" / "minio"
    return str(cached) if os.access(cached, os.X_OK) else None


class MinioServer(S3Server):
    """Ready in 0.3 s. It cannot pick a port itself."""

    kind = "minio"

    def _command(self) -> Sequence[str]:
        program = minio_binary()
        if program is None:
            raise NotStarted("no MinIO binary: set MINIO_BIN, or put `minio` on PATH")
        self._data.mkdir(parents=True, exist_ok=True)
        self._choose_port(free_port)
        # A folder of its own for certificates: one of the user's would turn on TLS.
        certificates = str(self.folder / "certs")
        command = [program, "server", "--quiet", "--certs-dir", certificates]
        return [*command, "--address", self.endpoint, str(self._data)]

    def _environ(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",  # it asks nobody about newer versions
        }
