"""What was said in a conversation, and the turn under way so far."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from services.chat.conversation import Conversation, TurnRecord
from services.chat.show import show
from shared.contract import (
    History,
    HistoryRequest,
    Message,
    Role,
    Started,
    Text,
    TurnUnderWay,
    encode,
)
from shared.errors import InvalidRequest
from tests.fakes import MemoryConversations, MemoryHistory, MemoryPages

NOW = "2026-01-02T03:04:05.678Z"
ASKED = Message("t1.0", Role.USER, "How are you?", "t1", NOW)
SAID = Message("t1.a", Role.ASSISTANT, "Fine.", "t1", NOW)


class Bench:
    def __init__(self) -> None:
        self.conversations = MemoryConversations()
        self.history = MemoryHistory(self.conversations)
        self.pages = MemoryPages()

    async def show(self, **which: Any) -> History:
        return await show(
            HistoryRequest("c1", **which),
            conversations=self.conversations,
            pages=self.pages,
            past=self.history,
        )

    async def all(self, limit: int) -> list[Message]:
        """What a client has that follows the pages to the beginning."""
        found = await self.show(limit=limit)
        messages = found.messages
        while found.before is not None:
            found = await self.show(limit=limit, before=found.before)
            messages = [*found.messages, *messages]
        return messages


def started(attempt: int) -> Started:
    return Started("c1", "t2", attempt, 0, model="m", metadata={}, speech=False, created_at=NOW)


async def test_an_unknown_conversation_has_no_messages() -> None:
    assert await Bench().show() == History("c1", [], None)


async def test_what_was_said_is_shown_those_on_pages_first() -> None:
    bench = Bench()
    bench.pages = MemoryPages([ASKED])
    bench.conversations.put("c1", Conversation(messages=[SAID], pages=1))

    assert await bench.show() == History("c1", [ASKED, SAID], None)


async def test_of_the_turn_under_way_the_words_of_its_last_attempt_are_shown() -> None:
    bench = Bench()
    record = TurnRecord("t2", 2, 2, "e", NOW)
    bench.conversations.put("c1", Conversation(turn=record, delta_sequence=5))
    bench.history.stored = [
        (4, Text("c1", "t2", 2, 9, text="before the turn began")),
        (5, started(1)),
        (6, Text("c1", "t2", 1, 1, text="Well")),
        (7, started(2)),
        (8, Text("c1", "t2", 2, 1, text="Oh, ")),
        (9, Text("c1", "t2", 2, 2, text="fine")),
    ]

    assert (await bench.show()).turn == TurnUnderWay("t2", 2, "Oh, fine", 2)


async def test_a_turn_that_said_nothing_yet_is_shown_empty() -> None:
    bench = Bench()
    bench.conversations.put("c1", Conversation(turn=TurnRecord("t2", 1, 1, "e", NOW)))

    assert (await bench.show()).turn == TurnUnderWay("t2", 1, "", -1)


# ---------------------------------------------------------------- pages


def said(number: int, words: str = "") -> Message:
    at = f"2026-01-02T03:{number // 60:02}:{number % 60:02}.000Z"
    return Message(f"t{number}.a", Role.ASSISTANT, words or f"{number}", f"t{number}", at)


TEN = [said(number) for number in range(10)]


def on_pages(*sizes: int) -> Bench:
    """Ten messages: so many on each page, the rest in the document."""
    bench, rest, pages = Bench(), TEN, []
    for size in sizes:
        pages.append(rest[:size])
        rest = rest[size:]
    bench.pages = MemoryPages(*pages)
    bench.conversations.put("c1", Conversation(messages=rest, pages=len(pages)))
    return bench


async def test_the_newest_messages_come_first_and_say_where_older_ones_are() -> None:
    bench = on_pages(3, 3)
    newest = await bench.show(limit=5)
    older = await bench.show(limit=5, before=newest.before)

    assert newest.messages == TEN[5:]
    assert older.messages == TEN[:5]
    assert older.before is None


@pytest.mark.parametrize("limit", range(1, 12))
@pytest.mark.parametrize("sizes", [(), (3, 3), (1, 1, 1), (10,)])
async def test_who_follows_the_pages_has_each_message_once(
    limit: int, sizes: tuple[int, ...]
) -> None:
    assert await on_pages(*sizes).all(limit) == TEN


async def test_no_page_is_read_that_is_newer_or_older_than_what_is_wanted() -> None:
    bench = on_pages(2, 2, 2)
    newest = await bench.show(limit=5)
    bench.pages.asked.clear()
    await bench.show(limit=1, before=newest.before)

    assert bench.pages.asked == [3, 2]


@pytest.mark.parametrize("sizes", [(6,), (3, 3, 3), (2, 2, 2, 2)])
async def test_a_cursor_stays_right_while_messages_move_to_pages_and_turns_are_added(
    sizes: tuple[int, ...],
) -> None:
    first = await on_pages().show(limit=3)
    bench = on_pages(*sizes)
    document = bench.conversations["c1"]
    bench.conversations.put("c1", replace(document, messages=[*document.messages, said(10)]))

    assert (await bench.show(limit=10, before=first.before)).messages == TEN[:7]


async def test_a_cursor_stays_right_when_its_message_was_stopped_before_it_was_heard() -> None:
    bench = on_pages(4)
    newest = await bench.show(limit=1)
    bench.conversations.put("c1", Conversation(messages=TEN[4:9], pages=1))

    assert (await bench.show(before=newest.before)).messages == TEN[:9]


async def test_nothing_is_older_than_a_conversation_that_has_started_over() -> None:
    bench = on_pages(4, 2)
    newest = await bench.show(limit=5)
    bench.conversations.put("c1", Conversation(messages=[said(11), said(12)]))

    assert await bench.show(before=newest.before) == History("c1", [], None)


async def test_a_worker_whose_clock_was_behind_loses_no_message() -> None:
    late = [said(50), *TEN]
    bench = Bench()
    bench.conversations.put("c1", Conversation(messages=late))
    newest = await bench.show(limit=2)
    bench.pages = MemoryPages(late[:3], late[3:6])
    bench.conversations.put("c1", Conversation(messages=late[6:], pages=2))

    assert (await bench.show(before=newest.before)).messages == late[:-2]


async def test_fewer_messages_come_where_they_would_be_half_a_megabyte() -> None:
    bench = Bench()
    long = [said(number, "x" * 100_000) for number in range(10)]
    bench.conversations.put("c1", Conversation(messages=long))
    newest = await bench.show()

    assert newest.messages == long[5:]
    assert len(encode(newest)) <= 512 * 1024
    assert await bench.all(200) == long


async def test_a_message_larger_than_any_page_comes_alone() -> None:
    bench = Bench()
    long = [said(0), said(1, "x" * 600_000), said(2)]
    bench.conversations.put("c1", Conversation(messages=long))

    assert await bench.all(200) == long


async def test_more_than_a_thousand_are_a_thousand() -> None:
    bench = Bench()
    bench.conversations.put("c1", Conversation(messages=[said(n) for n in range(1_001)]))

    assert len((await bench.show()).messages) == 200
    assert len((await bench.show(limit=5_000)).messages) == 1_000


async def test_the_turn_under_way_comes_with_the_first_page_only() -> None:
    bench = on_pages()
    turn = TurnRecord("t", 1, 1, "e", NOW)
    bench.conversations.put("c1", replace(bench.conversations["c1"], turn=turn))
    newest = await bench.show(limit=5)

    assert newest.turn is not None
    assert (await bench.show(before=newest.before)).turn is None


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1_", "1_2026", "-1_a_b", "9999999999_a_b", "²_a_b"]
)
async def test_a_cursor_that_we_never_said_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="before"):
        await on_pages(3).show(before=cursor)
