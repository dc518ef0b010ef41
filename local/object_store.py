"""Which S3 server is started: MinIO where there is a binary of it, else SeaweedFS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.minio_server import MinioServer, minio_binary
from local.seaweedfs import SeaweedFS

if TYPE_CHECKING:
    from pathlib import Path

    from local.s3_server import Kind, S3Server


def kinds() -> list[Kind]:
    """Those that this machine can start, the preferred one first."""
    return ["minio", "seaweedfs"] if minio_binary() else ["seaweedfs"]


def preferred_kind(data: Path | None = None) -> Kind:
    """The one that has kept something below `data`, else the preferred one."""
    known = kinds()
    return next((k for k in known if data is not None and (data / k).exists()), known[0])


def object_store(
    kind: Kind, data: Path | None = None, *, port: int = 0, log: Path | None = None
) -> S3Server:
    """One that keeps its data in a folder of its kind below `data`; without it, temporary."""
    server = MinioServer if kind == "minio" else SeaweedFS
    return server(data / kind if data is not None else None, port=port, log=log)
