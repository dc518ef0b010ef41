"""Scripts: strict in what they take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.together.faults import Fault, FaultKind
from local.together.script import BadScript, Script, changed, script


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
