"""The wire: golden messages, what is refused, every name as users know it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.chat.request import understand
from shared import contract
from shared.contract import (
    AudioFailed,
    AudioStarted,
    CancelRequest,
    ChatRequest,
    Deleted,
    Delta,
    Done,
    Failed,
    History,
    HistoryRequest,
    Piece,
    PieceDone,
    Reasoning,
    Refusal,
    SpeechRequest,
    Started,
    Stored,
    Text,
)
from shared.nats.provision import consumers, streams
from shared.process.settings import Retention
from shared.refuse import Refused
from tests.fakes import Queued

GOLDEN = Path(__file__).parent / "golden"

KINDS: dict[str, Any] = {
    "chat_request": ChatRequest,
    "chat_request_of_messages": ChatRequest,
    "chat_request_least": ChatRequest,
    "cancel_request": CancelRequest,
    "cancel_request_least": CancelRequest,
    "speech_request": SpeechRequest,
    "speech_request_of_text": SpeechRequest,
    "history_request": HistoryRequest,
    "delta_started": Started,
    "delta_started_silent": Started,
    "delta_text": Text,
    "delta_reasoning": Reasoning,
    "delta_done": Done,
    "delta_done_cancelled": Done,
    "delta_failed": Failed,
    "audio_started": AudioStarted,
    "audio_piece": Piece,
    "audio_piece_done": PieceDone,
    "audio_stored": Stored,
    "audio_stored_nothing": Stored,
    "audio_failed": AudioFailed,
    "history": History,
    "history_of_nobody": History,
    "history_deleted": Deleted,
    "refusal": Refusal,
    "asked": contract.Asked,
    "delete_request": contract.DeleteRequest,
    "link_request": contract.LinkRequest,
    "link": contract.Link,
    "replay_request": contract.ReplayRequest,
    "replay_request_least": contract.ReplayRequest,
    "history_request_of_a_page": HistoryRequest,
    "history_page": History,
    "delta_started_warned": Started,
    "delta_done_uncounted": Done,
    "chat_request_interrupting": ChatRequest,
    "audio_stored_truncated": Stored,
    "audio_started_warned": AudioStarted,
}


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def changed(name: str, **fields: object) -> bytes:
    """A golden message with other values."""
    return json.dumps(json.loads(golden(name)) | fields).encode()


def refused(kind: Any, data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        return True
    return False


# ---------------------------------------------------------------- golden messages


def test_every_golden_file_is_tested() -> None:
    files = {path.stem for path in GOLDEN.glob("*.json")}

    assert files == set(KINDS) | {"audio_chunk_headers"}


@pytest.mark.parametrize("name", KINDS)
def test_a_golden_message_decodes_and_encodes_to_the_same_bytes(name: str) -> None:
    message = msgspec.json.decode(golden(name), type=KINDS[name])

    assert contract.encode(message) == golden(name)


@pytest.mark.parametrize("name", KINDS)
def test_a_message_with_unknown_fields_still_decodes(name: str) -> None:
    plain = msgspec.json.decode(golden(name), type=KINDS[name])
    more = changed(name, new_field={"deep": [1, None, "x"]}, another=1.5)

    assert msgspec.json.decode(more, type=KINDS[name]) == plain


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("delta_")])
def test_the_type_field_alone_tells_which_event_of_the_text_it_is(name: str) -> None:
    event: object = msgspec.json.decode(golden(name), type=Delta)

    assert type(event) is KINDS[name]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("started", "audio_started"),
        ("piece", "audio_piece"),
        ("piece_done", "audio_piece_done"),
        ("stored", "audio_stored"),
        ("failed", "audio_failed"),
    ],
)
def test_parley_type_tells_which_event_of_the_voice_it_is(kind: str, name: str) -> None:
    assert contract.AUDIO_EVENTS[contract.Kind(kind)] is KINDS[name]


def test_a_chunk_is_told_by_its_headers() -> None:
    headers = json.loads(golden("audio_chunk_headers"))

    assert headers == {
        contract.H_TYPE: contract.Kind.CHUNK.value,
        contract.H_CONVERSATION: "c1",
        contract.H_TURN: "t1",
        contract.H_ATTEMPT: "1",
        contract.H_SEQ: "12",
        contract.H_PIECE: "0",
        "Content-Type": contract.PCM_CONTENT_TYPE,
    }


def test_a_message_of_an_older_version_still_decodes() -> None:
    done = json.loads(golden("delta_done"))
    del done["cost_usd"]
    spoken = json.loads(golden("audio_piece_done"))
    del spoken["words"]

    assert msgspec.json.decode(json.dumps(done), type=Done).cost_usd is None
    assert msgspec.json.decode(json.dumps(spoken), type=PieceDone).words == []


# ---------------------------------------------------------------- what is refused

BAD_IDS = ["a b", "a.b", "", "a\n", "\na", "a" * 65, "ü", "*", ">", "a/b", "a\0", 5, True, ["a"]]


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("field", ["conversation_id", "turn_id"])
@pytest.mark.parametrize("name", ["chat_request", "cancel_request", "speech_request"])
def test_a_bad_id_is_refused(name: str, field: str, bad: object) -> None:
    assert refused(KINDS[name], changed(name, **{field: bad}))


@pytest.mark.parametrize("bad", BAD_IDS)
def test_a_bad_id_is_refused_when_history_is_asked_for(bad: object) -> None:
    assert refused(HistoryRequest, changed("history_request", conversation_id=bad))


@pytest.mark.parametrize("bad", [bad for bad in BAD_IDS if isinstance(bad, str)])
def test_is_id_agrees_with_what_requests_refuse(bad: str) -> None:
    assert not contract.is_id(bad)


@pytest.mark.parametrize("good", ["a", "-", "_", "A-Z_09", "x" * 64])
def test_a_good_id_is_taken(good: str) -> None:
    assert contract.is_id(good)
    assert not refused(HistoryRequest, changed("history_request", conversation_id=good))


WRONG_IN_CHAT_REQUEST = [
    ("content", 1),
    ("content", ["a"]),
    ("messages", "hello"),
    ("messages", [{"role": "user"}]),
    ("messages", [{"role": "tool", "content": "x"}]),
    ("messages", [{"role": "user", "content": 1}]),
    ("messages", [{"role": "user", "content": None}]),
    ("history", "forget"),
    ("history", "APPEND"),
    ("history", None),
    ("system", 1),
    ("model", 1),
    ("model", ""),
    ("model", "m" * 201),
    ("temperature", "0.5"),
    ("temperature", -0.01),
    ("temperature", 2.01),
    ("temperature", True),
    ("top_p", -0.01),
    ("top_p", 1.01),
    ("max_tokens", "5"),
    ("max_tokens", 5.0),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", True),
    ("stop", "END"),
    ("stop", [1]),
    ("stop", ["x"] * 17),
    ("seed", "5"),
    ("seed", 1.5),
    ("reasoning_effort", 1),
    ("on_busy", "wait"),
    ("on_busy", 1),
    ("speech", 1),
    ("speech", "af_heart"),
    ("speech", []),
    ("speech", {"voice": ""}),
    ("speech", {"voice": 1}),
    ("speech", {"speed": 0.24}),
    ("speech", {"speed": 4.01}),
    ("speech", {"speed": "1"}),
    ("speech", {"format": "WAV"}),
    ("speech", {"format": "ogg"}),
    ("speech", {"alignment": "sentence"}),
    ("speech", {"pronunciations": {"a": 1}}),
    ("speech", {"pronunciations": ["a/b"]}),
    ("speech", {"pronunciations": {"a" * 201: "b"}}),
    ("speech", {"max_partial_length": "5"}),
    ("speech", {"max_partial_length": 0}),
    ("metadata", {"a": 1}),
    ("metadata", {"a": None}),
    ("metadata", ["a"]),
    ("metadata", None),
]


@pytest.mark.parametrize(("field", "wrong"), WRONG_IN_CHAT_REQUEST)
def test_a_wrong_value_in_a_chat_request_is_refused(field: str, wrong: object) -> None:
    assert refused(ChatRequest, changed("chat_request", **{field: wrong}))


@pytest.mark.parametrize("speech", [True, 1, 0, "false"])
def test_speech_is_an_object_or_false_and_nothing_else(speech: object) -> None:
    body = json.dumps({"content": "hi", "speech": speech}).encode()

    assert isinstance(understand(Queued(body, "chat.request"), max_bytes=999), Refused)


@pytest.mark.parametrize(
    ("field", "edge"),
    [
        ("temperature", 0),
        ("temperature", 2),
        ("top_p", 0),
        ("top_p", 1),
        ("max_tokens", 1),
        ("speech", {"speed": 0.25}),
        ("speech", {"speed": 4}),
        ("speech", {}),
        ("speech", False),
        ("seed", 2**63),
        ("seed", -1),
        ("metadata", {}),
    ],
)
def test_a_value_at_the_edge_of_its_range_is_taken(field: str, edge: object) -> None:
    assert not refused(ChatRequest, changed("chat_request", **{field: edge}))


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [
        ("cancel_request", "heard_ms", -1),
        ("cancel_request", "heard_ms", "5"),
        ("cancel_request", "heard_ms", 1.5),
        ("speech_request", "start_sequence", 0),
        ("speech_request", "start_sequence", "5"),
        ("speech_request", "text", 1),
        ("speech_request", "speech", True),
        ("speech_request", "speech", False),
        ("speech_request", "speech", None),
        ("delta_text", "seq", "5"),
        ("delta_text", "attempt", "1"),
        ("delta_text", "text", 1),
        ("delta_done", "finish_reason", "eos"),
        ("delta_done", "usage", {"prompt_tokens": "5", "completion_tokens": 1}),
        ("delta_done", "usage", None),
        ("delta_failed", "error", {"code": "oops", "message": "", "retryable": True}),
        ("delta_failed", "error", {"code": "internal", "message": "", "retryable": 1}),
        ("audio_started", "encoding", "pcm_f32le"),
        ("audio_piece", "chars", [0]),
        ("audio_piece", "chars", [0, 1, 2]),
        ("audio_piece_done", "samples", "5"),
        ("audio_piece_done", "words", [{"text": "a"}]),
        ("audio_stored", "bytes", "5"),
        ("audio_stored", "finish", "failed"),
    ],
)
def test_a_wrong_value_in_any_other_message_is_refused(
    name: str, field: str, wrong: object
) -> None:
    assert refused(KINDS[name], changed(name, **{field: wrong}))


def test_an_event_of_an_unknown_type_is_refused() -> None:
    assert refused(Delta, changed("delta_text", type="video"))


# ---------------------------------------------------------------- names


def test_subjects_are_those_of_the_contract() -> None:
    assert contract.CHAT_REQUEST == "chat.request"
    assert contract.CHAT_CANCEL == "chat.cancel"
    assert contract.CHAT_DELTA == "chat.delta"
    assert contract.TTS_REQUEST == "tts.request"
    assert contract.TTS_AUDIO == "tts.audio"
    assert contract.HISTORY_GET == "chat.history.get"
    assert contract.HISTORY_DELETE == "chat.history.delete"
    assert contract.CHAT_DEAD == "chat.dead"
    assert contract.TTS_DEAD == "tts.dead"
    assert contract.chat_request("c1") == "chat.request.c1"
    assert contract.chat_delta("c1") == "chat.delta.c1"
    assert contract.tts_request("c1") == "tts.request.c1"
    assert contract.tts_audio("c1") == "tts.audio.c1"


@pytest.mark.parametrize(
    ("subject", "conversation_id"),
    [("chat.request.c1", "c1"), ("tts.audio.c-1_", "c-1_"), ("chat.request", "")],
)
def test_the_conversation_is_the_third_token_of_a_subject(
    subject: str, conversation_id: str
) -> None:
    assert contract.conversation_of(subject) == conversation_id


def test_headers_are_those_of_the_contract() -> None:
    assert contract.H_CONVERSATION == "Parley-Conversation"
    assert contract.H_TURN == "Parley-Turn"
    assert contract.H_ATTEMPT == "Parley-Attempt"
    assert contract.H_SEQ == "Parley-Seq"
    assert contract.H_PIECE == "Parley-Piece"
    assert contract.H_TYPE == "Parley-Type"
    assert contract.MSG_ID == "Nats-Msg-Id"
    assert contract.TRACEPARENT == "traceparent"
    assert contract.PCM_CONTENT_TYPE == "audio/pcm;rate=24000;channels=1;encoding=s16le"


def test_error_codes_are_those_of_the_contract() -> None:
    assert {code.value for code in contract.Code} == {
        "invalid_request",
        "too_large",
        "busy",
        "not_found",
        "provider_auth",
        "provider_rate_limited",
        "provider_overloaded",
        "provider_refused",
        "provider_stalled",
        "provider_broken",
        "storage_unavailable",
        "deadline_exceeded",
        "internal",
    }


def test_an_audio_format_has_its_content_type() -> None:
    assert {f.value: kind for f, kind in contract.CONTENT_TYPES.items()} == {
        "wav": "audio/wav",
        "flac": "audio/flac",
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "pcm": "audio/pcm",
    }


def test_streams_keep_the_subjects_of_the_contract() -> None:
    kept = {each.name: each.config["subjects"] for each in streams(1, Retention())}

    advisory = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
    assert kept == {
        "CHAT_REQUESTS": ["chat.request", "chat.request.*"],
        "CHAT_DELTAS": ["chat.delta.*"],
        "TTS_REQUESTS": ["tts.request.*"],
        "TTS_AUDIO": ["tts.audio.*"],
        "DEAD_LETTERS": [
            "chat.dead",
            "tts.dead",
            "chat.dead.*",
            "tts.dead.*",
            f"{advisory}.CHAT_REQUESTS.*",
            f"{advisory}.TTS_REQUESTS.*",
        ],
        "KV_conversations": ["$KV.conversations.>"],
        "KV_speech": ["$KV.speech.>"],
    }


def test_the_server_republishes_each_delta_and_each_piece_of_audio() -> None:
    republished = {
        each.name: (each.config["republish"]["src"], each.config["republish"]["dest"])
        for each in streams(1, Retention())
        if "republish" in each.config
    }

    assert republished == {
        "CHAT_DELTAS": ("chat.delta.*", "chat.delta"),
        "TTS_AUDIO": ("tts.audio.*", "tts.audio"),
    }


def test_consumers_are_those_of_the_contract() -> None:
    assert {(each.stream, each.name, each.config["filter_subject"]) for each in consumers()} == {
        ("CHAT_REQUESTS", "chat-intake", "chat.request"),
        ("CHAT_REQUESTS", "chat-workers", "chat.request.*"),
        ("TTS_REQUESTS", "tts-workers", "tts.request.*"),
    }
