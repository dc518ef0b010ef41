"""Fields that nothing knows are named."""

from __future__ import annotations

import pytest

from shared.contract import ChatRequest, SpeechRequest
from shared.unknown_fields import MAX_NAMED, unknown_fields


@pytest.mark.parametrize(
    ("body", "path", "nearest"),
    [
        ({"content": "Hi", "speach": False}, "speach", "speech"),
        ({"content": "Hi", "temprature": 1}, "temprature", "temperature"),
        ({"content": "Hi", "speech": {"voce": "x"}}, "speech.voce", "voice"),
        ({"messages": [{"role": "user", "contnet": "x"}]}, "messages[0].contnet", "content"),
        ({"content": "Hi", "on_bussy": "queue"}, "on_bussy", "on_busy"),
    ],
)
def test_a_misspelled_field_is_named_with_the_one_that_was_meant(
    body: dict[str, object], path: str, nearest: str
) -> None:
    (said,) = unknown_fields(body, ChatRequest)

    assert f"`{path}`" in said
    assert f"`{nearest}`" in said


def test_a_field_like_no_other_is_named_alone() -> None:
    (said,) = unknown_fields({"content": "Hi", "zzzzzz": 1}, ChatRequest)

    assert said == "`zzzzzz` is not known and was ignored"


def test_what_is_known_is_not_named() -> None:
    body = {
        "content": "Hi",
        "speech": {"voice": "x", "pronunciations": {"anything": "goes"}},
        "metadata": {"whatever": "you like"},
    }

    assert unknown_fields(body, ChatRequest) == []
    assert unknown_fields({"text": "Hi", "speech": {"speed": 1}}, SpeechRequest) == []
    assert unknown_fields({"content": "Hi", "speech": False}, ChatRequest) == []
    assert unknown_fields("plain", ChatRequest) == []


def test_a_message_full_of_them_is_not_answered_at_length() -> None:
    body = {f"x{number}" * 100: number for number in range(1000)}
    said = unknown_fields(body, ChatRequest)

    assert len(said) == MAX_NAMED
    assert max(map(len, said)) < 200
