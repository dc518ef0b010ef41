"""The provider's streamed answer, bytes in, parts out, however the bytes are cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from services.chat.ports import Finished, Said, Thought
from services.chat.together.sse import MAX_LINE, ChatStream, joined
from shared.contract import FinishReason, Usage
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRefused,
)
from shared.redact import hiding

if TYPE_CHECKING:
    from collections.abc import Iterable

Part = Said | Thought | Usage | Finished
DONE = b"data: [DONE]\n\n"

# As a public recording has it: the role in every delta, a seed beyond 2^53, usage on the finish.
RECORDED = (
    b'data: {"id":"o1","object":"chat.completion.chunk","created":1777411129,"choices":[{"index":0,'
    b'"text":"Hello","logprobs":null,"finish_reason":null,"seed":null,"delta":{"token_id":9906,'
    b'"role":"assistant","content":"Hello"}}],"model":"meta-llama/x","usage":null}\n\n'
    b'data: {"id":"o1","object":"chat.completion.chunk","created":1777411129,"choices":[{"index":0,'
    b'"text":" w\xc3\xb6rld","logprobs":null,"finish_reason":null,"seed":null,"delta":{"token_id":'
    b'null,"role":"assistant","content":" w\xc3\xb6rld \xf0\x9f\x8c\x8a"}}],"usage":null}\n\n'
    b'data: {"id":"o1","object":"chat.completion.chunk","created":1777411129,"choices":[{"index":0,'
    b'"text":"","finish_reason":"stop","seed":15924764223251450000,"delta":{"token_id":128009,'
    b'"role":"assistant","content":""}}],"model":"meta-llama/x","usage":{"prompt_tokens":45,'
    b'"completion_tokens":3,"total_tokens":48,"cached_tokens":0}}\n\n' + DONE
)
ANSWER: list[Part] = [
    Said("Hello"),
    Said(" wörld 🌊"),
    Usage(45, 3),
    Finished(FinishReason.STOP, Usage(45, 3), "meta-llama/x"),
]


def parts(pieces: Iterable[bytes]) -> list[Part]:
    """All that a stream gives for a body that comes in these pieces."""
    stream = ChatStream()
    got: list[Part] = [part for piece in pieces for part in stream.feed(piece)]
    return [*got, *stream.finish()]


def event(content: str = "", *, finish: str | None = None, **more: object) -> bytes:
    delta = {"role": "assistant", "content": content}
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def said(found: list[Part]) -> str:
    return "".join(part.text for part in found if isinstance(part, Said))


# ---------------------------------------------------------------- whole streams


def test_a_recorded_stream_is_its_words_and_its_end() -> None:
    assert parts([RECORDED]) == ANSWER


def test_a_stream_cut_at_any_byte_gives_the_same() -> None:
    for at in range(len(RECORDED) + 1):
        assert parts([RECORDED[:at], RECORDED[at:]]) == ANSWER


def test_a_stream_that_comes_byte_by_byte_gives_the_same() -> None:
    assert parts(RECORDED[n : n + 1] for n in range(len(RECORDED))) == ANSWER


def test_words_are_given_out_before_the_stream_ends() -> None:
    stream = ChatStream()

    assert list(stream.feed(event("Hello"))) == [Said("Hello")]
    assert not stream.over


def test_lines_may_end_like_on_another_system() -> None:
    windows = RECORDED.replace(b"\n", b"\r\n")

    assert parts([windows]) == ANSWER
    assert parts(windows[n : n + 1] for n in range(len(windows))) == ANSWER


def test_the_space_after_data_may_be_missing() -> None:
    assert parts([RECORDED.replace(b"data: ", b"data:")]) == ANSWER


def test_comments_and_fields_of_other_kinds_are_passed_over() -> None:
    stream = ChatStream()
    noise = b": keep-alive\n\nevent: message\nid: 7\nretry: 100\n"
    got = list(stream.feed(noise + event("a") + noise + event("b", finish="stop") + noise + DONE))

    assert got == [Said("a"), Said("b")]
    assert stream.over


def test_words_that_come_together_are_one_part() -> None:
    body = event("a") + event("b") + event("<think>", reasoning=None) + event("c")
    thought = b'data: {"choices":[{"delta":{"reasoning":"hm"}}]}\n\n'

    assert list(joined(ChatStream().feed(body + thought + event("d") + event("e")))) == [
        Said("ab<think>c"),
        Thought("hm"),
        Said("de"),
    ]


def test_words_in_front_of_an_error_are_given_out() -> None:
    parts = joined(ChatStream().feed(event("a") + event("b") + b"data: {\n"))

    assert next(parts) == Said("ab")
    with pytest.raises(ProviderBroken):
        next(parts)


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("eos", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.STOP),
        ("function_call", FinishReason.STOP),
        ("something_new", FinishReason.STOP),
    ],
)
def test_an_answer_ends_for_a_reason(told: str, reason: FinishReason) -> None:
    assert parts([event("a"), event(finish=told), DONE])[-1] == Finished(reason, Usage(None, None))


def test_usage_may_ride_on_the_finish() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}

    assert parts([event("a", finish="stop", usage=usage), DONE])[-1] == Finished(
        FinishReason.STOP, Usage(5, 2)
    )


def test_usage_may_trail_behind_without_choices() -> None:
    trailing = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'

    assert parts([event("a", finish="stop"), trailing, DONE])[-1] == Finished(
        FinishReason.STOP, Usage(5, 2)
    )


def test_words_on_the_finish_are_not_lost() -> None:
    assert parts([event("a"), event("b", finish="length")]) == [
        Said("a"),
        Said("b"),
        Finished(FinishReason.LENGTH, Usage(None, None)),
    ]


@pytest.mark.parametrize("cut", [1, 2])
def test_a_last_line_without_its_newline_is_read(cut: int) -> None:
    whole = event("a") + event("b", finish="stop")

    assert parts([whole[:-cut]]) == parts([whole])


def test_the_end_may_be_missing_after_a_finish() -> None:
    assert parts([event("a", finish="stop")])[-1] == Finished(FinishReason.STOP, Usage(None, None))


def test_the_finish_may_be_missing_before_the_end() -> None:
    assert parts([event("a"), DONE]) == [Said("a"), Finished(FinishReason.STOP, Usage(None, None))]


def test_an_empty_completion_is_an_answer() -> None:
    assert parts([event(finish="stop"), DONE]) == [Finished(FinishReason.STOP, Usage(None, None))]


def test_what_follows_the_end_is_of_no_interest() -> None:
    after = event("never") + b'data: {"error":{"message":"late"}}\n\ndata: {broken\n'

    for pieces in ([event("a", finish="stop") + DONE + after], [event("a"), DONE, after]):
        assert said(parts(pieces)) == "a"


# ---------------------------------------------------------------- thoughts


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_are_told_from_words(field: str) -> None:
    thought = b'data: {"choices":[{"delta":{"%s":"Hm","content":null}}]}\n\n' % field.encode()

    assert parts([thought, event("Yes", finish="stop"), DONE])[:2] == [Thought("Hm"), Said("Yes")]


def test_a_chunk_may_hold_the_last_thought_and_the_first_word() -> None:
    both = b'data: {"choices":[{"delta":{"reasoning":"Hm","content":"Yes"}}]}\n\n'

    assert parts([both, DONE])[:2] == [Thought("Hm"), Said("Yes")]


def test_a_second_choice_is_not_spoken() -> None:
    two = b'data: {"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}\n\n'

    assert said(parts([two, DONE])) == "a"


def test_what_a_model_thinks_in_front_of_its_answer_is_thought_however_it_is_split() -> None:
    content = "\n<think>\nHm.</think>\n\nYes."
    whole = "".join(p.text for p in parts([*map(event, content), DONE]) if isinstance(p, Thought))

    assert whole == "\nHm."
    assert said(parts([*map(event, content), DONE])) == "Yes."
    assert parts([event(content, finish="stop"), DONE])[:2] == [Thought("\nHm."), Said("Yes.")]


def test_what_was_held_back_for_a_tag_is_said_at_the_end() -> None:
    assert said(parts([event(" <thi", finish="stop"), DONE])) == " <thi"


# ---------------------------------------------------------------- null


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"delta": None, "finish_reason": None}]},
        {"choices": [{"delta": {"content": None, "reasoning": None, "reasoning_content": None}}]},
        {"choices": None, "usage": None, "error": None},
        {"choices": [], "usage": {"prompt_tokens": None, "completion_tokens": None}},
        {"choices": [{"delta": {"role": None, "tool_calls": None}, "index": None}], "id": None},
        {},
    ],
    ids=str,
)
def test_null_where_a_value_belongs_is_read_over(chunk: dict[str, object]) -> None:
    null = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    got = parts([null, event("a"), null, event("b", finish="stop", usage=usage), null, DONE, null])

    assert got == [
        Said("a"),
        Said("b"),
        Usage(5, 2),
        Finished(FinishReason.STOP, Usage(5, 2)),
    ]


def test_usage_that_is_told_in_part_is_known_in_part() -> None:
    told = {"prompt_tokens": 5, "completion_tokens": None}

    assert parts([event("a", finish="stop", usage=told), DONE])[-1] == Finished(
        FinishReason.STOP, Usage(5, None)
    )


def test_usage_is_given_out_as_often_as_it_is_told_the_last_one_counts() -> None:
    first = {"prompt_tokens": 5, "completion_tokens": 1}
    second = {"prompt_tokens": 5, "completion_tokens": 2}
    got = parts([event("a", usage=first), event("b", usage=second, finish="stop"), DONE])

    assert got == [
        Said("a"),
        Usage(5, 1),
        Said("b"),
        Usage(5, 2),
        Finished(FinishReason.STOP, Usage(5, 2)),
    ]


# ---------------------------------------------------------------- what goes wrong


def test_a_stream_that_is_cut_is_no_answer() -> None:
    stream = ChatStream()

    assert list(stream.feed(event("Hello") + event(" wor"))) == [Said("Hello"), Said(" wor")]
    with pytest.raises(ProviderBroken):
        list(stream.finish())


def test_a_stream_cut_at_any_byte_is_no_answer_or_the_whole_of_it() -> None:
    for at in range(len(RECORDED)):
        try:
            found = parts([RECORDED[:at]])
        except ProviderBroken:
            continue
        assert found == ANSWER


@pytest.mark.parametrize("body", [b"", b"\n\n", b": keep-alive\n\n"])
def test_a_stream_that_says_nothing_is_broken(body: bytes) -> None:
    with pytest.raises(ProviderBroken):
        parts([body])


def test_an_end_without_a_word_or_a_finish_is_broken() -> None:
    with pytest.raises(ProviderBroken):
        parts([DONE])


@pytest.mark.parametrize(
    "garbage",
    [
        b'data: {"choices":[{"delta":{"content":"lo\n',
        b"data: {}}\n",
        b'data: {"choices":"none"}\n',
        b'data: {"choices":[{"delta":{"content":5}}]}\n',
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n',
        b'data: {"choices":' + b"[" * 100_000 + b"\n",
    ],
)
def test_a_chunk_that_cannot_be_read_breaks_the_answer(garbage: bytes) -> None:
    with pytest.raises(ProviderBroken):
        parts([event("Hel"), garbage, event("lo", finish="stop"), DONE])


@pytest.mark.parametrize("garbage", [b"<html>\n", b"data: hello\n", b"data: 5\n", b"\x00\xff\n"])
def test_a_line_that_is_no_chunk_is_passed_over(garbage: bytes) -> None:
    got = parts([event("a") + garbage + event("b", finish="stop") + DONE])

    assert got[:2] == [Said("a"), Said("b")]
    assert len(got) == 3


@pytest.mark.parametrize("piece", [b"x" * 65_536, b"data: {" + b"x" * 65_536])
def test_a_line_that_never_ends_is_no_stream(piece: bytes) -> None:
    stream = ChatStream()
    for _ in range(MAX_LINE // len(piece)):
        assert list(stream.feed(piece)) == []

    with pytest.raises(ProviderBroken):
        list(stream.feed(piece))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "type": "dynamic_request_limited"}, ProviderRateLimited),
        ({"message": "slow down", "code": "dynamic_token_limited"}, ProviderRateLimited),
        ({"message": "slow down", "code": 429}, ProviderRateLimited),
        ({"message": "full", "code": 503}, ProviderOverloaded),
        ({"message": "full", "type": "overloaded_error"}, ProviderOverloaded),
        ({"message": "full", "type": "service_unavailable"}, ProviderOverloaded),
        ({"message": "oops", "type": "server_error"}, ProviderOverloaded),
        ({"message": "no", "code": "401"}, ProviderAuth),
        ({"message": "no money", "code": 402}, ProviderAuth),
        ({"message": "no", "code": 403}, ProviderAuth),
        ({"message": "bad", "code": 400}, ProviderRefused),
        ({"message": "gone", "code": 404}, ProviderRefused),
        ({"message": "bad", "type": "invalid_request_error"}, ProviderRefused),
        ({"message": "?", "type": None, "code": None}, ProviderBroken),
        ({"message": "?"}, ProviderBroken),
        ({}, None),
        ("oops", ProviderBroken),
        (5, ProviderBroken),
        (["x"], ProviderBroken),
    ],
)
@pytest.mark.parametrize("frame", [b"data: %s\n\n", b"%s\n", b"data: %s"])
def test_an_error_inside_the_stream_is_told_by_its_kind(
    error: object, kind: type[ProviderError] | None, frame: bytes
) -> None:
    body = frame % json.dumps({"error": error}).encode()
    if kind is None:  # an empty error is none
        assert said(parts([event("a", finish="stop"), body])) == "a"
        return
    with pytest.raises(ProviderError) as caught:
        parts([event("a"), body])

    assert type(caught.value) is kind
    if isinstance(error, dict):
        assert str(caught.value) == error["message"]


def test_what_was_said_before_an_error_is_given_out_first() -> None:
    stream = ChatStream()
    got: list[Part] = []
    with pytest.raises(ProviderBroken):
        got.extend(stream.feed(event("Hel") + event("lo") + b'data: {"error":{"message":"x"}}\n\n'))

    assert said(got) == "Hello"


def test_the_words_of_an_error_have_a_limit() -> None:
    body = b'data: {"error":{"message":"%s","code":400}}\n' % (b"x" * 10_000)
    with pytest.raises(ProviderRefused) as caught:
        parts([body])

    assert len(str(caught.value)) == 300


def test_an_error_in_the_stream_that_quotes_our_key_is_repeated_without_it() -> None:
    stream = ChatStream(hiding("k1"))
    words = "x" * 298 + "k1"  # which would be cut off in its midst
    with pytest.raises(ProviderError) as caught:
        list(stream.feed(b'data: {"error": {"message": "%s"}}\n\n' % words.encode()))
    assert str(caught.value) == "x" * 298 + "**"
