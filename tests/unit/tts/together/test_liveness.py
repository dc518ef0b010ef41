"""A socket that looks open, with a clock that only the test moves."""

from __future__ import annotations

import pytest

from services.tts.together.liveness import LATE, NO_ANSWER, SILENT, Liveness, Verdict


def asked() -> Liveness:
    """Something was asked at 100, on a socket last heard at 99; silent since, and pinged."""
    liveness = Liveness()
    liveness.expect(99.0, 100.0)
    assert liveness.look(99.0, 100.0 + SILENT) is Verdict.ASK
    return liveness


def test_a_dead_socket_is_noticed_within_two_seconds() -> None:
    assert SILENT + NO_ANSWER + LATE < 2.0


def test_silence_is_suspicious_only_after_something_was_asked() -> None:
    liveness = Liveness()
    liveness.expect(10.0, 100.0)
    assert liveness.look(10.0, 100.4) is Verdict.FINE
    assert liveness.due(10.0, 100.4) == 100.0 + SILENT
    assert liveness.look(10.0, 100.0 + SILENT) is Verdict.ASK


def test_what_is_asked_later_does_not_put_the_question_off() -> None:
    liveness = Liveness()
    liveness.expect(99.0, 100.0)
    liveness.expect(99.0, 100.4)
    assert liveness.look(99.0, 100.0 + SILENT) is Verdict.ASK


def test_any_byte_puts_the_question_off() -> None:
    liveness = Liveness()
    liveness.expect(99.0, 100.0)
    assert liveness.look(100.3, 100.6) is Verdict.FINE
    assert liveness.due(100.3, 100.6) == pytest.approx(100.3 + SILENT)


def test_without_an_answer_it_is_dead() -> None:
    liveness = asked()
    pinged = 100.0 + SILENT
    assert liveness.look(99.0, pinged + NO_ANSWER - 0.01) is Verdict.FINE
    assert liveness.due(99.0, pinged + 0.1) == pinged + NO_ANSWER
    assert liveness.look(99.0, pinged + NO_ANSWER) is Verdict.DEAD


def test_any_byte_is_an_answer() -> None:
    liveness = asked()
    assert liveness.look(100.9, 101.2) is Verdict.FINE
    assert liveness.look(100.9, 100.9 + SILENT) is Verdict.ASK


def test_who_stood_still_asks_again() -> None:
    liveness = asked()
    late = 100.0 + SILENT + NO_ANSWER + LATE
    assert liveness.look(99.0, late) is Verdict.ASK
    assert liveness.look(99.0, late + NO_ANSWER) is Verdict.DEAD


def test_a_ping_of_an_earlier_turn_says_nothing_of_the_next() -> None:
    liveness = Liveness()
    liveness.expect(100.0, 99.0)
    assert liveness.look(100.0, 101.0) is Verdict.ASK  # and the turn was left
    liveness.expect(100.0, 200.0)
    assert liveness.look(100.0, 200.1) is Verdict.FINE
    assert liveness.due(100.0, 200.1) == 200.0 + SILENT


def test_a_socket_at_rest_may_be_dead() -> None:
    liveness = Liveness(idle_check=10.0)
    assert not liveness.at_rest(100.0, 109.9)
    assert liveness.at_rest(100.0, 110.0)
