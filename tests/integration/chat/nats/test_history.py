"""What is kept of a conversation beside its document, read back and removed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.chat.conversation import Conversation
from services.chat.nats.conversations import NatsConversations
from services.chat.nats.history import NatsHistory
from services.chat.show import show
from shared.contract import HistoryRequest, Message, Role, Started, Text, encode
from shared.nats.connection import Connection
from shared.nats.documents import Held
from shared.nats.publish import publish
from tests.integration.harness import held

pytestmark = pytest.mark.timeout(120)

LONG_AGO = "2020-01-01T00:00:00.000Z"
TALK = Conversation(
    messages=[
        Message("t.0", Role.USER, "How are you?", "t", LONG_AGO),
        Message("t.a", Role.ASSISTANT, "Fine, thanks. And you?", "t", LONG_AGO),
    ],
    ended=["t"],
)


@pytest.fixture
def conversations(connection: Connection) -> NatsConversations:
    return NatsConversations(connection)


@pytest.fixture
def history(connection: Connection, conversations: NatsConversations) -> NatsHistory:
    return NatsHistory(connection, conversations)


def started(attempt: int = 1) -> Started:
    return Started("c", "u", attempt, 0, model="m", metadata={}, speech=False, created_at="")


def text(seq: int, words: str, attempt: int = 1) -> Text:
    return Text("c", "u", attempt, seq, text=words)


async def tell(connection: Connection, *events: Started | Text) -> list[int]:
    """Their sequences in the stream."""
    return [(await publish(connection, "chat.delta.c", encode(event))).seq for event in events]


# ---------------------------------------------------------------- read


async def test_a_conversation_of_1500_messages_is_shown_page_by_page_each_message_once(
    history: NatsHistory, conversations: NatsConversations
) -> None:
    long = [
        Message(f"t{n}.a", Role.ASSISTANT, f"{n} ".ljust(1_000, "x"), f"t{n}", LONG_AGO)
        for n in range(1_500)
    ]
    await conversations.save("c", Conversation(messages=long), 0)
    request, shown, answers = HistoryRequest("c", limit=1_000), list[Message](), 0
    while True:
        found = await show(request, conversations=conversations, pages=conversations, past=history)
        assert len(encode(found)) <= 512 * 1024
        shown, answers = [*found.messages, *shown], answers + 1
        if found.before is None:
            break
        request = replace(request, before=found.before)
    assert shown == long
    assert answers > 1


async def test_the_events_are_read_from_where_they_are_asked_for(
    connection: Connection, history: NatsHistory
) -> None:
    events: list[Started | Text] = [started(), text(1, "Well"), started(2), text(1, "Oh, ", 2)]
    sequences = await tell(connection, *events)
    await publish(connection, "chat.delta.d", encode(replace(started(), conversation_id="d")))
    assert await history.events("c", 1) == events
    assert await history.events("c", sequences[2]) == events[2:]
    assert await history.events("nobody", 1) == []


async def test_what_a_later_version_tells_is_passed_over(
    connection: Connection, history: NatsHistory
) -> None:
    await tell(connection, started())
    await publish(connection, "chat.delta.c", b'{"type":"new"}')
    assert await history.events("c", 1) == [started()]


# ---------------------------------------------------------------- removed


async def test_everything_of_a_conversation_is_erased_and_others_stay(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    for name in ("c", "d"):
        await conversations.save(name, TALK, 0)
        await publish(connection, f"chat.delta.{name}", b"x")
    await history.erase("c")
    assert await conversations.load("c") == Held(Conversation(), 0)
    assert {m.subject for m in await held(connection, "CHAT_DELTAS")} == {"chat.delta.d"}
    kept = {m.subject for m in await held(connection, "KV_conversations")}
    assert kept == {"$KV.conversations.d"}


async def test_dead_letters_of_a_conversation_are_erased(
    connection: Connection, history: NatsHistory
) -> None:
    for subject in ("chat.dead.c", "tts.dead.c", "chat.dead.d", "chat.dead"):
        await publish(connection, subject, b"x")
    await history.erase("c")
    assert [m.subject for m in await held(connection, "DEAD_LETTERS")] == [
        "chat.dead.d",
        "chat.dead",
    ]


async def test_the_requests_that_are_not_dealt_with_are_those_that_are_in_the_queue(
    connection: Connection, history: NatsHistory
) -> None:
    assert await history.newest_request() == 0
    for number, name in enumerate("cdc", 1):
        await publish(connection, f"chat.request.{name}", b'{"turn_id":"t%d"}' % number)
    await publish(connection, "chat.request", b"Hello.")
    newest = await history.newest_request()
    assert newest == 4
    assert await history.requests("c", until=newest - 1) == ["t1", "t3"]
    assert await history.requests("c", until=newest) == ["", "t1", "t3"]
    await history.drop_requests("c")
    assert await history.requests("c", until=newest - 1) == []
    assert await history.requests("d", until=newest - 1) == ["t2"]
