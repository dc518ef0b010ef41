"""A conversation's history, as it is asked for, erased, and amended by a cancel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from local.nats_server import NatsServer
from services.chat.conversation import Conversation, TurnRecord
from services.chat.nats import history as nats_history
from services.chat.nats.conversations import NatsConversations
from services.chat.nats.history import NatsHistory
from shared.contract import (
    H_ATTEMPT,
    H_TURN,
    H_TYPE,
    CancelRequest,
    Deleted,
    History,
    Message,
    Piece,
    PieceDone,
    Role,
    Started,
    Status,
    Text,
    TurnUnderWay,
    encode,
)
from shared.errors import Busy, Conflict, InvalidRequest, StorageUnavailable
from shared.nats.connection import Connection
from shared.nats.documents import Bucket
from shared.nats.publish import publish
from tests.integration.harness import connected, held, provisioned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.msg import Msg


pytestmark = pytest.mark.timeout(30)

LONG_AGO = "2020-01-01T00:00:00.000Z"
ASK = b'{"conversation_id":"c"}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[NatsServer]:
    async with NatsServer(websocket=False) as running:
        yield running


@pytest.fixture
async def connection(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Connection]:
    monkeypatch.setattr(nats_history, "STOP_SECONDS", 0.3)
    monkeypatch.setattr(nats_history, "ERASE_SECONDS", 0.3)
    async with connected(server.url) as connection:
        await provisioned(connection)
        yield connection


@pytest.fixture
def conversations(connection: Connection) -> NatsConversations:
    return NatsConversations(connection)


@pytest.fixture
def history(connection: Connection, conversations: NatsConversations) -> NatsHistory:
    return NatsHistory(connection, conversations)


def question(turn_id: str = "t") -> Message:
    return Message(f"{turn_id}.0", Role.USER, "How are you?", turn_id, LONG_AGO)


def answer(turn_id: str = "t", content: str = "Fine, thanks. And you?") -> Message:
    return Message(f"{turn_id}.a", Role.ASSISTANT, content, turn_id, LONG_AGO)


TALK = Conversation(messages=[question(), answer()], ended=["t"])


async def tell(connection: Connection, *events: Started | Text) -> None:
    for event in events:
        await publish(connection, "chat.delta.c", encode(event))


def started(attempt: int = 1) -> Started:
    return Started("c", "u", attempt, 0, model="m", metadata={}, speech=False, created_at="")


def text(seq: int, words: str, attempt: int = 1) -> Text:
    return Text("c", "u", attempt, seq, text=words)


async def speak(connection: Connection, ms: int = 1_000) -> None:
    """The voice of turn t: two pieces of so many milliseconds."""
    for index, (start, end) in enumerate(((0, 13), (13, 22))):
        said = answer().content[start:end]
        piece = Piece("c", "t", 1, index=index, text=said, chars=(start, end))
        done = PieceDone("c", "t", 1, index=index, samples=24 * ms)
        for kind, event in (("piece", piece), ("piece_done", done)):
            headers = {H_TURN: "t", H_TYPE: kind, H_ATTEMPT: "1"}
            await publish(connection, "tts.audio.c", encode(event), headers)


# ---------------------------------------------------------------- get


async def test_an_unknown_conversation_has_no_messages(history: NatsHistory) -> None:
    assert await history.get(ASK) == History("c", [], None)


async def test_what_was_said_is_told(
    history: NatsHistory, conversations: NatsConversations
) -> None:
    await conversations.save("c", TALK, 0)
    assert await history.get(ASK) == History("c", TALK.messages, None)


async def test_a_long_history_is_told_whole(
    history: NatsHistory, conversations: NatsConversations
) -> None:
    long = [answer(f"t{n}", f"{n} ".ljust(20_000, "x")) for n in range(60)]
    await conversations.save("c", Conversation(messages=long), 0)
    assert (await history.get(ASK)).messages == long


@pytest.mark.parametrize("body", [b"", b"{}", b'{"conversation_id":"a.b"}', b"\xff", b"[" * 9_000])
async def test_a_bad_question_is_refused(history: NatsHistory, body: bytes) -> None:
    for asked in (history.get, history.delete, history.cancelled):
        with pytest.raises(InvalidRequest):
            await asked(body)


async def test_of_the_turn_under_way_the_words_so_far_are_told(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    record = TurnRecord("u", 2, 2, "e", LONG_AGO)
    await conversations.save("c", replace(TALK, turn=record, delta_sequence=1), 0)
    assert (await history.get(ASK)).turn == TurnUnderWay("u", 2, "", -1)
    await tell(
        connection, started(), text(1, "Well"), started(2), text(1, "Oh, ", 2), text(2, "fine", 2)
    )
    assert (await history.get(ASK)).turn == TurnUnderWay("u", 2, "Oh, fine", 2)


# ---------------------------------------------------------------- delete


async def test_everything_of_a_conversation_is_erased_and_others_stay(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    for name in ("c", "d"):
        await conversations.save(name, TALK, 0)
        await publish(connection, f"chat.delta.{name}", b"garbage at the end is no turn under way")
    assert await history.delete(ASK) == Deleted("c")
    assert await history.get(ASK) == History("c", [], None)
    assert {m.subject for m in await held(connection, "CHAT_DELTAS")} == {"chat.delta.d"}
    assert {m.subject for m in await held(connection, "KV_conversations")} == {
        "$KV.conversations.d"
    }


async def test_a_turn_under_way_is_stopped_first(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    running = replace(TALK, turn=TurnRecord("u", 1, 1, "e", LONG_AGO))
    revision = await conversations.save("c", running, 0)
    heard: list[CancelRequest] = []

    async def stop(msg: Msg) -> None:
        heard.append(msgspec.json.decode(msg.data, type=CancelRequest))
        await conversations.save("c", TALK, revision)

    listening = await connection.client.subscribe("chat.cancel", cb=stop)
    assert await history.delete(ASK) == Deleted("c")
    await listening.unsubscribe()
    assert heard == [CancelRequest("c")]
    assert await conversations.load("c") == (Conversation(), 0)


async def test_a_turn_that_does_not_stop_keeps_everything(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    running = replace(TALK, turn=TurnRecord("u", 1, 1, "e", LONG_AGO))
    await conversations.save("c", running, 0)
    with pytest.raises(Busy):
        await history.delete(ASK)
    assert (await conversations.load("c"))[0] == running
    # Nor while the end of the last turn is not yet told.
    await conversations.save("d", TALK, 0)
    await publish(connection, "chat.delta.d", encode(replace(started(), conversation_id="d")))
    with pytest.raises(Busy):
        await history.delete(b'{"conversation_id":"d"}')


async def test_a_voice_that_is_still_there_is_told(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    await Bucket(connection, "speech").put("c.t", b"{}", 0)
    with pytest.raises(StorageUnavailable):
        await history.delete(ASK)
    await Bucket(connection, "speech").erase("c.*")
    assert await history.delete(ASK) == Deleted("c")


# ---------------------------------------------------------------- cancel


@pytest.mark.parametrize("turn", ["t", None])
async def test_of_an_answer_that_has_ended_the_history_keeps_what_was_heard(
    connection: Connection, history: NatsHistory, conversations: NatsConversations, turn: str | None
) -> None:
    await conversations.save("c", TALK, 0)
    await speak(connection)
    await history.cancelled(encode(CancelRequest("c", turn, 1_000)))
    messages = (await history.get(ASK)).messages
    heard = replace(answer(), content="Fine, thanks.", status=Status.INTERRUPTED)
    assert messages == [question(), heard]


async def test_an_answer_that_nobody_heard_is_not_kept(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    await conversations.save("c", TALK, 0)
    await speak(connection)
    await history.cancelled(encode(CancelRequest("c", "t", 0)))
    assert (await history.get(ASK)).messages == [question()]


@pytest.mark.parametrize(
    "request_", [CancelRequest("c"), CancelRequest("c", "t", 99_000), CancelRequest("c", "no", 5)]
)
async def test_what_was_heard_to_the_end_or_not_told_changes_nothing(
    connection: Connection,
    history: NatsHistory,
    conversations: NatsConversations,
    request_: CancelRequest,
) -> None:
    revision = await conversations.save("c", TALK, 0)
    await speak(connection)
    assert await history.cancelled(encode(request_)) == request_
    assert await conversations.load("c") == (TALK, revision)


async def test_the_turn_under_way_is_left_to_its_worker(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    running = replace(TALK, turn=TurnRecord("u", 1, 1, "e", LONG_AGO))
    revision = await conversations.save("c", running, 0)
    await speak(connection)
    for turn_id in (None, "u"):
        await history.cancelled(encode(CancelRequest("c", turn_id, 5)))
    assert await conversations.load("c") == (running, revision)


async def test_an_amendment_and_another_change_at_once_are_both_kept(
    connection: Connection, history: NatsHistory, conversations: NatsConversations
) -> None:
    await conversations.save("c", TALK, 0)
    await speak(connection)

    async def add() -> None:
        for n in range(10):
            while True:
                found, revision = await conversations.load("c")
                changed = replace(found, messages=[*found.messages, question(f"v{n}")])
                try:
                    await conversations.save("c", changed, revision)
                except Conflict:
                    continue
                break

    await asyncio.gather(add(), history.cancelled(encode(CancelRequest("c", "t", 1_000))))
    messages = (await history.get(ASK)).messages
    assert messages[1].content == "Fine, thanks."
    assert [m.turn_id for m in messages[2:]] == [f"v{n}" for n in range(10)]
