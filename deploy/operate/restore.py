"""Puts a backup into an empty system: streams, consumers, objects.

    python -m deploy.operate.restore FOLDER

First NATS and the bucket are there and hold nothing, and chat and tts are at 0. Streams that were
made and never used (by the Job `provision`) are removed; one that holds anything is refused, as is
a backup of which a file is not as it was made. Afterwards `python -m shared.provision` must say
that everything is as it should be; then scale up. Settings: those of the services (NATS_*,
MINIO_*), with the operator's login.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.operate import streams
from deploy.operate.command import Refused, connected, main
from deploy.operate.manifest import Manifest, inside
from deploy.operate.objects import Store

if TYPE_CHECKING:
    from shared.nats.connection import Connection
    from shared.process.settings import Env


async def restore(folder: Path, env: Env) -> None:
    """Raises Refused, BadBackup, and what the server and the store raise."""
    store = Store.from_env(env)
    manifest = await asyncio.to_thread(Manifest.load, folder)
    async with connected(env) as connection:
        unused = await _unused(connection)
        if not await asyncio.to_thread(store.is_empty):
            raise Refused(f"bucket {store.bucket} holds objects: it has to be empty")
        for name in unused:
            await connection.api(f"STREAM.DELETE.{name}")
        # Objects first: a stream that tells of a voice must not be there without it.
        since = time.monotonic()
        await asyncio.to_thread(store.load, manifest.objects, folder)
        _say(f"bucket {store.bucket}: {len(manifest.objects)} objects", since)
        for stream in manifest.streams:
            since = time.monotonic()
            await streams.restore(connection, stream, inside(folder, stream.path))
            _say(f"{stream.name}: {stream.messages} messages", since)
    print("restored; `python -m shared.provision` says whether all is as the services need it")


async def _unused(connection: Connection) -> list[str]:
    """The streams that are there, if none was ever used. Raises Refused, NatsError."""
    if pulled := await streams.at_work(connection):
        raise Refused(
            f"somebody takes work from {', '.join(pulled)}: scale chat and tts to 0 first"
        )
    found = await streams.names(connection)
    for name in found:
        state = (await connection.api(f"STREAM.INFO.{name}"))["state"]
        if state["last_seq"]:
            raise Refused(
                f"stream {name} has been used ({state['messages']} messages): "
                "a backup is restored into an empty system only"
            )
    return found


def _say(what: str, since: float) -> None:
    print(f"{what}, {time.monotonic() - since:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main("restore", __doc__, restore, sys.argv[1:]))
