"""Scripts: strict in what they take, exact in what they let go wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.scripts import BadScript, Fault, FaultKind, Faults, Script, changed, fault, script


def test_nothing_is_a_script_without_faults() -> None:
    assert script({}) == Script()


def test_a_script_survives_json() -> None:
    told = script(
        {
            "chat": {"replies": ["one", "two"], "answers": {"a": "b"}, "tokens_per_second": 7},
            "speech": {"done": "two_items"},
            "faults": [{"kind": "chat.cut", "after": 3, "times": 1}],
            "seed": 5,
        }
    )
    assert script(json.loads(json.dumps(told.as_json()))) == told
    assert told.chat.tokens_per_second == 7.0
    assert told.faults == (Fault(kind=FaultKind.CHAT_CUT, after=3, times=1),)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ([], "script: must be an object"),
        ({"caht": {}}, "script: unknown caht"),
        ({"chat": {"replys": []}}, "script.chat: unknown replys"),
        ({"chat": {"replies": "Hello"}}, "script.chat.replies: 'Hello' is not a list"),
        ({"chat": {"replies": [1]}}, r"script.chat.replies\[0\]"),
        ({"chat": {"answers": []}}, "script.chat.answers: .* is not an object"),
        ({"chat": {"tokens_per_second": "40"}}, "tokens_per_second: '40' is not float"),
        ({"chat": {"tokens_per_chunk": True}}, "tokens_per_chunk: True is not int"),
        ({"chat": {"first_token_ms": -1}}, "first_token_ms: -1.0 is below 0"),
        ({"speech": {"done": "sometimes"}}, "script.speech.done: 'sometimes' is not one of"),
        ({"faults": [{}]}, r"script.faults\[0\]: .*kind"),
        ({"faults": [{"kind": "chat.explode"}]}, r"script.faults\[0\].kind"),
        ({"faults": [{"kind": "chat.cut", "times": "once"}]}, "times: 'once' is not int"),
    ],
)
def test_a_mistake_is_named_with_its_place(data: Any, place: str) -> None:
    with pytest.raises(BadScript, match=place):
        script(data)


def test_a_change_leaves_what_it_does_not_name() -> None:
    before = script({"chat": {"replies": ["Hi."]}, "faults": [{"kind": "chat.cut"}]})
    after = changed(before, {"chat": {"tokens_per_second": 0}})
    assert after.chat.replies == ("Hi.",)
    assert after.chat.tokens_per_second == 0
    assert after.faults == before.faults
    assert changed(before, {"faults": []}).faults == ()


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
