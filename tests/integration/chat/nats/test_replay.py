"""Who may not read a stream is sent what it holds of one conversation, part by part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.chat.nats.replay import NatsReplay
from shared.contract import H_NEXT, H_SEQUENCE, H_TURN, Replayed, ReplayRequest
from shared.nats.connection import Connection, settle
from shared.nats.publish import publish

if TYPE_CHECKING:
    from nats.aio.msg import Msg

pytestmark = pytest.mark.timeout(120)

DELTA = Replayed.DELTA


class Reader:
    def __init__(self, connection: Connection, **limits: int) -> None:
        self.connection, self.replay = connection, NatsReplay(connection, **limits)

    async def part(self, request: ReplayRequest) -> tuple[list[Msg], int]:
        """The events of one call, and where the next one goes on."""
        came: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self.connection.client.new_inbox()
        subscription = await self.connection.client.subscribe(inbox, cb=came.put)
        await settle(self.connection.client)
        await self.replay.send("c", request, inbox)
        events: list[Msg] = []
        async with asyncio.timeout(30):
            while H_NEXT not in ((msg := await came.get()).headers or {}):
                events.append(msg)
        await subscription.unsubscribe()
        assert msg.data == b""
        return events, int((msg.headers or {})[H_NEXT])

    async def all(self, turn_id: str | None = None) -> tuple[list[bytes], int]:
        """The events of as many calls as it takes, and how many those were."""
        found, start, calls = list[bytes](), 1, 0
        while True:
            events, start = await self.part(ReplayRequest(DELTA, start, turn_id))
            found += [event.data for event in events]
            calls += 1
            if not start:
                return found, calls


async def told(connection: Connection, turns: str, conversation: str = "c") -> list[bytes]:
    """An event of each turn in its order; their bodies."""
    bodies = [f"{number} {turn}".encode() for number, turn in enumerate(turns)]
    for body, turn in zip(bodies, turns, strict=True):
        await publish(connection, f"chat.delta.{conversation}", body, {H_TURN: turn})
    return bodies


async def test_each_event_comes_as_it_was_stored_with_its_place(connection: Connection) -> None:
    ack = await publish(
        connection, "tts.audio.c", b"\x00\x01", {H_TURN: "t", "Parley-Type": "chunk"}
    )
    await told(connection, "t")
    (event,), following = await Reader(connection).part(ReplayRequest(Replayed.AUDIO))

    assert event.data == b"\x00\x01"
    assert event.headers == {H_TURN: "t", "Parley-Type": "chunk", H_SEQUENCE: str(ack.seq)}
    assert following == 0


async def test_nothing_there_is_an_end_at_once(connection: Connection) -> None:
    assert await Reader(connection).part(ReplayRequest(DELTA)) == ([], 0)


async def test_no_other_conversation_is_told(connection: Connection) -> None:
    mine = await told(connection, "ab")
    await told(connection, "ab", "d")

    assert await Reader(connection).all() == (mine, 1)


async def test_it_begins_where_it_is_asked_to(connection: Connection) -> None:
    bodies = await told(connection, "abcd")
    events, _ = await Reader(connection).part(ReplayRequest(DELTA, 3))

    assert [event.data for event in events] == bodies[2:]


async def test_of_one_turn_only_its_events_come(connection: Connection) -> None:
    bodies = await told(connection, "abab")

    assert await Reader(connection).all("b") == ([bodies[1], bodies[3]], 1)


async def test_what_is_too_much_for_one_call_comes_with_the_next(connection: Connection) -> None:
    bodies = await told(connection, "abcdefghij")
    found, calls = await Reader(connection, max_bytes=150).all()

    assert found == bodies
    assert calls > 2


async def test_an_event_larger_than_a_call_comes_alone(connection: Connection) -> None:
    bodies = await told(connection, "abc")

    assert await Reader(connection, max_bytes=1).all() == (bodies, 3)


async def test_a_turn_that_is_not_there_is_not_looked_for_in_one_call(
    connection: Connection,
) -> None:
    await told(connection, "a" * 25)

    assert await Reader(connection, max_read=10).all("b") == ([], 3)
