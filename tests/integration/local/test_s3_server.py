"""MinIO and moto as the offline stack starts them, through minio-py as the services use it."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest
import urllib3
from minio import Minio

from local.child import NotStarted
from local.s3_server import S3Server, minio_binary

if TYPE_CHECKING:
    from pathlib import Path

    from local.s3_server import Kind

BUCKET = "some-bucket"
# Where there is no MinIO binary, moto alone is what `local` offers, and what is tested.
KINDS: list[Kind] = ["minio", "moto"] if minio_binary() else ["moto"]


def client(server: S3Server, seconds: float = 10) -> Minio:
    pool = urllib3.PoolManager(timeout=seconds, retries=False)
    return Minio(
        server.endpoint,
        server.access_key,
        server.secret_key,
        secure=False,
        region="us-east-1",
        http_client=pool,
    )


def put(store: Minio, key: str, body: bytes) -> None:
    if not store.bucket_exists(BUCKET):
        store.make_bucket(BUCKET)
    store.put_object(BUCKET, key, io.BytesIO(body), len(body))


def get(store: Minio, key: str) -> bytes:
    answer = store.get_object(BUCKET, key)
    try:
        return bytes(answer.read())
    finally:
        answer.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_it_keeps_objects_freezes_and_comes_back_on_its_port(kind: Kind) -> None:
    async with S3Server(kind=kind) as server:
        endpoint = server.endpoint
        store = client(server)
        await asyncio.to_thread(put, store, "a/b.wav", b"sound")
        assert await asyncio.to_thread(get, store, "a/b.wav") == b"sound"
        server.freeze()
        with pytest.raises(urllib3.exceptions.HTTPError):
            await asyncio.to_thread(get, client(server, 0.2), "a/b.wav")
        server.thaw()
        assert await asyncio.to_thread(get, store, "a/b.wav") == b"sound"
        await server.kill()
        await server.restart()
        assert server.endpoint == endpoint
        kept = await asyncio.to_thread(client(server).bucket_exists, BUCKET)
        assert kept == (kind == "minio")  # moto forgets


async def test_data_in_a_given_folder_outlives_it(tmp_path: Path) -> None:
    if "minio" not in KINDS:
        with pytest.raises(NotStarted, match="MINIO_BIN"):
            S3Server(kind="minio")
        return
    async with S3Server(tmp_path, kind="minio") as server:
        await asyncio.to_thread(put, client(server), "key", b"kept")
    async with S3Server(tmp_path, kind="minio") as server:
        assert await asyncio.to_thread(get, client(server), "key") == b"kept"


def test_a_binary_that_cannot_be_executed_is_named() -> None:
    with pytest.raises(NotStarted, match="/nowhere/minio"):
        minio_binary({"MINIO_BIN": "/nowhere/minio"})


def test_the_cache_folder_is_the_last_place_looked_at(tmp_path: Path) -> None:
    binary = tmp_path / "parley" / "bin" / "minio"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    environ = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    assert minio_binary(environ) is None
    binary.chmod(0o755)
    assert minio_binary(environ) == str(binary)
