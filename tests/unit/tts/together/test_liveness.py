"""A socket that looks open, with a clock that only the test moves."""

from __future__ import annotations

import math

import pytest

from services.tts.together.liveness import (
    LATE_MIN,
    REST,
    SILENT,
    STOOD_STILL,
    Liveness,
    Verdict,
    answer_due,
)

QUICK = 0.01  # seconds that a pong usually takes
PINGED = 100.0 + SILENT


def asked() -> Liveness:
    """Something was asked at 100, on a socket last heard at 99; silent since, and pinged."""
    liveness = Liveness()
    liveness.expect(99.0, 100.0)
    assert liveness.look(99.0, PINGED, QUICK, due=True) is Verdict.ASK
    return liveness


@pytest.mark.parametrize(
    ("slowest", "seconds"), [(None, math.inf), (0.01, 2.0), (0.5, 2.0), (3.0, 12.0)]
)
def test_an_answer_is_late_by_what_is_usual_there(slowest: float | None, seconds: float) -> None:
    assert answer_due(slowest) == seconds


def test_silence_is_suspicious_only_after_something_was_asked() -> None:
    liveness = Liveness()
    liveness.expect(90.0, 100.0)
    assert liveness.look(90.0, 100.2, QUICK, due=True) is Verdict.FINE
    assert liveness.next_look(90.0, QUICK, due=True) == PINGED
    assert liveness.look(90.0, PINGED, QUICK, due=True) is Verdict.ASK


def test_what_is_asked_later_does_not_put_the_question_off() -> None:
    liveness = Liveness()
    liveness.expect(99.0, 100.0)
    liveness.expect(99.0, 100.2)
    assert liveness.look(99.0, PINGED, QUICK, due=True) is Verdict.ASK


def test_any_byte_puts_the_question_off() -> None:
    liveness = Liveness()
    liveness.expect(99.0, 100.0)
    assert liveness.look(100.3, 100.5, QUICK, due=True) is Verdict.FINE
    assert liveness.next_look(100.3, QUICK, due=True) == pytest.approx(100.3 + SILENT)


def test_without_an_answer_it_is_dead() -> None:
    liveness = asked()
    late = PINGED + LATE_MIN
    assert liveness.look(99.0, late - 0.01, QUICK, due=True) is Verdict.FINE
    assert liveness.next_look(99.0, QUICK, due=True) == late
    assert liveness.look(99.0, late, QUICK, due=True) is Verdict.DEAD


def test_who_takes_three_seconds_for_a_pong_is_not_dead_before_twelve() -> None:
    liveness = asked()
    assert liveness.look(99.0, PINGED + 11.9, 3.0, due=True) is Verdict.FINE
    assert liveness.look(99.0, PINGED + 12.0, 3.0, due=True) is Verdict.DEAD


def test_who_never_answers_a_ping_is_never_dead_by_that() -> None:
    liveness = Liveness()
    liveness.expect(99.0, 100.0)
    verdicts = [liveness.look(99.0, 100.0 + second, None, due=True) for second in range(120)]
    assert set(verdicts) == {Verdict.FINE, Verdict.ASK}
    assert verdicts.count(Verdict.ASK) <= 1 + 120 / REST


def test_any_byte_is_an_answer() -> None:
    liveness = asked()
    assert liveness.look(100.9, 101.0, QUICK, due=True) is Verdict.FINE
    assert liveness.look(100.9, 100.9 + SILENT, QUICK, due=True) is Verdict.ASK


def test_who_stood_still_asks_again() -> None:
    liveness = asked()
    late = PINGED + LATE_MIN + STOOD_STILL
    assert liveness.look(99.0, late, QUICK, due=True) is Verdict.ASK
    assert liveness.look(99.0, late + LATE_MIN, QUICK, due=True) is Verdict.DEAD


def test_a_ping_of_an_earlier_turn_says_nothing_of_the_next() -> None:
    liveness = Liveness()
    liveness.expect(100.0, 101.0)
    assert liveness.look(100.0, 102.0, QUICK, due=True) is Verdict.ASK  # and the turn was left
    liveness.expect(103.0, 110.0)
    assert liveness.look(103.0, 110.1, QUICK, due=True) is Verdict.FINE
    assert liveness.next_look(103.0, QUICK, due=True) == 110.0 + SILENT


def test_after_a_rest_it_is_asked_at_once() -> None:
    liveness = Liveness()
    liveness.expect(100.0, 100.0 + REST)
    assert liveness.look(100.0, 100.0 + REST, QUICK, due=True) is Verdict.ASK


def test_at_rest_it_is_asked_now_and_then() -> None:
    liveness = Liveness()
    assert liveness.look(100.0, 100.0 + REST - 0.1, QUICK, due=False) is Verdict.FINE
    assert liveness.look(100.0, 100.0 + REST, QUICK, due=False) is Verdict.ASK
    assert liveness.next_look(100.0, QUICK, due=False) == 100.0 + REST + LATE_MIN
    assert liveness.look(100.0, 100.0 + REST + LATE_MIN, QUICK, due=False) is Verdict.DEAD


def test_a_ping_sent_at_rest_is_not_counted_against_audio_that_was_asked_for_later() -> None:
    liveness = Liveness()
    assert liveness.look(100.0, 100.0 + REST, QUICK, due=False) is Verdict.ASK
    liveness.expect(100.0, 101.0 + REST)
    assert liveness.look(100.0, 101.0 + REST, QUICK, due=True) is Verdict.ASK
    assert liveness.next_look(100.0, QUICK, due=True) == 101.0 + REST + LATE_MIN
