"""Of an answer that has ended, the history keeps what was heard."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.chat.cancel import cut_to_heard
from services.chat.conversation import Conversation, TurnRecord
from shared.contract import CancelRequest, Message, Role, Status
from tests.fakes import MemoryConversations, SteadyVoice

ASKED = Message("t1.0", Role.USER, "How are you?", "t1", "then")
SAID = Message("t1.a", Role.ASSISTANT, "Fine, thanks.", "t1", "later")
TALK = Conversation(messages=[ASKED, SAID], ended=["t1"])
RUNNING = replace(TALK, turn=TurnRecord("t2", 1, 1, "e", "now"))
NEXT = Message("t2.a", Role.ASSISTANT, "And you?", "t2", "now")


class Bench:
    def __init__(self, document: Conversation = TALK) -> None:
        self.conversations = MemoryConversations()
        self.conversations.put("c1", document)
        self.voice = SteadyVoice()

    async def cancel(self, turn_id: str | None = None, heard_ms: int | None = None) -> None:
        request = CancelRequest("c1", turn_id, heard_ms)
        await cut_to_heard(request, conversations=self.conversations, heard=self.voice)

    @property
    def messages(self) -> list[Message]:
        return self.conversations["c1"].messages


@pytest.mark.parametrize("turn_id", ["t1", None])
async def test_an_answer_is_cut_to_what_was_heard(turn_id: str | None) -> None:
    bench = Bench()
    await bench.cancel(turn_id, 5)

    assert bench.messages == [ASKED, replace(SAID, content="Fine,", status=Status.INTERRUPTED)]


async def test_the_voice_is_read_from_the_turn_s_beginning() -> None:
    bench = Bench()
    await bench.cancel("t1", 5)

    assert bench.voice.asked == [("c1", "t1", "then")]


async def test_an_answer_that_nobody_heard_is_not_kept() -> None:
    bench = Bench()
    await bench.cancel("t1", 0)

    assert bench.messages == [ASKED]


@pytest.mark.parametrize(("turn_id", "heard_ms"), [(None, None), ("t1", 99_000), ("t9", 5)])
async def test_what_was_heard_whole_or_not_told_changes_nothing(
    turn_id: str | None, heard_ms: int | None
) -> None:
    bench = Bench()
    await bench.cancel(turn_id, heard_ms)

    assert bench.conversations.saves == 0


@pytest.mark.parametrize("turn_id", [None, "t2"])
async def test_the_turn_under_way_is_left_to_its_worker(turn_id: str | None) -> None:
    bench = Bench(RUNNING)
    await bench.cancel(turn_id, 5)

    assert bench.conversations.saves == 0


async def test_an_earlier_answer_is_cut_also_while_a_turn_runs() -> None:
    bench = Bench(RUNNING)
    await bench.cancel("t1", 5)

    assert [message.content for message in bench.messages] == ["How are you?", "Fine,"]
    assert bench.conversations["c1"].turn == RUNNING.turn


async def test_a_change_that_somebody_else_makes_meanwhile_is_kept() -> None:
    bench = Bench()
    bench.conversations.rivals = [lambda document: replace(document, system="Be brief.")]
    await bench.cancel("t1", 5)

    assert bench.messages[1].content == "Fine,"
    assert bench.conversations["c1"].system == "Be brief."


async def test_who_was_heard_less_by_somebody_else_stays_so() -> None:
    bench = Bench()
    short = replace(SAID, content="Fi", status=Status.INTERRUPTED)
    bench.conversations.rivals = [lambda document: replace(document, messages=[ASKED, short])]
    await bench.cancel("t1", 5)

    assert bench.messages[1] == short


@pytest.mark.parametrize(
    "meanwhile", [RUNNING, replace(TALK, messages=[ASKED, SAID, NEXT], ended=["t1", "t2"])]
)
async def test_a_turn_that_has_begun_meanwhile_is_not_cut_for_the_last_one(
    meanwhile: Conversation,
) -> None:
    bench = Bench()
    bench.conversations.rivals = [lambda _: meanwhile]
    await bench.cancel(None, 5)

    assert bench.messages == meanwhile.messages
