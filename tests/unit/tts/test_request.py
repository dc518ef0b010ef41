from __future__ import annotations

import json

import pytest

from services.tts.request import understand, warnings_of
from shared.contract import H_TURN, MSG_ID, AudioFormat, Code, Speech, SpeechRequest
from shared.refuse import Refused
from tests.fakes_tts import Queued


def read(
    body: object, *, subject: str = "tts.request.c1", headers: dict[str, str] | None = None
) -> SpeechRequest | Refused:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return understand(Queued(data, subject, headers or {}))


def accepted(body: object, headers: dict[str, str] | None = None) -> SpeechRequest:
    found = read(body, headers=headers)
    assert isinstance(found, SpeechRequest), found
    return found


def refused(body: object, *, subject: str = "tts.request.c1") -> Refused:
    found = read(body, subject=subject)
    assert isinstance(found, Refused)
    return found


def test_a_turn_to_be_followed() -> None:
    found = accepted({"conversation_id": "c1", "turn_id": "t1", "start_sequence": 5})
    assert found == SpeechRequest("c1", "t1", start_sequence=5)


def test_a_text_with_everything_about_its_voice() -> None:
    speech = {
        "voice": "af_heart",
        "model": "some/model",
        "language": "en",
        "speed": 1.5,
        "format": "opus",
        "alignment": "word",
        "pronunciations": {"NATS": "nats"},
        "max_partial_length": 90,
    }
    found = accepted({"turn_id": "t1", "text": "Hello", "speech": speech})
    assert (found.conversation_id, found.text) == ("c1", "Hello")
    assert found.speech.format is AudioFormat.OPUS
    assert found.speech.pronunciations == {"NATS": "nats"}


def test_the_conversation_is_the_subjects() -> None:
    assert accepted({"turn_id": "t"}).conversation_id == "c1"


@pytest.mark.parametrize(
    ("body", "headers", "turn_id"),
    [
        ({"turn_id": "mine"}, {H_TURN: "other", MSG_ID: "third"}, "mine"),
        ({}, {H_TURN: "headers", MSG_ID: "third"}, "headers"),
        ({}, {MSG_ID: "third"}, "third"),
        ({}, {}, "v7"),
        ({}, {H_TURN: "not an id", MSG_ID: "a/b"}, "mc14cddc033f64b9dea80"),
    ],
)
def test_a_text_has_a_turn_id_in_any_case(
    body: dict[str, str], headers: dict[str, str], turn_id: str
) -> None:
    found = accepted({"text": "Hello", **body}, headers)
    assert found.turn_id == turn_id


def test_the_same_message_has_the_same_turn_id_again() -> None:
    headers = {MSG_ID: "x" * 100}
    one, two = accepted({"text": "a"}, headers), accepted({"text": "b"}, headers)
    assert one.turn_id == two.turn_id


def test_unknown_fields_are_ignored() -> None:
    assert accepted({"turn_id": "t", "mood": "calm", "speech": {"tune": 1}}).speech == Speech()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"\xff\xfe",
        b"{",
        b'{"text":' + b"[" * 100_000,
        b'{"turn_id": "t", "text": "\\ud800"}',
        {"turn_id": "a b"},
        {"turn_id": "t\n"},
        {"turn_id": "t" * 65},
        {"turn_id": 5},
        {"turn_id": "t", "conversation_id": "c2"},
        {"turn_id": "t", "text": 5},
        {"turn_id": "t", "start_sequence": 0},
        {"turn_id": "t", "start_sequence": "1"},
        {"turn_id": "t", "speech": True},
        {"turn_id": "t", "speech": {"speed": 9}},
        {"turn_id": "t", "speech": {"format": "midi"}},
        {"turn_id": "t", "speech": {"voice": ""}},
        {"turn_id": "t", "speech": {"max_partial_length": 0}},
        {},
    ],
)
def test_what_cannot_be_understood_is_refused_with_a_reason(body: object) -> None:
    found = refused(body)
    assert found.error.code is Code.INVALID_REQUEST
    assert str(found.error) != "invalid_request"
    assert found.conversation_id == "c1"
    assert found.turn_id


def test_a_refused_turn_is_named_where_it_can_be() -> None:
    assert refused({"turn_id": "t1", "speech": {"speed": 9}}).turn_id == "t1"
    assert refused(b"{").turn_id == "v7"


@pytest.mark.parametrize("text", ["Hello", " Hello\n", "[1]", "5", '"x"', "ü 🌊"])
def test_a_body_that_is_no_object_is_the_text(text: str) -> None:
    found = accepted(text.encode(), {MSG_ID: "m1"})
    assert (found.text, found.turn_id, found.conversation_id) == (text, "m1", "c1")


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_text_of_nothing_is_refused(text: str) -> None:
    assert str(refused({"turn_id": "t", "text": text}).error) == "`text` is empty"


@pytest.mark.parametrize(
    ("speech", "words"),
    [
        ({"pronunciations": {"24/7": "x"}}, "24/7"),
        ({"pronunciations": {"x": "a/b"}}, "a/b"),
        ({"max_partial_length": 1}, "20 to 10000"),
        ({"format": "midi"}, "wav, flac, mp3, opus, aac, pcm"),
    ],
)
def test_how_it_cannot_be_spoken_is_said(speech: dict[str, object], words: str) -> None:
    assert words in str(refused({"turn_id": "t", "speech": speech}).error)


def test_what_may_be_misspelled_is_named() -> None:
    data = json.dumps({"txet": "a", "text": "b", "speech": {"voce": "c"}}).encode()
    assert warnings_of(Queued(data)) == [
        "`txet` is not known and was ignored; did you mean `text`?",
        "`speech.voce` is not known and was ignored; did you mean `voice`?",
    ]


@pytest.mark.parametrize("data", [b"Hello", b'{"text": "Hello"}', b"\xff"])
def test_where_nothing_is_misspelled_nothing_is_named(data: bytes) -> None:
    assert warnings_of(Queued(data)) == []


@pytest.mark.parametrize("subject", ["tts.request", "tts.request.a b", "tts.request.a.b"])
def test_a_subject_without_a_conversation_is_refused(subject: str) -> None:
    assert refused({"turn_id": "t", "text": "x"}, subject=subject).conversation_id is None
