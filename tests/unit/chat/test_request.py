"""A request as it arrives is understood and given its ids, or refused with a reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from services.chat.request import (
    asked_at,
    handed_on_with,
    speech_of,
    turn_id_of,
    understand,
    warnings_of,
)
from shared.contract import (
    H_ASKED_AT,
    ChatRequest,
    HistoryMode,
    OnBusy,
    Role,
    Speech,
    encode,
    is_id,
)
from shared.errors import InvalidRequest, TooLarge
from shared.refuse import Refused
from tests.fakes import Queued

MOST = 262_144


def understood(
    data: bytes | dict[str, object],
    *,
    subject: str = "chat.request",
    headers: dict[str, str] | None = None,
    sequence: int = 7,
    unique: str | None = None,
) -> ChatRequest | Refused:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    message = Queued(body, subject, headers or {}, sequence, unique=unique or f"{sequence}.1")
    return understand(message, max_bytes=MOST)


def good(data: bytes | dict[str, object], **more: object) -> ChatRequest:
    found = understood(data, **more)  # type: ignore[arg-type]
    assert isinstance(found, ChatRequest), found
    return found


def bad(data: bytes | dict[str, object], **more: object) -> Refused:
    found = understood(data, **more)  # type: ignore[arg-type]
    assert isinstance(found, Refused), found
    return found


# ---------------------------------------------------------------- plain text and JSON


@pytest.mark.parametrize("text", ["Hello", " Hello\n", "5", "[1]", '"x"', "null", "ü 🌊", "a\0b"])
def test_a_body_that_is_not_json_is_the_text_of_a_new_conversation(text: str) -> None:
    request = good(text.encode())

    assert request.content == text
    assert is_id(str(request.conversation_id))
    assert request.turn_id == "t7"


def test_plain_text_may_go_on_with_a_conversation() -> None:
    assert good(b"Hello", subject="chat.request.c1").conversation_id == "c1"


def test_a_body_with_a_byte_order_mark_does_not_begin_with_a_brace() -> None:
    assert good(b'\xef\xbb\xbf{"content":"x"}').content == '\ufeff{"content":"x"}'


@pytest.mark.parametrize("space", [b"", b" ", b"\n\t\r "])
def test_json_may_have_space_around_it(space: bytes) -> None:
    assert good(space + b'{"content":"hi"}' + space).content == "hi"


def test_every_field_is_understood() -> None:
    request = good(
        {
            "conversation_id": "c1",
            "turn_id": "t1",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
            "history": "replace",
            "on_busy": "reject",
            "speech": {"voice": "v", "speed": 2},
            "metadata": {"a": "b"},
            "unknown": [1],
        }
    )

    assert request.messages
    assert [message.role for message in request.messages] == [Role.SYSTEM, Role.USER]
    assert request.history is HistoryMode.REPLACE
    assert request.on_busy is OnBusy.REJECT
    assert request.speech == Speech(voice="v", speed=2)
    assert request.metadata == {"a": "b"}


def test_of_a_repeated_key_the_last_counts_everywhere() -> None:
    body = b'{"content":"a","turn_id":"x","content":"b","turn_id":"y","conversation_id":"c1"}'
    request = good(body)

    assert (request.content, request.turn_id) == ("b", "y")
    assert turn_id_of(body, {}, 7) == "y"


def test_what_was_understood_is_understood_again_in_the_same_way() -> None:
    first = good({"content": "hi", "metadata": {"a": "b"}, "speech": False})
    subject = f"chat.request.{first.conversation_id}"

    assert good(encode(first), subject=subject, sequence=99) == first


# ---------------------------------------------------------------- hostile bodies


HOSTILE = {
    "nothing": b"",
    "only space": b" \n\t",
    "an object cut off": b'{"content":"hi"',
    "something after the object": b'{"content":"hi"} x',
    "a comma too many": b'{"content":"hi",}',
    "neither text nor JSON": b"\xff\xfe\x00",
    "invalid UTF-8 in JSON": b'{"content":"\xff"}',
    "a surrogate in UTF-8": b'{"content":"\xed\xa0\x80"}',
    "a lone surrogate": b'{"content":"\\ud800"}',
    "a lone low surrogate": b'{"content":"\\udc00 x"}',
    "a lone surrogate in a key": b'{"content":"x","metadata":{"\\ud800":"y"}}',
    "a raw NUL in JSON": b'{"content":"a\x00b"}',
    "deep nesting": b'{"content":"x","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"content":"x","y":' + b'{"a":' * 40_000 + b"1" + b"}" * 40_000 + b"}",
    "deep nesting in an id": b'{"content":"x","turn_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nesting without an end": b"{" + b'"a":[' * 50_000,
    "a seed of 5,000 digits": b'{"content":"x","seed":' + b"1" * 5_000 + b"}",
    "an id of 5,000 digits": b'{"content":"x","turn_id":' + b"1" * 5_000 + b"}",
    "a temperature without bounds": b'{"content":"x","temperature":1e999}',
    "NaN": b'{"content":"x","temperature":NaN}',
    "a number as an id": b'{"content":"x","turn_id":5}',
    "a number as a conversation": b'{"content":"x","conversation_id":5}',
    "an id with a dot": b'{"content":"x","conversation_id":"a.b"}',
    "an id with a wildcard": b'{"content":"x","conversation_id":">"}',
    "an id with a newline": b'{"content":"x","turn_id":"a\\n"}',
    "an empty id": b'{"content":"x","turn_id":""}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("subject", ["chat.request", "chat.request.c1"])
def test_a_hostile_body_is_refused_with_a_reason(body: bytes, subject: str) -> None:
    refused = bad(body, subject=subject)

    assert isinstance(refused.error, InvalidRequest)
    assert str(refused.error)
    assert refused.conversation_id == ("c1" if subject.endswith("c1") else None)
    assert is_id(refused.turn_id)


def test_a_body_at_the_limit_is_taken_and_one_above_is_not() -> None:
    envelope = len(b'{"content":""}')

    assert good(b'{"content":"' + b"x" * (MOST - envelope) + b'"}')
    refused = bad(b'{"content":"' + b"x" * (MOST - envelope + 1) + b'"}')
    assert isinstance(refused.error, TooLarge)


def test_of_a_body_that_is_too_large_nothing_is_looked_at() -> None:
    body = b'{"conversation_id":"c1","turn_id":"t1","content":"' + b"x" * MOST + b'"}'
    refused = bad(body, headers={"Parley-Turn": "h1"})

    assert refused.conversation_id is None
    assert refused.turn_id == "h1"


@pytest.mark.parametrize("character", [b"\x01", b'"', b"\\"])
def test_plain_text_that_grows_beyond_the_limit_as_json_is_too_large(character: bytes) -> None:
    # Handed on as JSON it would be more than NATS takes, or than the next reader does.
    refused = bad(character * (MOST - 100))

    assert isinstance(refused.error, TooLarge)


def test_what_was_handed_on_may_be_larger_by_its_ids_and_the_limit_is_the_setting() -> None:
    subject, headers = "chat.request.c1", {"Parley-Turn": "t1"}
    body = b'{"content":"' + b"x" * MOST + b'"}'

    assert good(body, subject=subject, headers=headers)
    for refused in (bad(body, subject=subject), bad(body), bad(body, headers=headers)):
        assert str(refused.error) == f"the body has {len(body)} bytes, more than {MOST}"


def test_what_is_accepted_is_never_more_than_nats_takes() -> None:
    for text in (b"\x01" * 40_000, b"x" * (MOST - 200), "🌊".encode() * 60_000):
        assert len(encode(good(text))) <= MOST + 200


# ---------------------------------------------------------------- what types cannot say


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "either `content` or `messages`"),
        ({"content": "x", "messages": [{"role": "user", "content": "y"}]}, "either"),
        ({"content": ""}, "`content` is empty"),
        ({"content": " \n\t "}, "`content` is empty"),
        ({"messages": []}, "must be the user's"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "must be the user's"),
        ({"messages": [{"role": "user", "content": " "}]}, "is empty"),
        ({"content": "x", "speech": True}, "`speech` must be an object or false"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(body: dict[str, object], reason: str) -> None:
    assert reason in str(bad(body).error)


def test_a_user_may_speak_a_nul() -> None:
    assert good(b'{"content":"a\\u0000b"}').content == "a\0b"


# ---------------------------------------------------------------- the conversation


def test_the_subject_names_the_conversation() -> None:
    assert good({"content": "x"}, subject="chat.request.c1").conversation_id == "c1"


def test_the_body_names_the_conversation() -> None:
    assert good({"content": "x", "conversation_id": "c1"}).conversation_id == "c1"


def test_the_body_may_repeat_the_subject_and_not_contradict_it() -> None:
    body: dict[str, object] = {"content": "x", "conversation_id": "c1", "turn_id": "t1"}

    assert good(body, subject="chat.request.c1").conversation_id == "c1"
    refused = bad(body, subject="chat.request.c2")
    assert (refused.conversation_id, refused.turn_id) == ("c2", "t1")


@pytest.mark.parametrize("token", ["ü", "a b", "x" * 65, "a\0"])
def test_a_subject_that_names_no_id_is_refused_without_a_conversation(token: str) -> None:
    refused = bad({"content": "x"}, subject=f"chat.request.{token}")

    assert refused.conversation_id is None


def test_a_made_up_conversation_is_the_same_for_the_same_message() -> None:
    assert good(b"Hi") == good(b"Hi")


@pytest.mark.parametrize("other", [{"sequence": 8}, {"unique": "7.2"}])
def test_a_made_up_conversation_is_another_for_another_message(other: dict[str, object]) -> None:
    assert good(b"Hi").conversation_id != good(b"Hi", **other).conversation_id


def test_a_message_sent_again_under_its_id_meets_its_made_up_conversation() -> None:
    headers = {"Nats-Msg-Id": "order 66"}
    first = good(b"Hi", headers=headers, sequence=7)
    again = good(b"Hi", headers=headers, sequence=9)

    assert first == again


# ---------------------------------------------------------------- the turn


def test_the_turn_is_named_by_the_body_first() -> None:
    headers = {"Parley-Turn": "h1", "Nats-Msg-Id": "m1"}

    assert good({"content": "x", "turn_id": "b1"}, headers=headers).turn_id == "b1"


def test_the_turn_is_named_by_the_header_second() -> None:
    assert good(b"x", headers={"Parley-Turn": "h1", "Nats-Msg-Id": "m1"}).turn_id == "h1"


def test_the_turn_is_named_by_the_message_id_third() -> None:
    assert good(b"x", headers={"Nats-Msg-Id": "m1"}).turn_id == "m1"


def test_the_turn_is_named_by_the_sequence_last() -> None:
    assert good(b"x", sequence=42).turn_id == "t42"


@pytest.mark.parametrize("unique", ["a b", "a.b", "x" * 65, "ü", ">", "5.6"])
def test_a_message_id_that_is_no_id_still_names_one_turn(unique: str) -> None:
    first = good(b"x", headers={"Nats-Msg-Id": unique}, sequence=1).turn_id
    again = good(b"x", headers={"Nats-Msg-Id": unique}, sequence=2).turn_id

    assert first == again
    assert is_id(str(first))
    assert first != good(b"x", headers={"Nats-Msg-Id": unique + "!"}).turn_id


@pytest.mark.parametrize("header", ["", "a b", "a.b"])
def test_a_turn_header_that_is_no_id_is_passed_over(header: str) -> None:
    assert good(b"x", headers={"Parley-Turn": header, "Nats-Msg-Id": "m1"}).turn_id == "m1"


def test_a_queue_names_a_turn_as_its_worker_does() -> None:
    for body in (b"Hi", b'{"content":"x"}', b'{"content":"x","turn_id":"b1"}', b'{"turn_id":5'):
        for headers in ({}, {"Parley-Turn": "h1"}, {"Nats-Msg-Id": "not an id"}):
            found = understood(body, headers=headers, subject="chat.request.c1")

            assert turn_id_of(body, headers, 7) == found.turn_id


# ---------------------------------------------------------------- the voice


@pytest.mark.parametrize("default", [True, False])
def test_a_request_that_says_how_it_is_spoken_is_spoken_so(*, default: bool) -> None:
    asked = ChatRequest(content="x", speech=Speech(voice="v"))

    assert speech_of(asked, default=default) == Speech(voice="v")


@pytest.mark.parametrize("default", [True, False])
def test_a_request_for_text_alone_is_not_spoken(*, default: bool) -> None:
    assert speech_of(ChatRequest(content="x", speech=False), default=default) is None


def test_where_a_request_does_not_say_the_service_decides() -> None:
    assert speech_of(ChatRequest(content="x"), default=True) == Speech()
    assert speech_of(ChatRequest(content="x"), default=False) is None


TAKEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("2026-01-01T23:59:50+00:00", TAKEN - timedelta(seconds=10)),
        ("2026-01-02T00:00:10+00:00", TAKEN),
        ("2026-01-01T23:59:50", TAKEN),
        ("yesterday", TAKEN),
        (None, TAKEN),
    ],
)
def test_a_request_was_asked_when_the_stream_took_the_first_form_of_it(
    header: str | None, asked: datetime
) -> None:
    headers = {} if header is None else {H_ASKED_AT: header}

    assert asked_at(Queued(headers=headers, taken_at=TAKEN)) == asked


# ---------------------------------------------------------------- what may be misspelled


def warned(data: bytes, headers: dict[str, str] | None = None) -> list[str]:
    return warnings_of(Queued(data, "chat.request.c1", headers or {}))


def test_a_misspelled_field_is_named_with_its_path_and_the_field_that_was_meant() -> None:
    (said,) = warned(b'{"content":"x","speech":{"voce":"v"}}')

    assert "`speech.voce`" in said
    assert "`voice`" in said


def test_of_a_request_that_was_handed_on_the_first_reader_says_what_was_misspelled() -> None:
    headers = handed_on_with(["`ü` is not known and was ignored"])

    assert headers["Parley-Warnings"].isascii()
    assert warned(b'{"content":"x"}', headers) == ["`ü` is not known and was ignored"]
    assert handed_on_with([]) == {}


@pytest.mark.parametrize(
    "header", ["", "x", "5", "[5]", json.dumps(["x"] * 11), json.dumps(["x" * 401])]
)
def test_a_header_that_we_never_wrote_says_nothing(header: str) -> None:
    assert warned(b'{"content":"x"}', {"Parley-Warnings": header}) == []


@pytest.mark.parametrize("text", [b"Hello", b"[1]", b"5", b'"x"', b"\xff"])
def test_plain_text_misspells_no_field(text: bytes) -> None:
    assert warned(text) == []


def test_a_field_that_is_no_utf_8_is_nobody_s_misspelling() -> None:
    body = b'{"content":"x","\xff":1}'

    assert isinstance(understand(Queued(body, "chat.request.c1"), max_bytes=1_000), ChatRequest)
    assert warned(body) == []
