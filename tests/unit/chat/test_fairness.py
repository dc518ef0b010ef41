"""Conversations take turns; within one, the order stays."""

from __future__ import annotations

import random

from services.chat.fairness import in_turns


def turns(names: str, count: int) -> str:
    chosen = in_turns(enumerate(names), lambda item: item[1], count)
    return "".join(name for _, name in chosen)


def test_who_comes_after_a_flood_is_next() -> None:
    assert turns("aaaaaaaaab", 4) == "abaa"


def test_all_are_taken_when_there_is_room() -> None:
    assert turns("aab", 10) == "aba"
    assert turns("", 10) == ""


def test_no_more_than_asked_for() -> None:
    assert turns("abcdef", 4) == "abcd"
    assert turns("abc", 0) == ""


def test_the_order_within_a_conversation_stays() -> None:
    dice = random.Random(7)
    for _ in range(200):
        items = [(n, dice.choice("abcd")) for n in range(dice.randint(0, 40))]
        chosen = in_turns(items, lambda item: item[1], dice.randint(0, 40))
        for name in "abcd":
            own = [item for item in items if item[1] == name]
            got = [item for item in chosen if item[1] == name]
            assert got == own[: len(got)]
