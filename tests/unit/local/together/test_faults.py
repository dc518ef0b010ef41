"""Faults: exact in what they let go wrong, and when."""

from __future__ import annotations

from typing import Any

from local.together.faults import FaultKind, Faults
from local.together.script import fault


def hits(one: dict[str, Any], *texts: str, stage: str = "chat", seed: int = 0) -> list[bool]:
    faults = Faults((fault(one),), seed)
    return [bool(faults.take(stage, text)) for text in texts]


def test_a_fault_hits_always_once_or_after_some() -> None:
    four = ("", "", "", "")
    assert hits({"kind": "chat.cut"}, *four) == [True] * 4
    assert hits({"kind": "chat.cut", "times": 1}, *four) == [True, False, False, False]
    assert hits({"kind": "chat.cut", "skip": 1, "times": 2}, *four) == [False, True, True, False]


def test_a_fault_hits_where_its_text_is() -> None:
    one = {"kind": "chat.cut", "match": "MARK", "times": 1}
    assert hits(one, "no", "a MARK", "a MARK") == [False, True, False]


def test_the_same_seed_throws_the_same_dice() -> None:
    one = {"kind": "chat.cut", "probability": 0.5}
    thrown = hits(one, *[""] * 200, seed=1)
    assert thrown == hits(one, *[""] * 200, seed=1)
    assert thrown != hits(one, *[""] * 200, seed=2)
    assert 60 < sum(thrown) < 140


def test_a_fault_belongs_to_its_stage() -> None:
    assert hits({"kind": "speech.abort"}, "") == [False]
    assert hits({"kind": "speech.refuse_context"}, "", stage="speech") == [False]
    assert hits({"kind": "speech.refuse_context"}, "", stage="speech.refuse_context") == [True]


def test_several_kinds_hit_together_but_of_one_kind_only_the_first() -> None:
    data = [
        {"kind": "chat.cut", "after": 1, "times": 1},
        {"kind": "chat.cut", "after": 2},
        {"kind": "chat.slow", "seconds": 1},
    ]
    faults = Faults(tuple(fault(one) for one in data))
    first, second = faults.take("chat", ""), faults.take("chat", "")
    assert set(first) == {FaultKind.CHAT_CUT, FaultKind.CHAT_SLOW}
    assert (first[FaultKind.CHAT_CUT].after, second[FaultKind.CHAT_CUT].after) == (1, 2)


def test_faults_come_and_go_and_are_counted() -> None:
    faults = Faults()
    number = faults.add(fault({"kind": "chat.empty"}))
    faults.take("chat", "")
    assert faults.hits(number) == 1
    assert faults.as_json()[0]["hits"] == 1
    assert faults.remove(number)
    assert not faults.remove(number)
    assert not faults.take("chat", "")
