"""A request is refused, waits, is answered or ends without a start; only then is it acked."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from services.chat.answer import GivenUp
from services.chat.conversation import Conversation
from services.chat.handle import Admission, Dependencies, KnownTurns, handle
from services.chat.held_turns import HeldTurns
from shared.contract import (
    AudioFailed,
    CancelRequest,
    ChatRequest,
    Code,
    Done,
    Failed,
    FinishReason,
    Message,
    Role,
    Speech,
    SpeechRequest,
    Usage,
)
from shared.errors import (
    Busy,
    Cancelled,
    Failure,
    Internal,
    InvalidRequest,
    NatsError,
    Superseded,
    Unreadable,
)
from shared.process.cancel import CancelToken
from tests.fakes import (
    Clock,
    ListedVoices,
    MemoryConversations,
    MemoryDeadLetters,
    MemoryEnds,
    Places,
    Queued,
    ScriptedQueue,
    SentCancels,
    SteadyVoice,
)

if TYPE_CHECKING:
    from services.chat.ports import Answering

FAILED = Failed("c1", "t1", 6, 0, error=Internal("begun 5 times").as_error())
DONE = Done(
    "c1",
    "t1",
    1,
    1,
    finish_reason=FinishReason.STOP,
    text="Water that comes and goes.",
    usage=Usage(1, 2),
    first_token_ms=3,
    duration_ms=4,
    metadata={},
)


@dataclass
class Bench:
    """One worker with its fakes; `journal` tells what it did, in order."""

    queue: ScriptedQueue = field(default_factory=ScriptedQueue)
    answers: list[Done | Failed | Exception | None] = field(default_factory=lambda: [DONE])
    speech: bool = True
    max_queued: int = 20

    def __post_init__(self) -> None:
        self.journal: list[str] = []
        self.conversations = MemoryConversations(self.journal)
        self.slots, self.ending = Places(), Places()
        self.held = HeldTurns(CancelToken)
        self.cancels = SentCancels()
        self.voices = ListedVoices()
        self.ends = MemoryEnds(self.journal)
        self.dead_letters = MemoryDeadLetters(self.journal)
        self.clock = Clock()
        self.answering: Answering = self._answer
        self.asked: list[ChatRequest] = []
        self.refused: list[Failure] = []
        self.ended: list[tuple[Done | Failed, float]] = []

    async def _answer(self, request: ChatRequest, stop: CancelToken) -> Done | Failed | None:
        assert (self.slots.inside, self.held.running, stop.cancelled) == (1, 1, False)
        self.asked.append(request)
        self.journal.append("answered")
        self.clock.seconds += 2
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def take(self, body: bytes | None = None, **fields: Any) -> None:
        """One delivery of the message; the same body is the same message."""
        asked = {"content": "What is a tide?", "turn_id": "t1"} | fields
        data = json.dumps(asked).encode() if body is None else body
        needs = Dependencies(
            conversations=self.conversations,
            queue=self.queue,
            slots=self.slots,
            held=self.held,
            cancels=self.cancels,
            voices=self.voices,
            heard=SteadyVoice(),
            ends=self.ends,
            ending=self.ending,
            turns=KnownTurns(self.conversations, self.ends),
            dead_letters=self.dead_letters,
            count_refused=self.refused.append,
            count_ended=lambda end, seconds: self.ended.append((end, seconds)),
            trace_unstarted=lambda *_: None,
            clock=self.clock,
        )
        admission = Admission(max_bytes=1_000, max_queued=self.max_queued, speech=self.speech)
        try:
            await handle(Queued(data, journal=self.journal), self.answering, admission, needs)
        finally:
            assert (self.held.running, self.held.waiting) == (0, 0)
            assert (self.slots.inside, self.ending.inside, self.queue.places) == (0, 0, 0)

    @property
    def end(self) -> Done | Failed:
        """Of a turn that never began."""
        (end,) = self.ends.texts.values()
        return end

    @property
    def voice_end(self) -> SpeechRequest | AudioFailed:
        (end,) = self.ends.voices.values()
        return end


def error_of(end: object) -> Code:
    assert isinstance(end, Failed | AudioFailed), end
    return end.error.code


# ---------------------------------------------------------------- answered


async def test_a_request_is_answered_and_then_acked() -> None:
    bench = Bench()
    await bench.take(metadata={"a": "b"})

    assert bench.journal == ["answered", "ack"]
    assert bench.asked == [
        ChatRequest(
            content="What is a tide?", conversation_id="c1", turn_id="t1", metadata={"a": "b"}
        )
    ]
    assert bench.queue.moved == ["c1"]


async def test_its_end_and_its_time_are_counted() -> None:
    bench = Bench()
    await bench.take()

    assert bench.ended == [(DONE, 2.0)]
    assert bench.refused == []


async def test_a_turn_that_had_ended_before_is_acked_and_not_counted() -> None:
    bench = Bench(answers=[None])
    await bench.take()

    assert bench.journal == ["answered", "ack"]
    assert bench.ended == []


async def test_a_turn_that_was_begun_too_often_is_a_dead_letter() -> None:
    bench = Bench(answers=[GivenUp("begun 5 times", FAILED)])
    await bench.take()

    assert bench.journal == ["answered", "dead letter", "ack"]
    assert bench.ended == [(FAILED, 2.0)]


@pytest.mark.parametrize("error", [Superseded(), NatsError("away"), RuntimeError("a bug")])
async def test_who_cannot_go_on_leaves_the_message_to_another_delivery(error: Exception) -> None:
    bench = Bench(answers=[error])
    with pytest.raises(type(error)):
        await bench.take()

    assert bench.journal == ["answered"]
    assert bench.queue.moved == ["c1"]


async def test_a_loop_that_asks_too_often_is_told_so() -> None:
    bench = Bench(answers=[Busy("120 turns of this conversation in a minute")])
    await bench.take()

    assert bench.journal == ["answered", "failed", "voice", "ack"]
    assert error_of(bench.end) is Code.BUSY


# ---------------------------------------------------------------- refused


async def test_what_cannot_be_understood_is_refused_and_acked() -> None:
    bench = Bench()
    await bench.take(content=5)

    assert bench.journal == ["failed", "dead letter", "ack"]
    assert error_of(bench.end) is Code.INVALID_REQUEST
    assert (bench.end.conversation_id, bench.end.turn_id) == ("c1", "t1")
    assert [error.code for error in bench.refused] == [Code.INVALID_REQUEST]
    assert bench.asked == []


async def test_what_is_too_large_is_refused() -> None:
    bench = Bench()
    await bench.take(content="x" * 1_000)

    assert error_of(bench.end) is Code.TOO_LARGE


async def test_a_bad_copy_of_a_good_request_does_not_end_its_turn() -> None:
    bench = Bench()
    bench.conversations.put("c1", Conversation(ended=["t1"]))
    await bench.take(content=5)

    assert bench.journal == ["dead letter", "ack"]


async def test_where_nats_is_away_a_refusal_is_done_again() -> None:
    bench = Bench()
    bench.ends.away = 1
    with pytest.raises(NatsError):
        await bench.take(content=5)
    assert bench.journal == []
    await bench.take(content=5)

    assert bench.journal == ["failed", "dead letter", "ack"]
    assert isinstance(bench.dead_letters.letters[0][1], InvalidRequest)


# ---------------------------------------------------------------- waiting


async def test_a_request_waits_until_all_before_it_are_gone() -> None:
    bench = Bench(ScriptedQueue(["a", "b"], ["b"], ["b"], []))
    bench.queue.on_wait = lambda: bench.journal.append("waits")
    await bench.take()

    assert bench.journal == ["waits"] * 3 + ["answered", "ack"]


async def test_who_waits_takes_no_slot() -> None:
    bench = Bench(ScriptedQueue(["a"], []))

    def look() -> None:
        assert (bench.slots.taken, bench.held.waiting) == (0, 1)

    bench.queue.on_wait = look
    await bench.take()

    assert bench.slots.taken == 1


async def test_a_turn_that_stands_in_the_queue_already_is_acked_at_once() -> None:
    bench = Bench(ScriptedQueue(["a", "t1"]))
    await bench.take()

    assert bench.journal == ["ack"]
    assert bench.ended == []


async def test_a_request_whose_message_is_gone_leaves_it_to_others() -> None:
    bench = Bench(ScriptedQueue(["a"], Superseded()))
    with pytest.raises(Superseded):
        await bench.take()

    assert bench.journal == []


async def test_where_nats_is_away_a_request_waits_again_in_another_delivery() -> None:
    bench = Bench(ScriptedQueue(["a"], NatsError("away"), []))
    with pytest.raises(NatsError):
        await bench.take()
    await bench.take()

    assert bench.journal == ["answered", "ack"]


async def test_no_more_is_read_of_a_flood_than_decides() -> None:
    bench = Bench(ScriptedQueue([str(n) for n in range(500)]))
    await bench.take()

    assert bench.queue.limits == [21]


async def test_an_interrupting_request_stops_each_turn_before_it() -> None:
    bench = Bench(ScriptedQueue(["a", "b"], ["a", "b"], ["b"], []))
    await bench.take(on_busy="interrupt")

    assert bench.cancels.sent == [CancelRequest("c1", name) for name in "aab"]
    assert bench.journal == ["answered", "ack"]


async def test_an_interrupting_request_stops_voices_whose_text_is_done_but_not_its_own() -> None:
    bench = Bench()
    bench.voices.spoken = ["a", "b", "t1"]
    bench.cancels.on_cancel = lambda _request: bench.journal.append("stops")
    await bench.take(on_busy="interrupt")

    assert bench.cancels.sent == [CancelRequest("c1", "a"), CancelRequest("c1", "b")]
    assert bench.journal == ["stops", "stops", "answered", "ack"]


async def test_of_the_voice_that_an_interruption_stops_the_history_keeps_what_was_heard() -> None:
    bench = Bench()
    bench.voices.spoken = ["a", "b"]
    said = [
        Message(f"{turn}.{n}", role, "Fine, thanks.", turn, "then")
        for turn in "ab"
        for n, role in enumerate((Role.USER, Role.ASSISTANT))
    ]
    bench.conversations.put("c1", Conversation(messages=said, ended=["a", "b"]))
    await bench.take(on_busy="interrupt", heard_ms=5)

    kept = [message.content for message in bench.conversations["c1"].messages]
    assert kept == ["Fine, thanks.", "Fine, thanks.", "Fine, thanks.", "Fine,"]
    assert bench.journal == ["save", "answered", "ack"]


async def test_what_was_heard_is_told_to_who_says_the_text_that_is_interrupted() -> None:
    bench = Bench(ScriptedQueue(["b"], ["b"], []))
    bench.voices.spoken = ["a", "b"]
    await bench.take(on_busy="interrupt", heard_ms=5)

    assert bench.cancels.sent[0] == CancelRequest("c1", "a")
    assert set(bench.cancels.sent[1:]) == {CancelRequest("c1", "b", 5)}


async def test_a_repeat_of_an_interrupting_request_interrupts_nobody() -> None:
    bench = Bench(ScriptedQueue(["t1"]))
    bench.voices.spoken = ["a", "t1"]
    await bench.take(on_busy="interrupt")

    assert bench.cancels.sent == []


async def test_a_waiting_request_stops_nobody() -> None:
    bench = Bench(ScriptedQueue(["a"], []))
    await bench.take()

    assert bench.cancels.sent == []


# ---------------------------------------------------------------- an end without a start


async def test_a_request_that_does_not_want_to_wait_is_told_so() -> None:
    bench = Bench(ScriptedQueue(["a"]))
    await bench.take(on_busy="reject")

    assert bench.journal == ["failed", "voice", "ack"]
    assert error_of(bench.end) is Code.BUSY
    assert bench.queue.waits == 0
    assert bench.ended == [(bench.end, 0.0)]
    assert (bench.slots.taken, bench.ending.taken) == (0, 1)


async def test_a_request_too_many_is_told_so() -> None:
    bench = Bench(ScriptedQueue(["a", "b", "c"]), max_queued=2)
    await bench.take()

    assert isinstance(bench.end, Failed)
    assert bench.end.error.message.startswith("2 requests")
    assert bench.end.error.retryable


async def test_the_voice_of_a_refused_turn_fails_without_work_for_a_speech_worker() -> None:
    bench = Bench(ScriptedQueue(["a"]))
    await bench.take(on_busy="reject")

    assert isinstance(bench.end, Failed)
    assert bench.voice_end == AudioFailed("c1", "t1", 1, error=bench.end.error)


def cancelled_while_it_waits(heard_ms: int | None = None, *, speech: bool = True) -> Bench:
    bench = Bench(ScriptedQueue(["a"]), speech=speech)
    bench.queue.on_wait = lambda: bench.held.cancel(CancelRequest("c1", "t1", heard_ms))
    return bench


async def test_a_request_that_is_stopped_while_it_waits_is_done_and_empty() -> None:
    bench = cancelled_while_it_waits()
    await bench.take(metadata={"a": "b"})

    assert isinstance(bench.end, Done)
    assert (bench.end.finish_reason, bench.end.text) == (FinishReason.CANCELLED, "")
    assert bench.end.metadata == {"a": "b"}
    waited = timedelta(hours=3, minutes=4, seconds=5, milliseconds=678)
    assert bench.end.duration_ms == waited / timedelta(milliseconds=1)
    assert bench.journal == ["done", "voice", "save", "ack"]
    assert bench.asked == []


async def test_a_turn_that_was_stopped_while_it_waited_is_never_answered_later() -> None:
    bench = cancelled_while_it_waits()
    await bench.take()

    assert bench.conversations["c1"].ended == ["t1"]


async def test_a_stop_that_cannot_be_remembered_ends_the_turn_all_the_same() -> None:
    bench = cancelled_while_it_waits()
    bench.conversations.fill()
    await bench.take()

    assert isinstance(bench.end, Done)
    assert bench.journal == ["done", "voice", "ack"]


async def test_where_no_more_voices_may_wait_one_that_is_to_be_ended_fails() -> None:
    bench = cancelled_while_it_waits()
    bench.ends.full = True
    await bench.take()

    assert error_of(bench.voice_end) is Code.BUSY
    assert bench.journal[-1] == "ack"


async def test_a_turn_that_is_found_stopped_ends_as_if_it_had_waited() -> None:
    bench = Bench(answers=[Cancelled()])
    await bench.take()

    assert isinstance(bench.end, Done)
    assert bench.end.finish_reason is FinishReason.CANCELLED
    assert bench.journal == ["answered", "done", "voice", "save", "ack"]


async def test_a_stop_says_nothing_of_a_request_that_somebody_else_has_dealt_with() -> None:
    bench = Bench(ScriptedQueue(["a"], Superseded()))
    bench.queue.on_wait = lambda: bench.held.cancel(CancelRequest("c1", "t1"))
    with pytest.raises(Superseded):
        await bench.take()

    assert bench.journal == []


async def test_a_turn_that_waits_for_a_slot_is_stopped_without_one() -> None:
    bench = Bench()
    stopped: list[bool] = []

    async def answer(request: ChatRequest, stop: CancelToken) -> Done:
        assert request.turn_id == "t1"
        stopped.append(stop.cancelled)
        return DONE

    bench.slots.full = True
    bench.slots.on_wait = lambda: bench.held.cancel(CancelRequest("c1", "t1"))
    bench.answering = answer
    async with asyncio.timeout(30):
        await bench.take()

    assert stopped == [True]
    assert bench.journal == ["ack"]


async def test_the_voice_of_a_stopped_turn_is_ended_by_a_speech_worker() -> None:
    bench = cancelled_while_it_waits()
    await bench.take(speech={"voice": "v"})

    assert bench.voice_end == SpeechRequest("c1", "t1", Speech(voice="v"), start_sequence=101)


async def test_a_turn_without_a_voice_ends_without_one() -> None:
    stopped, rejected = cancelled_while_it_waits(), Bench(ScriptedQueue(["a"]))
    await stopped.take(speech=False)
    await rejected.take(speech=False, on_busy="reject")

    assert stopped.journal == ["done", "save", "ack"]
    assert rejected.journal == ["failed", "ack"]


async def test_where_the_service_does_not_speak_no_voice_ends() -> None:
    bench = cancelled_while_it_waits(speech=False)
    await bench.take()

    assert bench.journal == ["done", "save", "ack"]


@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_where_nats_is_away_an_end_without_a_start_is_told_again_and_once(
    failures: int,
) -> None:
    bench = Bench(ScriptedQueue(["a"]))
    for _ in range(failures):
        bench.ends.away = 1
        with pytest.raises(NatsError):
            await bench.take(on_busy="reject")
        assert "ack" not in bench.journal
    await bench.take(on_busy="reject")

    assert len(bench.ends.texts) == len(bench.ends.voices) == 1
    assert bench.journal[-1] == "ack"


# ---------------------------------------------------------------- known turns


@pytest.mark.parametrize(("turn_id", "known"), [("t1", True), ("t2", False)])
async def test_a_turn_is_known_by_its_conversation_s_document(turn_id: str, *, known: bool) -> None:
    bench = Bench()
    bench.conversations.put("c1", Conversation(ended=["t1"]))

    assert await KnownTurns(bench.conversations, bench.ends).knows("c1", turn_id) is known


# ---------------------------------------------------------------- a document that nobody can read


async def test_in_a_conversation_that_cannot_be_read_a_request_ends_as_a_dead_letter() -> None:
    bench = Bench(answers=[Unreadable("a conversation")])
    await bench.take()

    assert error_of(bench.end) == error_of(bench.voice_end) == Code.INTERNAL
    assert bench.journal[-2:] == ["dead letter", "ack"]


async def test_in_a_conversation_that_cannot_be_read_a_bad_request_is_refused_all_the_same() -> (
    None
):
    bench = Bench()
    bench.conversations.damage("c1")
    await bench.take(b'{"content": 5}')

    assert error_of(bench.end) == Code.INVALID_REQUEST
    assert bench.journal[-2:] == ["dead letter", "ack"]
