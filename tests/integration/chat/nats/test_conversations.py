"""Conversations in their bucket: compare-and-set, and pages for what is too long for a document."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest
from msgspec.structs import replace

from local.nats_server import NatsServer
from services.chat.conversation import PAGE_BYTES, Conversation, encode
from services.chat.nats.conversations import NatsConversations
from shared.contract import Message, Role
from shared.errors import Conflict, Unreadable
from shared.nats.connection import Connection
from shared.nats.documents import Bucket, Held
from tests.integration.harness import Wire, connected, held, soon

pytestmark = pytest.mark.timeout(120)

BUCKET = "KV_conversations"


@pytest.fixture
def conversations(connection: Connection) -> NatsConversations:
    return NatsConversations(connection)


def message(number: int, kilobytes: float = 0.1) -> Message:
    role = Role.ASSISTANT if number % 2 else Role.USER
    words = f"{number} ".ljust(int(kilobytes * 1024), "x")
    return Message(f"m{number}", role, words, f"t{number // 2}", "2026-01-01T00:00:00.000Z")


def document(*messages: Message, pages: int = 0) -> Conversation:
    return Conversation(messages=list(messages), pages=pages)


async def all_of(conversations: NatsConversations, conversation_id: str = "c") -> list[Message]:
    found = (await conversations.load(conversation_id)).value
    pages = [await conversations.page(conversation_id, n + 1) for n in range(found.pages)]
    return [*itertools.chain(*pages), *found.messages]


async def pages(connection: Connection) -> list[str]:
    return [m.subject.removeprefix("$KV.conversations.") for m in await held(connection, BUCKET)]


async def test_a_conversation_that_never_was_is_empty(conversations: NatsConversations) -> None:
    assert await conversations.load("c") == Held(Conversation(), 0)
    assert await all_of(conversations) == []


async def test_a_document_comes_back_as_it_was_saved(conversations: NatsConversations) -> None:
    saved = document(message(0), message(1))
    revision = await conversations.save("c", saved, 0)
    assert await conversations.load("c") == Held(saved, revision)


async def test_a_document_that_has_moved_on_is_not_overwritten(
    conversations: NatsConversations,
) -> None:
    first = await conversations.save("c", document(message(0)), 0)
    second = await conversations.save("c", document(message(0), message(1)), first)
    with pytest.raises(Conflict):
        await conversations.save("c", document(message(7)), first)
    assert (await conversations.load("c")).revision == second


async def test_of_many_writers_each_change_is_kept_once(
    server: NatsServer, connection: Connection, conversations: NatsConversations
) -> None:
    async def add(own: NatsConversations, number: int) -> None:
        await own.amend(
            "c", lambda found: replace(found, messages=[*found.messages, message(number)])
        )

    async with connected(server.url) as other:
        own = (conversations, NatsConversations(other))
        await asyncio.gather(*(add(own[n % 2], n) for n in range(15)))
    assert sorted(m.id for m in await all_of(conversations)) == sorted(f"m{n}" for n in range(15))


async def test_who_holds_the_document_amends_it_without_reading_it(
    conversations: NatsConversations,
) -> None:
    first = await conversations.amend("c", lambda found: replace(found, system="one"))
    second = await conversations.amend("c", lambda found: replace(found, delta_sequence=2), first)
    assert await conversations.load("c") == second
    assert second.value == Conversation(system="one", delta_sequence=2)


async def test_who_changes_nothing_saves_nothing(conversations: NatsConversations) -> None:
    held = await conversations.amend("c", lambda found: replace(found, system="one"))
    assert await conversations.amend("c", lambda found: found) == held
    assert await conversations.load("c") == held


async def test_a_write_whose_ack_was_lost_is_our_own(
    server: NatsServer, connection: Connection
) -> None:
    async with Wire(server.url) as wire, connected(wire.url, ack_seconds=0.15) as far:
        wire.delay = 0.25  # written, and the word of it comes too late
        saving = asyncio.create_task(NatsConversations(far).save("c", document(message(0)), 0))
        await soon(lambda: wire.said.count(b"HPUB $KV") == 2)
        wire.delay = 0
        revision = await asyncio.wait_for(saving, 5)
    assert await NatsConversations(connection).load("c") == Held(document(message(0)), revision)


# ---------------------------------------------------------------- pages


async def test_a_long_conversation_keeps_all_its_messages_in_order(
    connection: Connection, conversations: NatsConversations
) -> None:
    for number in range(80):
        held = await conversations.load("c")
        changed = replace(held.value, messages=[*held.value.messages, message(number, 11)])
        await conversations.save("c", changed, held.revision)
        data = (await Bucket(connection, "conversations").get("c")).value
        assert data is not None
        assert len(data) <= PAGE_BYTES
    assert await all_of(conversations) == [message(n, 11) for n in range(80)]
    assert (await conversations.load("c")).value.pages >= 3


async def test_who_holds_the_whole_document_may_go_on_saving_it(
    conversations: NatsConversations,
) -> None:
    """A worker saves what it holds in memory, which knows nothing of pages."""
    own, revision = document(), 0
    for number in range(40):
        own = replace(own, messages=[*own.messages, message(number, 11)])
        revision = await conversations.save("c", own, revision)
        assert await all_of(conversations) == own.messages


async def test_one_long_message_after_many_short_ones(conversations: NatsConversations) -> None:
    own = document(*(message(n) for n in range(3)), message(3, 300))
    revision = await conversations.save("c", own, 0)
    assert await all_of(conversations) == own.messages
    own = replace(own, messages=[*own.messages, message(4)])
    await conversations.save("c", own, revision)
    assert await all_of(conversations) == own.messages


async def test_much_at_once_is_divided_among_pages(
    connection: Connection, conversations: NatsConversations
) -> None:
    own = document(*(message(n, 8) for n in range(100)))
    await conversations.save("c", own, 0)
    assert await all_of(conversations) == own.messages
    data = (await Bucket(connection, "conversations").get("c")).value
    assert data is not None
    assert len(data) <= PAGE_BYTES


async def test_a_lost_race_leaves_no_double(conversations: NatsConversations) -> None:
    """It had put its oldest messages on a page when it found that another one was first."""
    before = [message(n, 11) for n in range(22)]
    revision = await conversations.save("c", document(*before), 0)
    winner = document(*before, message(100, 25))
    loser = document(*before, message(200, 25))
    outcomes = await asyncio.gather(
        conversations.save("c", winner, revision),
        conversations.save("c", loser, revision),
        return_exceptions=True,
    )
    assert sum(isinstance(o, Conflict) for o in outcomes) == 1
    kept = loser if isinstance(outcomes[0], Conflict) else winner
    assert await all_of(conversations) == kept.messages


async def test_a_lost_race_over_another_choice_of_messages_leaves_no_double(
    conversations: NatsConversations,
) -> None:
    """Who holds more messages may choose more of them for the page, and then loses."""
    before = [*(message(n) for n in range(3)), message(3, 300)]
    revision = await conversations.save("c", document(*before), 0)
    found = await conversations.load("c")
    assert found.value.pages == 1
    await conversations.save("c", replace(found.value, system="changed"), found.revision)
    with pytest.raises(Conflict):
        await conversations.save("c", document(*before, message(4)), revision)
    assert await all_of(conversations) == before


async def test_a_page_left_over_by_a_lost_race_is_written_over(
    connection: Connection, conversations: NatsConversations
) -> None:
    await Bucket(connection, "conversations").put("c.1", msgspec.json.encode([message(7)]), 0)
    own = document(*(message(n, 11) for n in range(30)))
    await conversations.save("c", own, 0)
    assert await all_of(conversations) == own.messages


async def test_who_starts_over_and_loses_takes_no_page_from_the_winner(
    conversations: NatsConversations,
) -> None:
    old = document(*(message(n, 11) for n in range(30)))
    revision = await conversations.save("c", old, 0)
    found = await conversations.load("c")
    await conversations.save("c", replace(found.value, system="changed"), found.revision)
    with pytest.raises(Conflict):
        await conversations.save(
            "c", document(*(message(n, 11) for n in range(200, 230))), revision
        )
    assert await all_of(conversations) == old.messages


async def test_a_conversation_that_starts_over_does_not_show_its_old_pages(
    conversations: NatsConversations,
) -> None:
    old = document(*(message(n, 11) for n in range(30)))
    revision = await conversations.save("c", old, 0)
    new = document(message(100), message(101))
    revision = await conversations.save("c", new, revision)
    assert await all_of(conversations) == new.messages
    long = document(*(message(n, 11) for n in range(200, 230)))
    await conversations.save("c", long, revision)
    assert await all_of(conversations) == long.messages


async def test_an_erased_conversation_leaves_nothing_and_others_stay(
    connection: Connection, conversations: NatsConversations
) -> None:
    long = document(*(message(n, 11) for n in range(60)))
    for name in ("c", "c1", "d"):
        await conversations.save(name, long, 0)
    await conversations.erase("c")
    assert await conversations.load("c") == Held(Conversation(), 0)
    assert {key.partition(".")[0] for key in await pages(connection)} == {"c1", "d"}
    assert await all_of(conversations, "c1") == long.messages
    await conversations.save("c", document(message(1)), 0)
    assert await all_of(conversations) == [message(1)]


async def test_what_is_kept_is_the_document_as_it_is_encoded(
    connection: Connection, conversations: NatsConversations
) -> None:
    saved = replace(document(message(0)), system="You are.", ended=["t1"], delta_sequence=7)
    await conversations.save("c", saved, 0)
    assert (await Bucket(connection, "conversations").get("c")).value == encode(saved)


async def test_a_page_that_cannot_be_read_is_written_over(
    connection: Connection, conversations: NatsConversations
) -> None:
    await Bucket(connection, "conversations").put("c.1", b"\xff", 0)
    with pytest.raises(Unreadable):
        await conversations.page("c", 1)
    messages = [message(n, kilobytes=40) for n in range(8)]
    await conversations.save("c", document(*messages), 0)
    assert await all_of(conversations) == messages
