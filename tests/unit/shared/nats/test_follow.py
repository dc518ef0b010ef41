"""Following a turn: live and from the stream, each event once, in order, without a gap."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.contract import Done, Failed, FinishReason, Started, Text, Usage, encode
from shared.contract import Error as WireError
from shared.errors import DeadlineExceeded, Internal
from shared.nats.follow import decode_delta, follow
from tests.fakes_nats import TextStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from shared.contract import Delta

pytestmark = pytest.mark.timeout(120)


def started(attempt: int = 1, turn: str = "t1") -> Started:
    return Started("c1", turn, attempt, 0, model="m", metadata={}, speech=False, created_at="")


def text(seq: int, attempt: int = 1, turn: str = "t1") -> Text:
    return Text("c1", turn, attempt, seq, text=f"{attempt}.{seq} ")


def done(seq: int, attempt: int = 1, turn: str = "t1") -> Done:
    return Done(
        "c1",
        turn,
        attempt,
        seq,
        finish_reason=FinishReason.STOP,
        text="",
        usage=Usage(1, 1),
        first_token_ms=None,
        duration_ms=0,
        metadata={},
    )


def failed(seq: int) -> Failed:
    return Failed("c1", "t1", 1, seq, error=WireError(Internal.code, "x", retryable=False))


WHOLE: list[Delta] = [started(), text(1), text(2), text(3), done(4)]


@pytest.fixture
def stream() -> TextStream:
    return TextStream()


def following(
    stream: TextStream, start: int = 1, idle: float = 60.0, quiet: float = 60.0
) -> AsyncGenerator[Delta, None]:
    """No look at the stream for want of anything else: a test says what makes it look."""
    return follow(  # type: ignore[return-value]  # it is one, and the tests close it
        stream.connection, "c1", "t1", start=start, idle=idle, gap=0.001, quiet=quiet
    )


async def whole(stream: TextStream, start: int = 1) -> list[Delta]:
    return [event async for event in following(stream, start)]


# ---------------------------------------------------------------- the past, and live


async def test_a_turn_that_is_over_is_read_from_the_stream(stream: TextStream) -> None:
    stream.store(*WHOLE)

    assert await whole(stream) == WHOLE
    assert stream.subject == "chat.delta.c1"
    assert stream.looks == [1]


async def test_reading_begins_where_it_is_told(stream: TextStream) -> None:
    stream.store(*[text(n, turn="older") for n in range(5)], *WHOLE)

    assert await whole(stream, start=6) == WHOLE
    assert stream.looks == [6]


async def test_what_comes_live_is_given_out_as_it_comes(stream: TextStream) -> None:
    events = following(stream)
    stream.store(WHOLE[0])
    got = [await anext(events)]
    for event in WHOLE[1:]:
        await stream.say(event)
        got.append(await anext(events))

    assert got == WHOLE
    assert stream.looks == [1]


async def test_nothing_is_given_out_after_the_end(stream: TextStream) -> None:
    stream.store(*WHOLE, text(5), started(2))

    assert await whole(stream) == WHOLE


async def test_a_failure_ends_a_turn_too(stream: TextStream) -> None:
    stream.store(started(), failed(1))

    assert await whole(stream) == [started(), failed(1)]


async def test_events_of_other_turns_are_passed_over(stream: TextStream) -> None:
    stream.store(text(0, turn="t0"), done(1, turn="t0"), *WHOLE)
    events = following(stream)
    first = await anext(events)
    await stream.pass_by(text(1, turn="t2"), done(2, turn="t2"))
    await stream.pass_by(text(1, turn="t2"), headers=False)

    assert [first, *[event async for event in events]] == WHOLE


async def test_what_this_version_does_not_know_is_passed_over(stream: TextStream) -> None:
    unknown = encode(text(1)).replace(b'"text"', b'"video"', 1)
    stream.store(started(), unknown, b"", b"not JSON", text(2), done(3))

    assert await whole(stream) == [started(), text(2), done(3)]
    assert decode_delta(unknown) is None


async def test_events_without_headers_are_followed_too(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    got = [await anext(events)]
    await stream.pass_by(text(1), done(2), headers=False)

    assert got + [event async for event in events] == [started(), text(1), done(2)]


# ---------------------------------------------------------------- offered


async def test_what_is_taken_where_it_comes_is_not_given_out(stream: TextStream) -> None:
    offered: list[Delta] = []

    def offer(event: Delta) -> bool:
        offered.append(event)
        return event != text(2)

    stream.store(*WHOLE[:2])
    events = follow(stream.connection, "c1", "t1", quiet=60.0, gap=0.001, offer=offer)
    rest = asyncio.create_task(_rest(events))  # type: ignore[arg-type]  # it is a generator
    async with asyncio.timeout(30):
        while len(offered) < 2:  # noqa: ASYNC110  nobody sets an event for what a list records
            await asyncio.sleep(0)
    await stream.say(text(2))
    assert offered == WHOLE[:3]
    await stream.pass_by(done(4))
    assert offered == WHOLE[:3]
    await stream.say(text(3))
    assert offered == WHOLE
    assert await rest == [text(2), done(4)]


async def test_who_offers_is_told_what_that_has_raised(stream: TextStream) -> None:
    def offer(event: Delta) -> bool:
        raise ZeroDivisionError(event.seq)

    stream.store(started())
    with pytest.raises(ZeroDivisionError):
        await anext(follow(stream.connection, "c1", "t1", offer=offer))


# ---------------------------------------------------------------- gaps


async def test_a_gap_is_filled_from_the_stream(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    got = [await anext(events)]
    stream.store(text(1))  # lost on its way
    await stream.say(text(2), done(3))

    assert got + [event async for event in events] == [started(), text(1), text(2), done(3)]
    assert len(stream.looks) == 2


async def test_a_gap_is_looked_at_before_a_while_has_passed(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    assert await anext(events) == started()
    rest = asyncio.create_task(_rest(events))
    await asyncio.sleep(0)
    stream.store(text(1))
    await stream.say(done(2))  # nothing can be given out, and nothing follows
    async with asyncio.timeout(30):
        assert await rest == [text(1), done(2)]


async def test_what_overtakes_the_store_waits_until_the_store_has_it(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    got = [await anext(events)]
    await stream.pass_by(text(2), done(3))

    async def late() -> None:
        if len(stream.looks) == 4:
            stream.store(text(1), text(2), done(3))

    stream.on_look = late

    assert got + [event async for event in events] == [started(), text(1), text(2), done(3)]
    assert len(stream.looks) == 4


async def test_an_end_that_comes_first_waits_for_the_words(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    got = [await anext(events)]
    await stream.pass_by(done(4))
    stream.store(*WHOLE[1:])

    assert got + [event async for event in events] == WHOLE


async def test_what_comes_live_while_the_past_is_read_is_given_out_once(
    stream: TextStream,
) -> None:
    stream.store(*WHOLE[:3])

    async def meanwhile() -> None:
        await stream.pass_by(*WHOLE[:3])
        await stream.say(*WHOLE[3:])

    stream.on_look = meanwhile

    assert await whole(stream) == WHOLE


async def test_repeats_are_given_out_once(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    got = [await anext(events)]
    await stream.say(started(), text(1), text(1), started(), text(2), text(1), text(3), done(4))

    assert got + [event async for event in events] == WHOLE


# ---------------------------------------------------------------- attempts


async def test_a_higher_attempt_starts_over(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    got = [await anext(events)]
    await stream.say(text(1), started(2), text(1, 2), done(2, 2))

    assert got + [event async for event in events] == [
        started(),
        text(1),
        started(2),
        text(1, 2),
        done(2, 2),
    ]


async def test_leftovers_of_a_replaced_worker_are_dropped(stream: TextStream) -> None:
    stream.store(started(), started(2))
    events = following(stream)
    got = [await anext(events), await anext(events)]
    await stream.say(text(1), done(2), text(1, 2), text(3), done(2, 2))

    assert got + [event async for event in events] == [
        started(),
        started(2),
        text(1, 2),
        done(2, 2),
    ]


# ---------------------------------------------------------------- when nothing comes


async def test_a_reconnect_reads_back_at_once_what_was_lost_meanwhile(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    got = [await anext(events)]
    rest = asyncio.create_task(_rest(events))
    stream.store(*WHOLE[1:])  # while the connection was away
    stream.reconnect()
    async with asyncio.timeout(30):
        assert got + await rest == WHOLE


async def test_a_reconnect_before_anybody_waits_is_not_forgotten(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream)
    got = [await anext(events)]
    stream.store(*WHOLE[1:])
    stream.reconnect()
    async with asyncio.timeout(30):
        assert got + await _rest(events) == WHOLE


async def test_a_while_without_anything_makes_it_look(stream: TextStream) -> None:
    stream.store(started())
    events = following(stream, quiet=0.001)
    got = [await anext(events)]
    stream.store(*WHOLE[1:])  # nobody told us
    async with asyncio.timeout(30):
        assert got + await _rest(events) == WHOLE


async def test_a_stream_that_is_away_for_a_moment_is_asked_again(stream: TextStream) -> None:
    stream.store(*WHOLE)
    stream.broken = 3

    assert await whole(stream) == WHOLE
    assert len(stream.looks) == 4


async def test_a_turn_that_says_nothing_for_too_long_is_given_up(stream: TextStream) -> None:
    stream.store(started(), text(1))
    got: list[Delta] = []
    with pytest.raises(DeadlineExceeded):
        await _rest(following(stream, idle=0.01), got)

    assert got == [started(), text(1)]


async def test_a_turn_that_never_begins_is_given_up(stream: TextStream) -> None:
    with pytest.raises(DeadlineExceeded):
        await anext(following(stream, idle=0.01))


async def test_a_stream_that_stays_away_is_given_up(stream: TextStream) -> None:
    stream.broken = 10**6
    with pytest.raises(DeadlineExceeded):
        await anext(following(stream, idle=0.01))


# ---------------------------------------------------------------- leaving


async def test_nothing_is_left_subscribed_after_the_end(stream: TextStream) -> None:
    stream.store(*WHOLE)
    await whole(stream)

    assert stream.listeners == 0


async def test_nothing_is_left_subscribed_by_a_reader_who_leaves(stream: TextStream) -> None:
    stream.store(*WHOLE)
    events = following(stream)
    await anext(events)
    assert stream.listeners == 2
    await events.aclose()

    assert stream.listeners == 0


async def test_nothing_is_left_subscribed_after_a_deadline(stream: TextStream) -> None:
    with pytest.raises(DeadlineExceeded):
        await anext(following(stream, idle=0.01))

    assert stream.listeners == 0


async def _rest(
    events: AsyncGenerator[Delta, None], into: list[Delta] | None = None
) -> list[Delta]:
    got: list[Delta] = [] if into is None else into
    async for event in events:
        got.append(event)  # noqa: PERF401  what came before an error must be kept
    return got


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff",
        b'{"type":"text","conversation_id":"c1","turn_id":"t9","attempt":1,"seq":1,"text":"\xff"}',
        b'{"type":"text","x":' + b"[" * 50_000,
        b'{"type":"text","conversation_id":"c1","turn_id":"t1","attempt":1e400,"seq":1}',
    ],
    ids=["empty", "no UTF-8", "a text that is no UTF-8", "deep", "infinite"],
)
async def test_what_a_stranger_put_on_the_subject_is_passed_over(
    stream: TextStream, garbage: bytes
) -> None:
    stream.store(garbage, *WHOLE, garbage)

    assert await whole(stream) == WHOLE
