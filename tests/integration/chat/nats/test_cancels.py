"""A cancel reaches whoever may hold the turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from local.nats_server import NatsServer
from services.chat.nats.cancels import NatsCancels
from shared.contract import CancelRequest
from shared.nats.connection import Connection, settle
from tests.integration.harness import connected, soon

if TYPE_CHECKING:
    from nats.aio.msg import Msg

pytestmark = pytest.mark.timeout(120)


async def test_every_replica_hears_a_cancel(server: NatsServer, connection: Connection) -> None:
    heard: list[bytes] = []

    async def hear(msg: Msg) -> None:
        heard.append(msg.data)

    async with connected(server.url) as one, connected(server.url) as two:
        for replica in (one, two):
            await replica.client.subscribe("chat.cancel", cb=hear)
            await settle(replica.client)
        request = CancelRequest("c", "t0", 250)
        await NatsCancels(connection).send(request)
        await soon(lambda: len(heard) == 2)
    assert {msgspec.json.decode(data, type=CancelRequest) for data in heard} == {request}
