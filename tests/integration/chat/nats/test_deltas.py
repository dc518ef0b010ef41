"""The events of one turn's text as they stand in the stream, also when the server lags behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from local.nats_server import NatsServer
from services.chat.nats.deltas import KEEPS_UP, NatsDeltas
from services.chat.ports import Told
from services.chat.turn import Turn
from shared.contract import (
    Done,
    FinishReason,
    Reasoning,
    Speech,
    SpeechRequest,
    Started,
    Text,
    Usage,
)
from shared.errors import Superseded
from shared.nats.connection import Connection
from shared.nats.follow import decode_delta
from shared.process.clock import SystemClock
from shared.retry import wait_until
from tests.integration.harness import Lease, Wire, connected, held, provisioned, soon

if TYPE_CHECKING:
    from shared.contract import Delta

pytestmark = pytest.mark.timeout(120)

LONG_AGO = "2020-01-01T00:00:00+00:00"
WORDS = [f"word{n} " for n in range(200)]


def deltas_of(connection: Connection, lease: Lease | None = None, turn_id: str = "t") -> NatsDeltas:
    return NatsDeltas(connection, "c", turn_id, lease or Lease(), {"traceparent": "x"})


def started(turn: Turn) -> Started:
    return turn.started(model="m", metadata={}, speech=False, created_at="now")


def done(turn: Turn) -> Done:
    return turn.done(
        finish_reason=FinishReason.STOP,
        usage=Usage(1, 2),
        first_token_ms=1,
        duration_ms=2,
        metadata={},
    )


async def stored(connection: Connection) -> list[Delta]:
    events = [decode_delta(m.data) for m in await held(connection, "CHAT_DELTAS")]
    assert None not in events
    return [event for event in events if event is not None]


async def say(deltas: NatsDeltas, turn: Turn, *words: str) -> None:
    for word in words:
        turn.say(word)
        await deltas.text(turn)


def is_whole(events: list[Delta]) -> bool:
    """No gap and no repeat, and the texts joined are what the end says."""
    end = events[-1]
    assert [event.seq for event in events] == list(range(len(events)))
    assert isinstance(end, Done)
    return "".join(e.text for e in events if isinstance(e, Text)) == end.text == "".join(WORDS)


async def test_a_turn_stands_in_the_stream_as_it_was_said(connection: Connection) -> None:
    turn, deltas = Turn("c", "t"), deltas_of(connection)
    assert await deltas.started(started(turn)) == 1
    turn.think("Hm.")
    await deltas.text(turn)
    for word in WORDS:
        await say(deltas, turn, word)
        await asyncio.sleep(0)
    await deltas.drained(turn)
    await deltas.end(done(turn))
    events = await stored(connection)
    assert isinstance(events[0], Started)
    assert events[1] == Reasoning("c", "t", 1, 1, text="Hm.")
    assert is_whole(events)
    for message in await held(connection, "CHAT_DELTAS"):
        assert message.subject == "chat.delta.c"
        assert message.headers["Parley-Conversation"] == "c"
        assert message.headers["Parley-Turn"] == "t"
        assert message.headers["traceparent"] == "x"


async def test_while_the_server_keeps_up_each_word_is_sent_at_once(connection: Connection) -> None:
    turn, deltas = Turn("c", "t"), deltas_of(connection)
    await deltas.started(started(turn))
    for word in WORDS[:20]:
        await say(deltas, turn, word)
        await deltas._window.drained()
    texts = [e.text for e in await stored(connection) if isinstance(e, Text)]
    assert texts == WORDS[:20]


async def test_words_are_joined_while_the_server_lags(
    server: NatsServer, connection: Connection
) -> None:
    turn, deltas = Turn("c", "t"), deltas_of(connection)
    await deltas.started(started(turn))
    server.freeze()
    try:
        await say(deltas, turn, *WORDS[:150])
    finally:
        server.thaw()

    # What was held back follows by itself, without another word.
    async def all_there() -> bool:
        return "".join(e.text for e in await stored(connection) if isinstance(e, Text)) == turn.text

    assert await wait_until(all_there, 5, clock=SystemClock())
    await say(deltas, turn, *WORDS[150:])
    await deltas.drained(turn)
    await deltas.end(done(turn))
    events = await stored(connection)
    assert is_whole(events)
    assert WORDS[0] in [e.text for e in events if isinstance(e, Text)]
    assert len(events) < KEEPS_UP * 4 + 60


async def test_what_was_lost_is_sent_again_while_the_model_goes_on(
    server: NatsServer, connection: Connection
) -> None:
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.2) as far:
        turn, deltas = Turn("c", "t"), deltas_of(far)
        await deltas.started(started(turn))
        wire.loses = True
        await say(deltas, turn, *WORDS[: 2 * KEEPS_UP])
        await soon(lambda: wire.lost.count(b"HPUB") == KEEPS_UP)
        wire.loses = False

        async def is_heard() -> bool:
            await say(deltas, turn, "more ")
            return any(isinstance(event, Text) for event in await stored(connection))

        assert await wait_until(is_heard, 10, clock=SystemClock())
        deltas.close()


async def test_an_end_that_follows_at_once_loses_no_word(
    server: NatsServer, connection: Connection
) -> None:
    turn, deltas = Turn("c", "t"), deltas_of(connection)
    await deltas.started(started(turn))
    server.freeze()
    await say(deltas, turn, *WORDS)
    ending = asyncio.create_task(deltas.drained(turn))
    await asyncio.sleep(0)
    server.thaw()
    await asyncio.wait_for(ending, 5)
    await deltas.end(done(turn))
    assert is_whole(await stored(connection))


async def test_a_restart_of_the_server_costs_no_word() -> None:
    async with NatsServer(websocket=False) as server, connected(server.url) as connection:
        await provisioned(connection)
        turn, deltas = Turn("c", "t"), deltas_of(connection)
        await deltas.started(started(turn))
        await say(deltas, turn, *WORDS[:100])
        await server.kill()
        restarting = asyncio.create_task(server.restart())
        await say(deltas, turn, *WORDS[100:])
        await deltas.drained(turn)
        await restarting
        await deltas.end(done(turn))
        events = sorted(await stored(connection), key=lambda event: event.seq)
        assert is_whole(events)


async def test_the_voice_is_asked_for_once(connection: Connection) -> None:
    request = SpeechRequest("c", "t", start_sequence=7)
    for _ in range(2):
        deltas = deltas_of(connection)
        await deltas.voice(request)
        await deltas._voices.drained()
    (message,) = await held(connection, "TTS_REQUESTS")
    assert message.subject == "tts.request.c"
    assert msgspec.json.decode(message.data, type=SpeechRequest) == request


async def test_the_end_is_told_once_and_found_again(connection: Connection) -> None:
    turn = Turn("c", "t")
    deltas = deltas_of(connection)
    since = await deltas.started(started(turn))
    assert not await deltas.ended("t", since)
    end = done(turn)
    for _ in range(2):  # the second by a worker that found it committed
        await deltas_of(connection).end(end)
    assert len(await stored(connection)) == 2
    assert await deltas.ended("t", since)
    assert not await deltas.ended("t", since + 2)
    assert not await deltas.ended("u", since)


async def test_what_listeners_know_of_a_turn_is_found_from_a_time_on(
    connection: Connection,
) -> None:
    deltas = deltas_of(connection)
    assert await deltas.told("t", LONG_AGO) == Told(0, ended=False)
    await deltas.started(started(Turn("c", "t")))
    await deltas.started(started(turn := Turn("c", "t", 2)))
    await deltas_of(connection, turn_id="u").started(started(Turn("c", "u", 7)))
    assert await deltas.told("t", LONG_AGO) == Told(2, ended=False)
    await deltas.end(done(turn))
    assert await deltas.told("t", LONG_AGO) == Told(2, ended=True)
    assert await deltas.told("t", "2200-01-01T00:00:00+00:00") == Told(0, ended=False)


async def test_who_has_been_replaced_says_nothing_more(connection: Connection) -> None:
    lease = Lease()
    turn, deltas = Turn("c", "t"), deltas_of(connection, lease)
    await deltas.started(started(turn))
    await say(deltas, turn, "one")
    await deltas.drained(turn)
    before = await stored(connection)
    lease.fresh, lease.superseded = False, True
    with pytest.raises(Superseded):
        await say(deltas, turn, "two")
    with pytest.raises(Superseded):
        await deltas.end(done(turn))
    with pytest.raises(Superseded):
        await deltas_of(connection, lease, "u").started(started(Turn("c", "u")))
    assert await stored(connection) == before


async def test_a_closed_turn_says_nothing_more(server: NatsServer, connection: Connection) -> None:
    turn, deltas = Turn("c", "t"), deltas_of(connection)
    await deltas.started(started(turn))
    server.freeze()
    try:
        await say(deltas, turn, *WORDS)
        deltas.close()
    finally:
        server.thaw()
    await connection.client.flush()
    assert len(await stored(connection)) <= 1 + KEEPS_UP


async def test_what_was_said_is_that_of_the_last_attempt(connection: Connection) -> None:
    for attempt, words in ((1, ["one ", "two "]), (2, ["three ", "four "])):
        turn, deltas = Turn("c", "t", attempt), deltas_of(connection)
        await deltas.started(started(turn))
        await say(deltas, turn, *words)
        await deltas.drained(turn)
    assert await deltas_of(connection).said("t", 1) == "three four "
    assert await deltas_of(connection).said("u", 1) == ""


async def test_a_voice_that_finds_no_room_fails_alone(connection: Connection) -> None:
    turn, deltas = Turn("c", "t"), deltas_of(connection)
    config = (await connection.api("STREAM.INFO.TTS_REQUESTS"))["config"]
    await connection.api("STREAM.UPDATE.TTS_REQUESTS", {**config, "max_bytes": 1})
    await deltas.started(started(turn))
    await deltas.voice(SpeechRequest("c", "t", Speech(), start_sequence=1))
    await say(deltas, turn, *WORDS)
    await deltas.drained(turn)
    await deltas.end(done(turn))
    assert is_whole(await stored(connection))
    (failed,) = await held(connection, "TTS_AUDIO")
    assert failed.headers["Parley-Type"] == "failed"
    assert msgspec.json.decode(failed.data)["error"]["code"] == "busy"
