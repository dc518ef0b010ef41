"""Nothing that anybody may send leaves a connection deaf."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.nats.connection import Connection, settle
from tests.integration.harness import soon
from tests.raw_nats import raw_client

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from local.nats_server import NatsServer

pytestmark = pytest.mark.timeout(120)


async def heard(
    server: NatsServer, connection: Connection, subject: bytes, block: bytes = b"", reply: str = ""
) -> Msg:
    """What comes of a message; another one comes after it, over the same connection."""
    came: list[Msg] = []

    async def take(msg: Msg) -> None:
        came.append(msg)

    await connection.client.subscribe("hostile.*", cb=take)
    await settle(connection.client)
    async with raw_client(server.url) as raw:
        await raw.publish(subject, b"body", headers=block, reply=reply)
        await raw.publish("hostile.after")
    await soon(lambda: len(came) == 2)
    assert connection.epoch == 0
    assert came[1].subject == "hostile.after"
    assert came[0].data == b"body"
    return came[0]


@pytest.mark.parametrize(
    "block",
    [
        b"X",
        b"NATS/1.0",
        b"NATS/1.0 \xff\r\n\r\n",
        b"NATS/1.0 200 \xff\r\n\r\n",
        b"NATS/1.0 \xc3(\r\nA: b\r\n\r\n",
    ],
)
async def test_a_header_block_that_is_none_comes_without_headers(
    server: NatsServer, connection: Connection, block: bytes
) -> None:
    assert (await heard(server, connection, b"hostile.a", block)).headers is None


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (b"hostile.\xff", "hostile.\ufffd"),
        (b"hostile.\xed\xa0\x80", "hostile.\ufffd\ufffd\ufffd"),
        (b"hostile.a\x0cb", "hostile.a\x0cb"),
        (b"hostile.a\x0c1", "hostile.a\x0c1"),
        (b"hostile.a\x0b1", "hostile.a\x0b1"),
        (b"hostile.\0", "hostile.\0"),
        ("hostile.\u2028\u0085".encode(), "hostile.\u2028\u0085"),
    ],
)
@pytest.mark.parametrize("block", [b"", b"NATS/1.0\r\nA: b\r\n\r\n"], ids=["bare", "with headers"])
async def test_a_subject_of_any_bytes_comes_to_its_own_subscription(
    server: NatsServer, connection: Connection, subject: bytes, name: str, block: bytes
) -> None:
    found = await heard(server, connection, subject, block)
    assert found.subject == name
    assert (found.headers or {}).get("A") == ("b" if block else None)


@pytest.mark.parametrize("reply", ["_INBOX.\udcff", "_INBOX.a\x0cb"])
async def test_a_reply_of_any_bytes_disturbs_nobody(
    server: NatsServer, connection: Connection, reply: str
) -> None:
    await heard(server, connection, b"hostile.a", reply=reply)
