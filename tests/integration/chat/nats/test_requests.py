"""A request is put into the stream once, and a full stream says so."""

from __future__ import annotations

import pytest
from nats.js.api import DiscardPolicy

from services.chat.nats.requests import NatsRequests
from services.chat.request import understand, warnings_of
from shared.contract import ChatRequest
from shared.errors import StorageUnavailable
from shared.nats.connection import Connection
from tests.fakes import Queued
from tests.integration.harness import held

pytestmark = pytest.mark.timeout(120)

HELLO = ChatRequest("c", "t", content="Hello")


async def test_a_request_is_in_the_stream_once_unless_it_is_put_anew(
    connection: Connection,
) -> None:
    requests = NatsRequests(connection, {})

    assert await requests.put(HELLO, [])
    assert not await requests.put(HELLO, [])
    assert len(await held(connection, "CHAT_REQUESTS")) == 1
    assert await requests.put(HELLO, [], anew=True)
    assert len(await held(connection, "CHAT_REQUESTS")) == 2


async def test_whoever_takes_it_reads_what_was_put(connection: Connection) -> None:
    await NatsRequests(connection, {"traceparent": "x"}).put(HELLO, ["ü is not known"])
    (message,) = await held(connection, "CHAT_REQUESTS")
    taken = Queued(message.data, message.subject, message.headers)

    assert understand(taken, max_bytes=1_000) == HELLO
    assert warnings_of(taken) == ["ü is not known"]
    assert message.headers["traceparent"] == "x"


async def test_a_full_stream_is_said_to_be_full(connection: Connection) -> None:
    config = (await connection.jetstream.stream_info("CHAT_REQUESTS")).config
    config.max_bytes, config.discard = 500, DiscardPolicy.NEW
    await connection.jetstream.update_stream(config)
    requests = NatsRequests(connection, {})
    await requests.put(ChatRequest("c", "t1", content="x" * 300), [])
    with pytest.raises(StorageUnavailable, match="full"):
        await requests.put(ChatRequest("c", "t2", content="x" * 300), [])
