"""Three nats-servers as one, as the tests of faults start them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import nats
import nats.errors
import nats.js.errors

from local.nats_cluster import NatsCluster

if TYPE_CHECKING:
    from pathlib import Path

    from nats.js import JetStreamContext


async def made(stream: JetStreamContext) -> None:
    """A stream of three replicas, as soon as the servers have found each other."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
                await stream.add_stream(name="KEPT", subjects=["kept"], num_replicas=3)
                return
            await asyncio.sleep(0.1)


async def test_what_is_stored_outlives_any_one_server(tmp_path: Path) -> None:
    async with NatsCluster(tmp_path) as cluster:
        client = await nats.connect(
            cluster.url.split(","), max_reconnect_attempts=-1, reconnect_time_wait=0.1
        )
        stream = client.jetstream()
        await made(stream)
        for number, server in enumerate(cluster.servers):
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
                        await stream.publish("kept", b"", headers={"Nats-Msg-Id": str(number)})
                        break
                    await asyncio.sleep(0.1)
            await server.kill()
            await server.start()
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
                    assert (await stream.stream_info("KEPT")).state.messages == 3
                    break
                await asyncio.sleep(0.1)
        await client.close()
