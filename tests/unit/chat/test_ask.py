"""A request that is asked for is in the queue once its asker is told so, and once only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from services.chat import ask
from services.chat.conversation import Conversation, TurnRecord
from shared.contract import Asked, AskState, is_id
from shared.errors import Busy, InvalidRequest, NatsError, TooLarge
from shared.refuse import Unqueued
from tests.fakes import MemoryConversations, ScriptedQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contract import ChatRequest

RUNNING = Conversation(turn=TurnRecord("t", 1, 1, "e", "2026-01-01T00:00:00Z"))


class MemoryRequests:
    """Requests: knows turns that the stream has had; keeps what it took."""

    def __init__(self, queue: ScriptedQueue) -> None:
        self.had: set[tuple[str, str]] = set()
        self.taken: list[ChatRequest] = []
        self.warnings: list[str] = []
        self.fails: NatsError | None = None
        self._queue = queue

    async def put(
        self, request: ChatRequest, warnings: Sequence[str], *, anew: bool = False
    ) -> bool:
        if self.fails is not None:
            raise self.fails
        key = str(request.conversation_id), str(request.turn_id)
        if key in self.had and not anew:
            return False
        self.had.add(key)
        self._queue.holding.add(key)
        self.taken.append(request)
        self.warnings += warnings
        return True


class Bench:
    def __init__(self) -> None:
        self.conversations, self.queue = MemoryConversations(), ScriptedQueue()
        self.requests = MemoryRequests(self.queue)
        self.used: list[tuple[str, int]] = []
        self.allows = True

    def take(self, conversation_id: str, characters: int) -> None:
        if not self.allows:
            raise Busy("enough")
        self.used.append((conversation_id, characters))

    async def ask(
        self, body: bytes | dict[str, object], subject: str = "chat.ask.c", **headers: str
    ) -> Asked:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        needs = ask.Dependencies(
            conversations=self.conversations,
            queue=self.queue,
            requests=self.requests,
            take=self.take,
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await ask.ask(Unqueued(subject, data, named), needs, max_bytes=1_000)


HELLO: dict[str, object] = {"content": "Hello", "turn_id": "t"}


async def test_who_asks_is_told_when_the_stream_has_it() -> None:
    bench = Bench()

    assert await bench.ask(HELLO) == Asked("c", "t", AskState.QUEUED)
    (taken,) = bench.requests.taken
    assert (taken.conversation_id, taken.turn_id, taken.content) == ("c", "t", "Hello")


async def test_plain_text_is_asked_as_it_is_and_named() -> None:
    bench = Bench()
    first, second = await bench.ask(b"Hello"), await bench.ask(b"Hello")

    assert [request.content for request in bench.requests.taken] == ["Hello", "Hello"]
    assert is_id(first.turn_id)
    assert first.turn_id != second.turn_id


async def test_a_message_id_names_the_turn() -> None:
    assert (await Bench().ask(b"Hello", Nats_Msg_Id="m1")).turn_id == "m1"


async def test_a_turn_that_ended_is_not_asked_again() -> None:
    bench = Bench()
    bench.conversations.put("c", Conversation(ended=["t"]))

    assert await bench.ask(HELLO) == Asked("c", "t", AskState.ENDED)
    assert bench.requests.taken == []


async def test_a_turn_that_runs_is_not_asked_again() -> None:
    bench = Bench()
    bench.conversations.put("c", RUNNING)
    bench.queue.holding.add(("c", "t"))

    assert await bench.ask(HELLO) == Asked("c", "t", AskState.RUNNING)
    assert bench.requests.taken == []


async def test_a_turn_that_runs_by_the_document_alone_is_asked_anew() -> None:
    bench = Bench()
    bench.conversations.put("c", RUNNING)

    assert (await bench.ask(HELLO)).state is AskState.QUEUED
    assert len(bench.requests.taken) == 1


async def test_a_turn_that_waits_stays_there_once() -> None:
    bench = Bench()
    await bench.ask(HELLO)

    assert await bench.ask(HELLO) == Asked("c", "t", AskState.QUEUED)
    assert len(bench.requests.taken) == 1


async def test_a_turn_that_was_refused_a_moment_ago_is_asked_anew() -> None:
    bench = Bench()
    await bench.ask(HELLO)
    bench.queue.holding.clear()

    assert await bench.ask(HELLO) == Asked("c", "t", AskState.QUEUED)
    assert len(bench.requests.taken) == 2


async def test_a_turn_that_ended_while_it_was_asked_again_has_ended() -> None:
    bench = Bench()
    bench.requests.had.add(("c", "t"))
    original = bench.queue.holds

    async def holds(conversation_id: str, turn_id: str) -> bool:
        bench.conversations.put("c", Conversation(ended=["t"]))
        return await original(conversation_id, turn_id)

    bench.queue.holds = holds  # type: ignore[method-assign]

    assert (await bench.ask(HELLO)).state is AskState.ENDED
    assert bench.requests.taken == []


@pytest.mark.parametrize(
    ("body", "subject", "error"),
    [
        (b"", "chat.ask.c", InvalidRequest),
        (b"x" * 1_001, "chat.ask.c", TooLarge),
        (b'{"content":"x","conversation_id":"d"}', "chat.ask.c", InvalidRequest),
        (b'{"content":"x"}', "chat.ask.a!b", InvalidRequest),
    ],
)
async def test_what_is_not_understood_is_refused_and_in_no_stream(
    body: bytes, subject: str, error: type[InvalidRequest]
) -> None:
    bench = Bench()
    with pytest.raises(error):
        await bench.ask(body, subject)

    assert bench.requests.taken == []


async def test_trouble_of_nats_is_not_hidden() -> None:
    bench = Bench()
    bench.requests.fails = NatsError("away")
    with pytest.raises(NatsError):
        await bench.ask(HELLO)


async def test_a_misspelled_field_goes_along_by_name() -> None:
    bench = Bench()
    await bench.ask({**HELLO, "speach": False})

    assert bench.requests.warnings == [
        "`speach` is not known and was ignored; did you mean `speech`?"
    ]


async def test_what_is_asked_is_taken_from_what_the_conversation_may_use_and_once() -> None:
    bench = Bench()
    await bench.ask({**HELLO, "system": "Be brief."})
    bench.conversations.put("c", Conversation(ended=["t"]))
    await bench.ask(HELLO)

    assert bench.used == [("c", len("Be brief.") + len("Hello"))]


async def test_what_a_conversation_may_not_use_is_not_put_into_the_queue() -> None:
    bench = Bench()
    bench.allows = False

    with pytest.raises(Busy):
        await bench.ask(HELLO)
    assert not bench.requests.taken
