"""What was said in a conversation, and the turn under way so far."""

from __future__ import annotations

from services.chat.conversation import Conversation, TurnRecord
from services.chat.show import show
from shared.contract import History, Message, Role, Started, Text, TurnUnderWay
from tests.fakes import MemoryConversations, MemoryHistory

NOW = "2026-01-02T03:04:05.678Z"
ASKED = Message("t1.0", Role.USER, "How are you?", "t1", NOW)
SAID = Message("t1.a", Role.ASSISTANT, "Fine.", "t1", NOW)


class Bench:
    def __init__(self) -> None:
        self.conversations = MemoryConversations()
        self.history = MemoryHistory(self.conversations)

    async def show(self) -> History:
        return await show("c1", conversations=self.conversations, past=self.history)


def started(attempt: int) -> Started:
    return Started("c1", "t2", attempt, 0, model="m", metadata={}, speech=False, created_at=NOW)


async def test_an_unknown_conversation_has_no_messages() -> None:
    assert await Bench().show() == History("c1", [], None)


async def test_what_was_said_is_shown_those_on_pages_first() -> None:
    bench = Bench()
    bench.history.pages = [ASKED]
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
