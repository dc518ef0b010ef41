"""Whether somebody asks for the voice of a turn, by what the work queue holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.tts.nats.requests import NatsRequests
from shared.contract import TTS_REQUESTS_STREAM, tts_request
from shared.nats.publish import publish
from shared.nats.read import purge

if TYPE_CHECKING:
    from shared.nats.connection import Connection

pytestmark = pytest.mark.timeout(120)


async def ask(connection: Connection, turn_id: str, conversation_id: str = "c") -> int:
    data = b'{"turn_id":"%s"}' % turn_id.encode()
    return (await publish(connection, tts_request(conversation_id), data)).seq


async def test_a_request_is_there_until_it_is_acked(connection: Connection) -> None:
    requests = NatsRequests(connection, "c", "t")
    assert not await requests.any()
    sequence = await ask(connection, "t")
    assert await requests.is_there(sequence)
    assert await requests.any()
    assert not await requests.is_there(sequence + 1)
    await purge(connection, TTS_REQUESTS_STREAM, tts_request("c"))
    assert not await requests.is_there(sequence)
    assert not await requests.any()


async def test_requests_of_others_do_not_count(connection: Connection) -> None:
    requests = NatsRequests(connection, "c", "t")
    others = [await ask(connection, "u"), await ask(connection, "t", "d")]
    assert [await requests.is_there(sequence) for sequence in others] == [False, False]
    assert not await requests.any()
