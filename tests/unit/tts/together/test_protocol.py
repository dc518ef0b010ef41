"""Every frame of the protocol, both ways; no socket."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.tts.ports import VoiceParams
from services.tts.together import protocol
from shared.errors import ProviderBroken

PARAMS = VoiceParams(model="hexgrad/Kokoro-82M", voice="af_bella(2)+af_heart(1)")
SENT = protocol.OptionalParameters()
DELTA = "conversation.item.audio_output.delta"
DONE = "conversation.item.audio_output.done"
WORDS = "conversation.item.word_timestamps"
FAILED = "conversation.item.tts.failed"


def received(**frame: Any) -> protocol.Event:
    return protocol.decode(json.dumps(frame))


def sent(frame: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(frame)
    return decoded


# ---------------------------------------------------------------- to the provider


def test_every_message_names_its_context() -> None:
    assert sent(protocol.append("c1", 'Say "ä"\n')) == {
        "type": "input_text_buffer.append",
        "text": 'Say "ä"\n',
        "context_id": "c1",
    }
    assert sent(protocol.commit("c1")) == {"type": "input_text_buffer.commit", "context_id": "c1"}
    assert sent(protocol.cancel("c1")) == {"type": "context.cancel", "context_id": "c1"}


def test_settings_are_those_of_one_context() -> None:
    assert sent(protocol.session_updated({"speed": 1.1}, "c1")) == {
        "type": "tts_session.updated",
        "session": {"speed": 1.1},
        "context_id": "c1",
    }


def test_only_what_differs_is_changed() -> None:
    other = VoiceParams(
        model=PARAMS.model,
        voice="am_adam",
        language="de",
        speed=1.25,
        word_timestamps=True,
        pronunciations=(("omg", "oh my god"),),
        max_partial_length=400,
    )
    assert protocol.changes(PARAMS, PARAMS) == {}
    assert protocol.changes(other, PARAMS) == {
        "voice": "am_adam",
        "language": "de",
        "speed": 1.25,
        "alignment": "word",
        "max_partial_length": 400,
        "extra_params": {"pronunciation_dict": ["omg/oh my god"]},
    }
    # And back again, with the defaults spelled out.
    assert protocol.changes(PARAMS, other)["language"] == "en"
    assert protocol.changes(PARAMS, other)["extra_params"] == {"pronunciation_dict": []}


def test_the_address_has_all_that_the_provider_would_guess_wrong_and_no_key() -> None:
    url = protocol.socket_url("wss://host/v1/audio/speech/websocket", PARAMS, SENT)
    assert "af_bella%282%29%2Baf_heart%281%29" in url
    assert parse_qs(urlsplit(url).query) == {
        "model": ["hexgrad/Kokoro-82M"],
        "voice": ["af_bella(2)+af_heart(1)"],
        "response_format": ["pcm"],
        "sample_rate": ["24000"],
        "segment": ["never"],
    }


def test_the_address_keeps_its_own_query_and_says_what_is_asked_for() -> None:
    params = VoiceParams(
        model="m",
        voice="v",
        language="zh-hk",
        speed=0.5,
        word_timestamps=True,
        max_partial_length=99,
    )
    query = parse_qs(urlsplit(protocol.socket_url("ws://h/p?region=eu", params, SENT)).query)
    assert query["region"] == ["eu"]
    assert query["alignment"] == ["word"]
    assert query["language"] == ["zh-hk"]
    assert query["speed"] == ["0.5"]
    assert query["max_partial_length"] == ["99"]


def test_what_an_endpoint_does_not_know_is_not_sent() -> None:
    none = protocol.OptionalParameters(segment=None, sample_rate=None)
    query = parse_qs(urlsplit(protocol.socket_url("ws://h/p", PARAMS, none)).query)
    assert set(query) == {"model", "voice", "response_format"}


def test_only_what_is_required_is_sent_to_who_refuses_the_rest() -> None:
    params = VoiceParams(model="m", voice="", language="de", speed=2.0, word_timestamps=True)
    query = parse_qs(urlsplit(protocol.socket_url("ws://h/p", params, None)).query)
    assert query == {"model": ["m"], "response_format": ["pcm"]}


# ---------------------------------------------------------------- from the provider


def test_the_session_and_the_echo_of_our_text() -> None:
    created = received(
        type="session.created", event_id="e", session={"id": "s", "modalities": ["text"]}
    )
    assert isinstance(created, protocol.SessionCreated)
    assert created.model is None
    echo = received(type="conversation.item.input_text.received", text="Hi", context_id="c")
    assert echo == protocol.TextReceived("c")


def test_audio_in_base64() -> None:
    audio = bytes(range(256))
    event = received(
        type=DELTA, context_id="c", item_id="tts_1", delta=base64.b64encode(audio).decode()
    )
    assert event == protocol.Audio("c", "tts_1", audio)


def test_audio_in_binary_names_nobody() -> None:
    event = protocol.decode(b"\0\1\2\3")
    assert event == protocol.Audio(None, None, b"\0\1\2\3")


@pytest.mark.parametrize("samples", [b'{"', b'{"}', b'{"\1\2\3}', b"{}"])
def test_samples_that_look_like_json_stay_samples(samples: bytes) -> None:
    assert protocol.decode(samples) == protocol.Audio(delta=samples)


def test_json_in_a_binary_frame_is_json() -> None:
    frame = json.dumps({"type": DONE, "item_id": "tts_1"}).encode()
    assert protocol.decode(frame) == protocol.ItemDone(None, "tts_1")


@pytest.mark.parametrize("fields", [{}, {"delta": None}, {"delta": ""}, {"item_id": None}])
def test_audio_may_lack_everything(fields: dict[str, Any]) -> None:
    event = received(type=DELTA, **fields)
    assert isinstance(event, protocol.Audio)
    assert event.data == b""


def test_an_item_may_be_a_number() -> None:
    assert received(type=DONE, item_id=7) == protocol.ItemDone(None, 7)


def test_a_frame_of_several_megabytes() -> None:
    audio = b"\1\2" * 3_000_000
    event = received(type=DELTA, delta=base64.b64encode(audio).decode(), padding="x" * 4_000_000)
    assert isinstance(event, protocol.Audio)
    assert event.data == audio


def test_words_with_times() -> None:
    event = received(
        type="conversation.item.word_timestamps",
        item_id="tts_1",
        words=["Hello", "you"],
        start_seconds=[0, 0.5],
        end_seconds=[0.4, 1],
    )
    assert event == protocol.Words(None, "tts_1", ["Hello", "you"], [0, 0.5], [0.4, 1])


def test_a_context_is_gone() -> None:
    event = received(type="context.cancelled", context_id="c")
    assert event == protocol.ContextCancelled("c")


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "session.updated", "session": {}},
        {"type": "conversation.item.new.kind", "delta": 5, "context_id": 7},
        {"type": 5},
        {"no": "type"},
        [],
        5,
        None,
        "text",
    ],
)
def test_what_nobody_knows_is_told_apart(frame: object) -> None:
    assert isinstance(protocol.decode(json.dumps(frame)), protocol.Unknown)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": DELTA, "delta": "not base64!"},
        {"type": DELTA, "delta": 5},
        {"type": DONE, "item_id": []},
        {"type": FAILED, "error": 5},
    ],
)
def test_a_known_event_that_makes_no_sense_names_its_context(frame: dict[str, Any]) -> None:
    event = protocol.decode(json.dumps({**frame, "context_id": "c"}))
    assert isinstance(event, protocol.Garbled)
    assert event.context_id == "c"


def test_words_that_make_no_sense_harm_nobody() -> None:
    event = received(type="conversation.item.word_timestamps", words=[1], start_seconds=None)
    assert isinstance(event, protocol.Unknown)


@pytest.mark.parametrize("frame", ["", "{", "garbage", '{"type":"error"', "{'type': 1}"])
def test_text_that_is_no_json_breaks_the_socket(frame: str) -> None:
    with pytest.raises(ProviderBroken):
        protocol.decode(frame)


# ---------------------------------------------------------------- null, wherever it may stand


@pytest.mark.parametrize(
    "frame",
    [
        {"type": DELTA, "delta": None, "item_id": None, "context_id": None},
        {"type": DONE, "item_id": None, "context_id": None},
        {"type": FAILED, "error": None},
        {"type": FAILED, "error": {"message": None, "type": None, "param": None, "code": None}},
        {"type": "error", "error": None, "context_id": None},
        {"type": "session.created", "event_id": None, "session": None},
        {"type": "session.created", "session": {"id": None, "model": None, "modalities": None}},
        {"type": "conversation.item.input_text.received", "text": None},
        {"type": "context.cancelled", "context_id": None},
        {"type": WORDS, "words": None, "start_seconds": None, "end_seconds": None},
        {"type": WORDS, "words": ["a", None], "start_seconds": [None, 1], "end_seconds": [1, None]},
    ],
)
def test_null_where_something_belongs_is_read_over(frame: dict[str, Any]) -> None:
    assert not isinstance(received(**frame), protocol.Garbled | protocol.Unknown)


@pytest.mark.parametrize(
    "frame", ["null", '{"type":null}', '{"type":null,"delta":"AAAA"}', "[null]"]
)
def test_a_frame_that_is_nothing_is_nothing(frame: str) -> None:
    assert protocol.decode(frame) == protocol.Unknown()


def test_of_words_those_that_are_whole_are_kept() -> None:
    words = received(
        type=WORDS,
        words=["a", None, "c", "d"],
        start_seconds=[0.0, 0.1, None, 0.3],
        end_seconds=[0.1, 0.2, 0.3, 0.4],
    )
    assert isinstance(words, protocol.Words)
    assert words.timed == [("a", 0.0, 0.1), ("d", 0.3, 0.4)]


@pytest.mark.parametrize(
    ("session", "model"),
    [({"model": "m"}, "m"), ({"model": ""}, None), ({"model": 5}, None), ("s", None), (None, None)],
)
def test_the_session_says_which_model_it_is_of(session: Any, model: str | None) -> None:
    created = received(type="session.created", session=session)
    assert isinstance(created, protocol.SessionCreated)
    assert created.model == model
