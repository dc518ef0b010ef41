"""A request with a reply subject is decoded strictly, or refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from nats.aio.msg import Msg

from shared.contract import CancelRequest, HistoryRequest
from shared.errors import InvalidRequest, TooLarge
from shared.nats.replies import MAX_BYTES, R, decode_request

if TYPE_CHECKING:
    from nats.aio.client import Client


def decoded(body: bytes, kind: type[R], subject: str = "chat.cancel") -> R:
    return decode_request(Msg(cast("Client", None), subject, data=body), kind)


def test_a_good_request_is_understood() -> None:
    assert decoded(b'{"conversation_id":"c1"}', HistoryRequest) == HistoryRequest("c1")
    assert decoded(
        b' {"conversation_id":"c1","heard_ms":5,"x":[]} ', CancelRequest
    ) == CancelRequest("c1", None, 5)


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"null",
        b"[]",
        b"c1",
        b"{",
        b'{"conversation_id":"c1"} trailing',
        b'{"conversation_id":"c1",}',
        b'{"conversation_id":5}',
        b'{"conversation_id":null}',
        b'{"conversation_id":"a.b"}',
        b'{"conversation_id":"c1\\n"}',
        b'{"conversation_id":"\\ud800"}',
        b'{"conversation_id":"\xff"}',
        b'{"conversation_id":"\x00"}',
        b'\xef\xbb\xbf{"conversation_id":"c1"}',
        b'{"conversation_id":' + b"1" * 5_000 + b"}",
        b'{"conversation_id":"c1","heard_ms":' + b"9" * 5_000 + b"}",
        b'{"conversation_id":"c1","heard_ms":"5"}',
        b'{"conversation_id":"c1","x":' + b"[" * 8_000 + b"]" * 8_000 + b"}",
        b"[" * 16_000,
    ],
)
def test_a_hostile_body_is_refused_with_a_reason(hostile: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded(hostile, CancelRequest)

    assert str(caught.value)


def test_of_a_repeated_key_the_last_counts() -> None:
    body = b'{"conversation_id":"c1","conversation_id":"c2"}'

    assert decoded(body, HistoryRequest) == HistoryRequest("c2")


def test_a_body_at_the_limit_is_read_and_one_above_is_not() -> None:
    body = b'{"conversation_id":"c1"}'.ljust(MAX_BYTES)

    assert decoded(body, HistoryRequest) == HistoryRequest("c1")
    with pytest.raises(TooLarge, match=str(MAX_BYTES)):
        decoded(body + b" ", HistoryRequest)


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("chat.history.get.c1", b""),
        ("chat.history.get.c1", b"{}"),
        ("chat.history.get.c1", b'{"conversation_id":"c1"}'),
        ("chat.history.get", b'{"conversation_id":"c1"}'),
    ],
)
def test_the_subject_names_the_conversation_or_the_body_or_both(subject: str, body: bytes) -> None:
    assert decoded(body, HistoryRequest, subject) == HistoryRequest("c1")


@pytest.mark.parametrize(
    ("subject", "body", "words"),
    [
        ("chat.history.get.c1", b'{"conversation_id":"c2"}', "differs"),
        ("chat.history.get", b"{}", "missing"),
        ("chat.history.get", b"", "missing"),
        ("chat.history.get.a!b", b"{}", "letters"),
        ("chat.history.get." + "c" * 65, b"{}", "letters"),
    ],
)
def test_a_subject_and_a_body_that_do_not_agree_are_refused(
    subject: str, body: bytes, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        decoded(body, HistoryRequest, subject)
