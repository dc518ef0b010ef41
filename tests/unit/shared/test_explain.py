"""A message that is refused is told which field it is, what it says, and what is allowed."""

from __future__ import annotations

import json

import msgspec
import pytest

from shared.contract import ChatRequest, HistoryRequest, ReplayRequest
from shared.explain import MAX_SHOWN, explain


def explained(data: bytes | dict[str, object], kind: type = ChatRequest) -> str:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)) as caught:
        msgspec.json.decode(body, type=kind)
    return explain(caught.value, body, kind)


ID = "1 to 64 letters (A to Z, a to z), digits, _ and -"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"turn_id": "a b"}, f'`turn_id` is "a b", but must be {ID}'),
        ({"conversation_id": 5}, f"`conversation_id` is 5, but must be {ID}"),
        ({"content": 5}, "`content` is 5, but must be text"),
        ({"content": {"key": "secret"}}, "`content` is an object, but must be text"),
        (
            {"speech": {"format": "midi"}},
            '`speech.format` is "midi", but must be one of wav, flac, mp3, opus, aac, pcm',
        ),
        ({"on_busy": None}, "`on_busy` is null, but must be one of queue, interrupt, reject"),
        ({"speech": {"speed": 9}}, "`speech.speed` is 9, but must be a number of 0.25 to 4"),
        ({"speech": 5}, "`speech` is 5, but must be an object or false"),
        ({"max_tokens": 0}, "`max_tokens` is 0, but must be a whole number of 1 and more"),
        ({"max_tokens": 1.5}, "`max_tokens` is 1.5, but must be a whole number of 1 and more"),
        ({"model": ""}, '`model` is "", but must be text of 1 to 200 characters'),
        ({"stop": [1]}, "`stop[0]` is 1, but must be text"),
        ({"stop": ["x"] * 17}, "`stop` is a list of 17, but must be a list of at most 16"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "usr", "content": "x"}]},
            '`messages[1].role` is "usr", but must be one of system, user, assistant',
        ),
        ({"messages": [{"role": "user"}]}, "`messages[0].content` is missing"),
        ({"metadata": {"a": "b", "c.d": 1}}, "`metadata.c.d` is 1, but must be text"),
        (
            {"speech": {"pronunciations": {"NATS": "nats", "24/7": "always"}}},
            (
                '`speech.pronunciations (a key)` is "24/7", '
                "but must be text of at most 200 characters without a /"
            ),
        ),
        (
            {"speech": {"max_partial_length": 1}},
            "`speech.max_partial_length` is 1, but must be a whole number of 20 to 10000",
        ),
        ([], "the body is a list of 0, but must be an object"),
        (b'{"temperature":1e999}', "`temperature` must be a number of 0 to 2"),
        (b'{"seed":' + b"1" * 5_000 + b"}", "`seed` must be a whole number"),
        (b"{", "the body is not JSON: Input data was truncated"),
    ],
)
def test_field_value_and_what_is_allowed_are_said(
    body: bytes | dict[str, object], words: str
) -> None:
    assert explained(body) == words


def test_what_is_missing_at_the_top_is_named() -> None:
    assert explained({}, ReplayRequest) == "`what` is missing"


def test_a_field_that_is_called_otherwise_on_the_wire_has_that_name() -> None:
    said = explained({"what": "delta", "from": -1}, ReplayRequest)

    assert said == "`from` is -1, but must be a whole number of 0 to 9007199254740991"


def test_of_a_long_value_the_beginning_is_said() -> None:
    said = explained({"before": "x" * 1_000}, HistoryRequest)

    assert '`before` is "xxx' in said
    assert len(said) < MAX_SHOWN + 80


@pytest.mark.parametrize("kind", [ChatRequest, ReplayRequest, HistoryRequest])
@pytest.mark.parametrize("body", [b"null", b"5", b'"x"', b"\xff", b"", b"[[", b'{"a":\xff}'])
def test_whatever_it_is_it_is_explained_without_a_regular_expression(
    kind: type, body: bytes
) -> None:
    said = explained(body, kind)

    assert said
    assert not set("\\^$") & set(said)
