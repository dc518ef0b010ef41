"""An attempt of a turn numbers its events and joins what was not yet taken."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from services.chat.turn import NEXT, State, Step, Turn, seconds_since
from shared.contract import Done, Failed, FinishReason, Reasoning, Started, Text, Usage
from shared.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

ERROR = Busy("x").as_error()


def start(turn: Turn) -> Started:
    return turn.started(model="m", metadata={"a": "b"}, speech=False, created_at="now")


def end(turn: Turn) -> Done:
    return turn.done(
        finish_reason=FinishReason.STOP,
        usage=Usage(1, 2),
        first_token_ms=5,
        duration_ms=9,
        metadata={"a": "b"},
    )


def begun() -> Turn:
    turn = Turn("c1", "t1", 2)
    start(turn)
    return turn


def test_events_are_numbered_without_a_gap() -> None:
    turn = Turn("c1", "t1", 3)
    events: list[Started | Text | Reasoning | Done | None] = [start(turn)]
    for word in ("a", "b"):
        turn.say(word)
        events.append(turn.take())
    events.append(end(turn))

    assert [e.seq for e in events if e] == [0, 1, 2, 3]
    assert {(e.conversation_id, e.turn_id, e.attempt) for e in events if e} == {("c1", "t1", 3)}


def test_a_start_says_what_is_asked_of_whom() -> None:
    assert start(Turn("c1", "t1")) == Started(
        "c1", "t1", 1, 0, model="m", metadata={"a": "b"}, speech=False, created_at="now"
    )


def test_what_waits_is_joined_and_taken_once() -> None:
    turn = begun()
    for word in ("The ", "sea ", "breathes."):
        turn.say(word)

    assert turn.take() == Text("c1", "t1", 2, 1, text="The sea breathes.")
    assert turn.take() is None


def test_thoughts_are_taken_before_words_and_never_joined_to_them() -> None:
    turn = begun()
    turn.think("Hm")
    turn.say("Yes")
    turn.think(", well")

    assert turn.take() == Reasoning("c1", "t1", 2, 1, text="Hm, well")
    assert turn.take() == Text("c1", "t1", 2, 2, text="Yes")
    assert turn.take() is None


def test_the_text_is_all_that_was_said_taken_or_not_and_no_thought() -> None:
    turn = begun()
    turn.say("a")
    turn.take()
    turn.think("never")
    turn.say("b")

    assert turn.text == "ab"


def test_an_end_holds_the_whole_text() -> None:
    turn = begun()
    turn.say("a")
    turn.take()
    turn.say("b")
    turn.take()

    assert end(turn) == Done(
        "c1",
        "t1",
        2,
        3,
        finish_reason=FinishReason.STOP,
        text="ab",
        usage=Usage(1, 2),
        first_token_ms=5,
        duration_ms=9,
        metadata={"a": "b"},
    )


def test_a_turn_that_only_started_is_silent() -> None:
    turn = Turn("c1", "t1")
    assert turn.silent
    start(turn)
    assert turn.silent


@pytest.mark.parametrize("take", [True, False])
def test_a_turn_that_said_or_thought_something_is_not_silent(*, take: bool) -> None:
    for speak in (Turn.say, Turn.think):
        turn = begun()
        speak(turn, "x")
        if take:
            turn.take()

        assert not turn.silent


def test_a_turn_may_fail_before_it_starts() -> None:
    assert Turn("c1", "t1").failed(ERROR) == Failed("c1", "t1", 1, 0, error=ERROR)


def test_a_turn_may_fail_after_it_started() -> None:
    assert begun().failed(ERROR) == Failed("c1", "t1", 2, 1, error=ERROR)


def test_a_turn_stopped_before_it_starts_is_done_and_empty() -> None:
    stopped = Turn("c1", "t1").stopped({"a": "b"}, duration_ms=70)

    assert stopped.finish_reason is FinishReason.CANCELLED
    assert (stopped.text, stopped.seq, stopped.metadata) == ("", 0, {"a": "b"})
    assert stopped.usage == Usage(None, None)
    assert stopped.duration_ms == 70


# ---------------------------------------------------------------- the table


def say(turn: Turn) -> None:
    turn.say("x")
    turn.take()


def over() -> Turn:
    turn = begun()
    end(turn)
    return turn


STATES: dict[State, Callable[[], Turn]] = {
    State.NEW: lambda: Turn("c1", "t1"),
    State.STARTED: begun,
    State.ENDED: over,
}
STEPS: dict[Step, Callable[[Turn], object]] = {
    Step.START: start,
    Step.SAY: say,
    Step.END: end,
    Step.REFUSE: lambda turn: turn.stopped({}, duration_ms=0),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("state", STATES)
def test_what_is_not_in_the_table_raises(state: State, step: Step) -> None:
    turn = STATES[state]()
    if (state, step) in NEXT:
        STEPS[step](turn)
    else:
        with pytest.raises(KeyError):
            STEPS[step](turn)


def test_nothing_follows_an_end() -> None:
    assert not [step for (before, step) in NEXT if before is State.ENDED]
    with pytest.raises(KeyError):
        over().failed(ERROR)


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        ("2026-01-02T03:04:05.000Z", 0.0),
        ("2026-01-02T03:04:07.250Z", 2.25),
        ("2026-01-02T03:03:00.000Z", 0.0),
    ],
)
def test_nobody_has_waited_for_less_than_nothing(now: str, seconds: float) -> None:
    assert seconds_since(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), now) == seconds
