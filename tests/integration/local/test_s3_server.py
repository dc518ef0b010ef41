"""SeaweedFS and MinIO as the offline stack starts them, through minio-py as the services use it."""

from __future__ import annotations

import asyncio
import io
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import urllib3
from minio import Minio
from minio.error import S3Error

from local.minio_server import minio_binary
from local.object_store import kinds, object_store, preferred_kind
from local.ports import GRPC_OFFSET, free_ports, is_free
from local.process import NotStarted, wants_another_port
from local.seaweedfs import SeaweedFS

if TYPE_CHECKING:
    from local.s3_server import Kind, S3Server

BUCKET = "some-bucket"
LARGE = bytes(range(256)) * 48_000  # 12 MB: in several parts
each_kind = pytest.mark.parametrize("kind", kinds())


def client(server: S3Server, seconds: float = 10, secret: str | None = None) -> Minio:
    pool = urllib3.PoolManager(timeout=seconds, retries=False)
    return Minio(
        server.endpoint,
        server.access_key,
        secret or server.secret_key,
        secure=False,
        region=server.region,
        http_client=pool,
    )


async def put(server: S3Server, key: str, body: bytes) -> None:
    def work() -> None:
        store = client(server)
        if not store.bucket_exists(BUCKET):
            store.make_bucket(BUCKET)
        store.put_object(BUCKET, key, io.BytesIO(body), len(body))

    await asyncio.to_thread(work)


async def get(server: S3Server, key: str, seconds: float = 10) -> bytes:
    def work() -> bytes:
        with client(server, seconds).get_object(BUCKET, key) as answer:
            return bytes(answer.read())

    return await asyncio.to_thread(work)


@each_kind
async def test_it_freezes_and_comes_back_on_its_port(kind: Kind) -> None:
    async with object_store(kind) as server:
        endpoint = server.endpoint
        await put(server, "a/b.wav", b"sound")
        server.freeze()
        with pytest.raises(urllib3.exceptions.HTTPError):
            await get(server, "a/b.wav", 0.2)
        server.thaw()
        assert await get(server, "a/b.wav") == b"sound"
        await server.restart()
        assert server.endpoint == endpoint
        assert await get(server, "a/b.wav") == b"sound"


@each_kind
async def test_what_it_took_in_survives_its_being_killed_in_mid_write(kind: Kind) -> None:
    async with object_store(kind) as server:
        await put(server, "large", LARGE)
        for number in range(3):
            await put(server, f"small-{number}", b"sound %d" % number)
            writing = asyncio.ensure_future(put(server, "never-whole", LARGE))
            await server.kill()
            await asyncio.gather(writing, return_exceptions=True)
            await server.restart()
            # Ready means readable: nobody has to try again.
            assert await get(server, f"small-{number}") == b"sound %d" % number
        assert await get(server, "large") == LARGE
        found = [o.object_name for o in client(server).list_objects(BUCKET)]
        assert {f"small-{n}" for n in range(3)} | {"large"} <= set(found)


@each_kind
async def test_data_in_a_given_folder_outlives_it(kind: Kind, tmp_path: Path) -> None:
    async with object_store(kind, tmp_path) as server:
        await put(server, "key", b"kept")
    assert preferred_kind(tmp_path) == kind
    async with object_store(kind, tmp_path) as server:
        assert await get(server, "key") == b"kept"


@each_kind
async def test_a_wrong_key_is_refused(kind: Kind) -> None:
    async with object_store(kind) as server:
        with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
            await asyncio.to_thread(client(server, secret="guessed").list_buckets)


@each_kind
async def test_a_port_that_was_asked_for_is_had_or_refused(kind: Kind) -> None:
    (port,) = free_ports(1)
    async with object_store(kind, port=port) as server:
        assert server.endpoint == f"127.0.0.1:{port}"
        with pytest.raises(NotStarted, match="already in use"):
            async with object_store(kind, port=port):
                pass


@each_kind
async def test_of_two_that_start_at_once_one_has_the_port(kind: Kind) -> None:
    (port,) = free_ports(1)
    one, two = object_store(kind, port=port), object_store(kind, port=port)
    try:
        started = await asyncio.gather(one.start(), two.start(), return_exceptions=True)
        refused = [error for error in started if error is not None]
        assert [type(error) for error in refused] == [NotStarted]
        assert isinstance(refused[0], NotStarted)
        assert wants_another_port(refused[0])
    finally:
        await asyncio.gather(one.close(), two.close())


async def test_seaweedfs_takes_other_ports_where_one_is_taken() -> None:
    (taken,) = free_ports(1)
    unlucky = [free_ports(5) for _ in range(5)]
    for place, ports in enumerate(unlucky):
        ports[place] = taken  # each of its parts meets it once
    with socket.create_server(("127.0.0.1", taken)):
        picks = iter(unlucky)
        server = SeaweedFS(pick=lambda count: next(picks, None) or free_ports(count))
        async with server:
            await put(server, "key", b"sound")
        assert next(picks, None) is None


async def test_seaweedfs_listens_on_this_machine_only_and_where_we_say() -> None:
    async with SeaweedFS() as server:
        said = {port + more for port in server.ports.values() for more in (0, GRPC_OFFSET)}
        found = listening(server.pid)
        assert ("127.0.0.1", server.ports["s3"]) in found
        assert found <= {("127.0.0.1", port) for port in said}  # some of it comes up later
    assert all(is_free(port) for port in said)


def listening(pid: int) -> set[tuple[str, int]]:
    """The address and port of each TCP socket on which a process waits for others."""
    own = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_rest, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in own:
                address, port = local.split(":")
                name = socket.inet_ntoa(bytes.fromhex(address)[::-1]) if table == "tcp" else address
                found.add((name, int(port, 16)))
    return found


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
    assert minio_binary({**environ, "MINIO_BIN": ""}) is None
