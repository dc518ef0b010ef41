"""What the S3 servers of this machine have in common: an address, a login, how they are asked."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import urllib3
from minio import Minio
from minio.error import MinioException

from local.ports import is_free
from local.process import NotStarted, Process

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["minio", "seaweedfs"]

_LOOK_SECONDS = 0.5


class S3Server(Process):
    """A server with its own data; it keeps its port when it is started again.

    Without `data_dir` the data is temporary and goes with the server.
    """

    kind: ClassVar[Kind]
    access_key = "parley"
    secret_key = "parley-local"  # noqa: S105 - a harmless value for a server on 127.0.0.1
    region = "us-east-1"

    def __init__(
        self,
        data_dir: str | Path | None = None,
        *,
        port: int = 0,
        log: str | Path | None = None,
    ) -> None:
        super().__init__(self.kind, log=log)
        self._data = Path(data_dir) if data_dir is not None else self.folder / "data"
        self._port = port
        self._port_is_wanted = bool(port)
        self._claimed: socket.socket | None = None

    @property
    def endpoint(self) -> str:
        """Such as `127.0.0.1:9000`."""
        if not self._port:
            raise NotStarted(f"{self.name} has no address: start it first")
        return f"127.0.0.1:{self._port}"

    def _choose_port(self, pick: Callable[[], int]) -> None:
        """The port it had, or the one that is wanted, or one that is picked.

        Raises: NotStarted, where somebody has the wanted one: a store of another stack would
        answer there in our store's place.
        """
        if self._was_ready:
            return
        if not self._port_is_wanted:
            self._port = pick()
        elif not is_free(self._port):
            raise NotStarted(f"{self.name}: port {self._port} is already in use")
        self._claim()

    def _claim(self) -> None:
        """These servers listen also where another of them does, and each of two that start at the
        same time would be asked for what the other one has: a name belongs to one of them.

        Raises: NotStarted, where another has it.
        """
        self._give_up_claim()
        if sys.platform != "linux":
            return
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0parley-s3-{self._port}")
        except OSError as exc:
            claim.close()
            raise NotStarted(f"{self.name}: {self.endpoint}: address already in use") from exc
        self._claimed, self.held = claim, (*self.held, claim.fileno())

    def _give_up_claim(self) -> None:
        if self._claimed is not None:
            self.held = tuple(file for file in self.held if file != self._claimed.fileno())
            self._claimed.close()
            self._claimed = None

    async def close(self) -> None:
        await super().close()
        self._give_up_claim()

    async def _is_ready(self) -> bool:
        """Whether it does what the services will ask for.

        The servers' own health pages say yes while their logins are still being loaded.
        """
        return await asyncio.to_thread(self._answers)

    def _answers(self) -> bool:
        pool = urllib3.PoolManager(timeout=_LOOK_SECONDS, retries=False)
        store = Minio(
            self.endpoint,
            self.access_key,
            self.secret_key,
            secure=False,
            region=self.region,
            http_client=pool,
        )
        try:
            store.list_buckets()
        except (MinioException, urllib3.exceptions.HTTPError):
            return False
        finally:
            pool.clear()
        return True

    def _may_move(self, taken: str) -> bool:
        """A port that somebody asked for is not left for another."""
        return self._was_ready or not self._port_is_wanted or str(self._port) not in taken
