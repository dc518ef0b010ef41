"""A conversation may ask so often in a minute, and use so many characters in a day."""

from __future__ import annotations

import pytest

from services.chat.allowance import DAY, MINUTE, Allowance
from shared.errors import Busy


def test_asks_within_a_minute_are_counted_and_forgotten_after_it() -> None:
    allowance = Allowance(2, 0)
    allowance.take("c", 1, 0)
    allowance.take("c", 1, 10)

    with pytest.raises(Busy, match="2 asks"):
        allowance.take("c", 1, MINUTE - 0.1)
    allowance.take("c", 1, MINUTE)
    with pytest.raises(Busy):
        allowance.take("c", 1, MINUTE + 1)


def test_one_conversation_s_asks_are_not_another_s() -> None:
    allowance = Allowance(1, 10)
    allowance.take("c", 10, 0)
    allowance.take("d", 10, 0)


def test_what_is_asked_and_what_is_answered_use_up_the_day() -> None:
    allowance = Allowance(0, 100)
    allowance.take("c", 40, 0)
    allowance.spend("c", 50, 1)
    allowance.take("c", 10, 2)

    with pytest.raises(Busy, match="100 characters of its day"):
        allowance.take("c", 1, 3)
    allowance.take("c", 1, DAY)


def test_what_is_refused_uses_up_nothing() -> None:
    allowance = Allowance(1, 100)
    with pytest.raises(Busy):
        allowance.take("c", 101, 0)
    allowance.take("c", 100, 0)


def test_none_of_both_is_any_number() -> None:
    allowance = Allowance(0, 0)
    for _ in range(1_000):
        allowance.take("c", 10**9, 0)


def test_only_so_many_conversations_are_remembered_the_quiet_ones_go_first() -> None:
    allowance = Allowance(1, 0, max_known=2)
    for name in ("a", "b"):
        allowance.take(name, 1, 0)
    allowance.spend("a", 1, 1)
    allowance.take("c", 1, 2)

    allowance.take("b", 1, 3)
    with pytest.raises(Busy):
        allowance.take("c", 1, 3)
