"""Backs up all that Parley keeps: every stream with its consumers, every object of the bucket.

    python -m deploy.operate.backup FOLDER

FOLDER is made, or empty; it holds what people said: keep it as you keep the system itself. First
scale chat and tts to 0: what is in hand is finished or handed back, what is asked meanwhile waits
in its stream. While they work it is refused: the streams are read one after the other, and a turn
that ends in between would be half of it before, half of it after. Settings: those of the services
(NATS_*, MINIO_*), with the operator's login.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from deploy.operate import streams
from deploy.operate.command import Refused, connected, main
from deploy.operate.manifest import Manifest
from deploy.operate.objects import Store
from shared.process.settings import Env


async def backup(folder: Path, env: Env) -> None:
    """Raises Refused, and what the server and the store raise."""
    store = Store.from_env(env)
    _take(folder)
    began = _now()
    async with connected(env) as connection:
        if pulled := await streams.at_work(connection):
            raise Refused(
                f"somebody takes work from {', '.join(pulled)}: scale chat and tts to 0 first"
            )
        saved = []
        for name in await streams.names(connection):
            since = time.monotonic()
            saved.append(found := await streams.snapshot(connection, name, folder))
            _say(f"{name}: {found.messages} messages", found.bytes, since)
        if pulled := await streams.at_work(connection, seconds=0):
            raise Refused(f"{', '.join(pulled)}: somebody began to work meanwhile; do it again")
        server = connection.client.connected_server_version
    since = time.monotonic()
    objects = await asyncio.to_thread(store.save, folder)
    size = sum(each.bytes for each in objects)
    _say(f"bucket {store.bucket}: {len(objects)} objects", size, since)
    manifest = Manifest(began, _now(), str(server), store.bucket, saved, objects)
    manifest.save(folder)
    size += sum(each.bytes for each in saved)
    print(f"{folder}: {len(saved)} streams, {len(objects)} objects, {size} bytes")


def _take(folder: Path) -> None:
    """For its owner only. Raises Refused, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Refused(f"{folder} is not empty: give a folder of its own to each backup")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say(what: str, size: int, since: float) -> None:
    print(f"{what}, {size} bytes, {time.monotonic() - since:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main("backup", __doc__, backup, sys.argv[1:]))
