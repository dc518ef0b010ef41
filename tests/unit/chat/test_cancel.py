"""A stop: whom nobody holds is found stopped later; the history keeps what was heard."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.chat.cancel import Dependencies, cancel
from services.chat.conversation import Conversation, TurnRecord
from shared.contract import CancelRequest, Message, Role, Status
from tests.fakes import ListedVoices, MemoryConversations, ScriptedQueue, SteadyVoice

ASKED = Message("t1.0", Role.USER, "How are you?", "t1", "then")
SAID = Message("t1.a", Role.ASSISTANT, "Fine, thanks.", "t1", "later")
CUT = replace(SAID, content="Fine,", status=Status.INTERRUPTED)
TALK = Conversation(messages=[ASKED, SAID], ended=["t1"])
RUNNING = replace(TALK, turn=TurnRecord("t2", 1, 1, "e", "now"))


class Bench:
    """The voice of t1 is under way while its text has ended."""

    def __init__(self, document: Conversation = TALK, characters: int | None = 1_000) -> None:
        self.conversations = MemoryConversations()
        self.conversations.put("c1", document)
        self.voice = SteadyVoice(characters)
        self.voices = ListedVoices()
        self.voices.spoken = ["t1"]
        self.queue = ScriptedQueue()

    async def cancel(self, turn_id: str | None = None, heard_ms: int | None = None) -> None:
        needs = Dependencies(
            conversations=self.conversations,
            queue=self.queue,
            voices=self.voices,
            heard=self.voice,
        )
        await cancel(CancelRequest("c1", turn_id, heard_ms), needs)

    @property
    def messages(self) -> list[Message]:
        return self.conversations["c1"].messages

    @property
    def stops(self) -> dict[str, int | None]:
        return self.conversations["c1"].stops


# ---------------------------------------------------------------- what was heard


@pytest.mark.parametrize("turn_id", ["t1", None])
async def test_an_answer_is_cut_to_what_was_heard(turn_id: str | None) -> None:
    bench = Bench()
    await bench.cancel(turn_id, 5)

    assert bench.messages == [ASKED, CUT]


async def test_the_voice_is_read_from_the_turn_s_beginning() -> None:
    bench = Bench()
    await bench.cancel("t1", 5)

    assert bench.voice.asked == [("c1", "t1", "then")]


async def test_an_answer_that_nobody_heard_is_not_kept() -> None:
    bench = Bench()
    await bench.cancel("t1", 0)

    assert bench.messages == [ASKED]


@pytest.mark.parametrize("turn_id", ["t1", None])
@pytest.mark.parametrize("heard_ms", [0, 5])
async def test_an_answer_without_a_voice_stays_as_it_is(turn_id: str | None, heard_ms: int) -> None:
    bench = Bench(characters=None)
    await bench.cancel(turn_id, heard_ms)

    assert bench.messages == [ASKED, SAID]


async def test_without_a_turn_id_nothing_is_meant_where_no_voice_is_under_way() -> None:
    bench = Bench()
    bench.voices.spoken = []
    await bench.cancel(None, 5)

    assert bench.messages == [ASKED, SAID]


async def test_without_a_turn_id_the_newest_voice_is_meant() -> None:
    asked, said = replace(ASKED, turn_id="t2"), replace(SAID, turn_id="t2")
    bench = Bench(replace(TALK, messages=[ASKED, SAID, asked, said], ended=["t1", "t2"]))
    bench.voices.spoken = ["t1", "t2"]
    await bench.cancel(None, 5)

    assert [message.content for message in bench.messages[1::2]] == ["Fine, thanks.", "Fine,"]


async def test_a_voice_that_was_faster_to_stop_than_we_were_to_look_is_meant() -> None:
    bench = Bench()
    bench.voices.spoken, bench.voices.stopped = [], "t1"
    await bench.cancel(None, 5)

    assert bench.messages == [ASKED, CUT]


async def test_a_second_stop_without_a_turn_id_changes_nothing() -> None:
    bench = Bench()
    await bench.cancel(None, 5)
    bench.voices.spoken, bench.voices.stopped = [], "t1"
    await bench.cancel(None, 0)

    assert bench.messages == [ASKED, CUT]


@pytest.mark.parametrize(("turn_id", "heard_ms"), [(None, None), ("t1", 99_000), ("t9", 5)])
async def test_what_was_heard_whole_or_not_told_changes_nothing(
    turn_id: str | None, heard_ms: int | None
) -> None:
    bench = Bench()
    await bench.cancel(turn_id, heard_ms)

    assert bench.conversations.saves == 0


async def test_without_a_turn_id_the_turn_under_way_is_left_to_its_worker() -> None:
    bench = Bench(RUNNING)
    await bench.cancel(None, 5)

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


# ---------------------------------------------------------------- whom nobody holds


@pytest.mark.parametrize("heard_ms", [None, 5])
async def test_a_stop_of_the_turn_under_way_is_remembered(heard_ms: int | None) -> None:
    bench = Bench(RUNNING)
    await bench.cancel("t2", heard_ms)

    assert bench.stops == {"t2": heard_ms}


async def test_a_stop_of_a_turn_that_waits_is_remembered() -> None:
    bench = Bench()
    bench.queue.holding = {("c1", "t2")}
    await bench.cancel("t2")

    assert bench.stops == {"t2": None}


async def test_the_first_stop_counts() -> None:
    bench = Bench(RUNNING)
    await bench.cancel("t2", 5)
    await bench.cancel("t2")

    assert bench.stops == {"t2": 5}


@pytest.mark.parametrize("turn_id", ["t1", "t9"])
async def test_a_stop_of_a_turn_that_has_ended_or_is_unknown_is_forgotten(turn_id: str) -> None:
    bench = Bench()
    await bench.cancel(turn_id)

    assert bench.conversations.saves == 0
