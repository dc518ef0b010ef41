"""The sender of a bad request hears the stream's ack, then why it is refused."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import msgspec
import pytest
from nats.aio.msg import Msg

from shared.contract import Code, Refusal, everywhere
from shared.errors import Failure, InvalidRequest
from shared.nats.connection import Connection, settle
from shared.nats.dead_letters import dead_letter
from shared.nats.refusals import Refusals
from tests.integration.harness import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local.nats_server import NatsServer
    from shared.nats.wire import Incoming

pytestmark = pytest.mark.timeout(120)


def check(msg: Incoming) -> Failure | None:
    return InvalidRequest("no good") if b"bad" in msg.data else None


@asynccontextmanager
async def refusing(connection: Connection, wait_seconds: float = 20) -> AsyncIterator[Refusals]:
    refusals = Refusals(
        connection,
        subjects=everywhere("chat.request"),
        queue="chat",
        dead="chat.dead",
        check=check,
        wait_seconds=wait_seconds,
    )
    await refusals.start()
    await settle(connection.client)
    try:
        yield refusals
    finally:
        await refusals.stop()


class Sender:
    """A program of somebody else's, with inboxes of its own."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server

    async def __aenter__(self) -> Self:
        self._connected = connected(self._server.url)
        self._connection = await self._connected.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connected.__aexit__(None, None, None)

    async def publish(self, subject: str, body: bytes, inbox: str = "_INBOX.sender.1") -> Replies:
        client, replies = self._connection.client, Replies()
        await client.subscribe(inbox, cb=replies.put)
        await settle(client)
        await client.publish(subject, body, reply=inbox)
        return replies


class Replies(asyncio.Queue[Msg]):
    async def ack(self) -> int:
        """The next answer, which is the stream's."""
        async with asyncio.timeout(30):
            return int(msgspec.json.decode((await self.get()).data)["seq"])

    async def both(self) -> None:
        """The stream's answer and the refusal, in any order: nothing says which is first."""
        async with asyncio.timeout(30):
            answers = [(await self.get()).data for _ in range(2)]
        assert sum(b"invalid_request" in data for data in answers) == 1

    async def refusal(self) -> Refusal:
        async with asyncio.timeout(30):
            return msgspec.json.decode((await self.get()).data, type=Refusal)


async def bury(connection: Connection, subject: str, body: bytes) -> None:
    error = InvalidRequest("no good")
    await dead_letter(connection, "chat.dead", subject=subject, data=body, headers={}, error=error)


@pytest.mark.parametrize("subject", ["chat.request", "chat.request.c"])
async def test_a_bad_request_is_refused_in_its_inbox_once_it_is_a_dead_letter(
    server: NatsServer, connection: Connection, subject: str
) -> None:
    async with refusing(connection), Sender(server) as sender:
        replies = await sender.publish(subject, b"bad")
        assert await replies.ack() == 1
        assert replies.empty()
        await bury(connection, subject, b"bad")
        assert (await replies.refusal()).error.code is Code.INVALID_REQUEST


async def test_each_of_two_alike_is_answered_with_its_own_dead_letter(
    server: NatsServer, connection: Connection
) -> None:
    async with refusing(connection), Sender(server) as sender:
        first = await sender.publish("chat.request", b"bad", "_INBOX.sender.1")
        second = await sender.publish("chat.request", b"bad", "_INBOX.sender.2")
        assert (await first.ack(), await second.ack()) == (1, 2)
        await bury(connection, "chat.request", b"bad")
        await first.refusal()
        assert second.empty()
        await bury(connection, "chat.request", b"bad")
        await second.refusal()


async def test_a_bad_request_that_the_stream_had_before_is_refused_after_a_while(
    server: NatsServer, connection: Connection
) -> None:
    async with refusing(connection, wait_seconds=0.05), Sender(server) as sender:
        replies = await sender.publish("chat.request", b"bad")
        await replies.both()


async def test_a_body_that_is_kept_in_part_is_known_again(
    server: NatsServer, connection: Connection
) -> None:
    body = b"bad".ljust(connection.client.max_payload - 100)
    async with refusing(connection), Sender(server) as sender:
        replies = await sender.publish("chat.request", body)
        await replies.ack()
        await bury(connection, "chat.request", body)
        await replies.refusal()


@pytest.mark.parametrize(
    ("body", "inbox"),
    [
        (b"good", "_INBOX.sender.1"),
        (b"bad", "elsewhere"),
        (b"bad", "chat.delta.c"),
        (b"bad", "_INBOX.parley-chat.1"),
    ],
)
async def test_nobody_else_is_answered(
    server: NatsServer, connection: Connection, body: bytes, inbox: str
) -> None:
    async with refusing(connection, wait_seconds=0), Sender(server) as sender:
        replies = await sender.publish("chat.request", body, inbox)
        last = await sender.publish("chat.request", b"bad", "_INBOX.sender.last")
        await last.both()
        refusals = [replies.get_nowait().data for _ in range(replies.qsize())]
        assert not [data for data in refusals if b"invalid_request" in data]
