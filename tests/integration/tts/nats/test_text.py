"""The text of a turn, as the speech worker follows it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.tts.nats.text import NatsText
from shared.contract import (
    Code,
    Delta,
    Done,
    Error,
    Failed,
    FinishReason,
    Started,
    Text,
    Usage,
    encode,
)
from shared.errors import DeadlineExceeded
from shared.nats.connection import Connection
from shared.nats.publish import publish

pytestmark = pytest.mark.timeout(120)

STARTED = Started(
    "c", "t", 1, 0, model="m", metadata={}, speech=True, created_at="2026-01-01T00:00:00Z"
)
TEXT = Text("c", "t", 1, 1, text="Hello.")
DONE = Done(
    "c",
    "t",
    1,
    2,
    finish_reason=FinishReason.CANCELLED,
    text="Hello.",
    usage=Usage(1, 1),
    first_token_ms=1,
    duration_ms=1,
    metadata={},
)
FAILED = Failed("c", "t", 1, 2, error=Error(Code.INTERNAL, "why", retryable=False))


async def told(connection: Connection, *events: Delta) -> None:
    for event in events:
        await publish(connection, "chat.delta.c", encode(event))


def text(
    connection: Connection, turn_id: str = "t", *, start: int = 1, seconds: float = 5.0
) -> NatsText:
    return NatsText(connection, "c", turn_id, start, idle_seconds=seconds, end_seconds=seconds)


@pytest.mark.parametrize("end", [DONE, FAILED])
async def test_a_text_comes_in_order_to_its_end(connection: Connection, end: Delta) -> None:
    await told(connection, STARTED, TEXT, end)
    assert [event async for event in text(connection).events()] == [STARTED, TEXT, end]


async def test_what_lies_before_its_start_is_not_read(connection: Connection) -> None:
    await told(connection, STARTED, TEXT, DONE)
    await told(
        connection, again := replace(STARTED, attempt=2), ended := replace(DONE, attempt=2, seq=1)
    )
    assert [event async for event in text(connection, start=4).events()] == [again, ended]


async def test_a_text_that_says_nothing_is_not_waited_for_for_ever(connection: Connection) -> None:
    await told(connection, STARTED, TEXT)
    events = text(connection, seconds=0.3).events()
    assert [await anext(events), await anext(events)] == [STARTED, TEXT]
    with pytest.raises(DeadlineExceeded):
        await anext(events)


async def test_all_of_a_text_is_found_when_it_has_ended(connection: Connection) -> None:
    await told(connection, STARTED, TEXT, DONE)
    assert await text(connection).whole() == "Hello."


async def test_of_a_text_that_failed_nobody_knows_all(connection: Connection) -> None:
    await told(connection, STARTED, TEXT, FAILED)
    assert await text(connection).whole() is None


async def test_a_text_that_does_not_end_soon_is_not_known(connection: Connection) -> None:
    await told(connection, STARTED, TEXT)
    assert await text(connection, seconds=0.2).whole() is None
    assert await text(connection, "unknown", seconds=0.2).whole() is None
