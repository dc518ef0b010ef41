"""Every message: its payload, its headers, examples. An example's payload is a golden message."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from docs.asyncapi import headers
from docs.asyncapi.schemas import COMPONENTS
from shared import contract

GOLDEN: Final = Path(__file__).resolve().parents[2] / "tests" / "golden"
JSON: Final = "application/json"
_TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass(frozen=True, kw_only=True)
class Message:
    """`golden`: names of files in tests/golden, the first one the plainest."""

    payload: dict[str, Any]
    title: str
    headers: dict[str, Any] | None = None
    content_type: str = JSON
    golden: tuple[str, ...] = ()
    example_headers: dict[str, str] = field(default_factory=dict)
    examples: tuple[dict[str, Any], ...] = ()
    summary: str = ""


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def _ref(kind: type) -> dict[str, Any]:
    return {"$ref": COMPONENTS + kind.__name__}


def _request(kind: type, title: str, *names: str, handed_on: bool = False) -> Message:
    known = (*headers.REQUEST, *(headers.HANDED_ON if handed_on else ()))
    return Message(
        payload=_ref(kind),
        title=title,
        headers=headers.plain(*known),
        golden=names,
        example_headers={contract.TRACEPARENT: _TRACE},
    )


def _asked(kind: type, title: str, *names: str) -> Message:
    return Message(payload=_ref(kind), title=title, golden=names)


def _delta(kind: type, title: str, *names: str) -> Message:
    return Message(payload=_ref(kind), title=title, headers=headers.of_delta(), golden=names)


def _audio(kind: contract.Kind, title: str, *names: str) -> Message:
    return Message(
        payload=_ref(contract.AUDIO_EVENTS[kind]),
        title=title,
        headers=headers.of_audio(kind),
        golden=names,
        example_headers={contract.H_TYPE: kind.value},
    )


def _dead(title: str, subject: str, original: str, code: contract.Code, why: str) -> Message:
    given = {
        contract.MSG_ID: "dead.5c0d.17",
        contract.H_ERROR_CODE: code.value,
        contract.H_ERROR: why,
        contract.H_SUBJECT: subject,
        contract.H_DELIVERIES: "1",
        contract.H_FAILED_AT: "2026-01-02T03:04:05.678Z",
    }
    return Message(
        payload={
            "description": "The original's body, byte for byte: whatever somebody published.",
        },
        title=title,
        summary="What could not be done, with the reason in headers beside the original's own.",
        headers=headers.of_dead_letter(),
        content_type="application/octet-stream",
        examples=({"name": "refused", "headers": given, "payload": original},),
    )


_PUB_ACK: Final = {
    "type": "object",
    "description": "The answer of the stream that keeps what was published (JetStream).",
    "properties": {
        "stream": {"type": "string", "description": "Which stream keeps it."},
        "seq": {"type": "integer", "description": "Its sequence there."},
        "duplicate": {
            "type": "boolean",
            "description": "The stream had this `Nats-Msg-Id` before: nothing was added.",
        },
        "domain": {"type": "string"},
    },
    "required": ["stream", "seq"],
}
_PUB_REFUSED: Final = {
    "type": "object",
    "description": "The stream does not take it, for example because it is full (JetStream).",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer", "description": "Like an HTTP status."},
                "err_code": {"type": "integer", "description": "The server's own code."},
                "description": {"type": "string"},
            },
            "required": ["code"],
        },
        "stream": {"type": "string"},
        "seq": {"type": "integer"},
    },
    "required": ["error"],
}
_ADVISORY: Final = {
    "type": "object",
    "description": "The server's own word that a consumer has handed a message out too often.",
    "properties": {
        "type": {"const": "io.nats.jetstream.advisory.v1.max_deliver", "type": "string"},
        "id": {"type": "string"},
        "timestamp": {"type": "string", "description": "RFC 3339."},
        "stream": {"type": "string"},
        "consumer": {"type": "string"},
        "stream_seq": {"type": "integer", "description": "Which message of the stream it is."},
        "deliveries": {"type": "integer"},
    },
    "required": ["type", "stream", "consumer", "stream_seq", "deliveries"],
}

MESSAGES: Final[dict[str, Message]] = {
    # -------- into the system
    "ChatRequest": _request(
        contract.ChatRequest,
        "A question",
        *("chat_request_least", "chat_request", "chat_request_of_messages"),
        "chat_request_interrupting",
        handed_on=True,
    ),
    "PlainText": Message(
        payload={
            "type": "string",
            "description": "UTF-8 that does not begin with `{`: the `content` of a question, or the"
            " `text` to be spoken.",
            "pattern": r"^\s*[^\s{]",
        },
        title="Plain text in the place of a request",
        headers=headers.plain(*headers.REQUEST),
        content_type="text/plain",
        examples=({"name": "hello", "payload": "Hello"},),
    ),
    "CancelRequest": _asked(
        contract.CancelRequest, "Stop a turn", "cancel_request_least", "cancel_request"
    ),
    "SpeechRequest": _request(
        contract.SpeechRequest, "Speak", "speech_request_of_text", "speech_request"
    ),
    "HistoryRequest": _asked(
        contract.HistoryRequest, "Show the history", "history_request", "history_request_of_a_page"
    ),
    "DeleteRequest": _asked(contract.DeleteRequest, "Erase the conversation", "delete_request"),
    "ReplayRequest": _asked(
        contract.ReplayRequest, "Say again", "replay_request_least", "replay_request"
    ),
    "LinkRequest": _asked(contract.LinkRequest, "Sign a link", "link_request"),
    # -------- events of the text
    "Started": _delta(
        contract.Started,
        "The text begins",
        *("delta_started", "delta_started_silent", "delta_started_warned"),
    ),
    "Text": _delta(contract.Text, "Some text", "delta_text"),
    "Reasoning": _delta(contract.Reasoning, "Some reasoning", "delta_reasoning"),
    "Done": _delta(
        contract.Done,
        "The text is done",
        *("delta_done", "delta_done_cancelled", "delta_done_uncounted"),
    ),
    "Failed": _delta(contract.Failed, "The turn has failed", "delta_failed"),
    # -------- events of the voice
    "AudioStarted": _audio(
        contract.Kind.STARTED, "The voice begins", "audio_started", "audio_started_warned"
    ),
    "Piece": _audio(contract.Kind.PIECE, "A piece is about to be heard", "audio_piece"),
    "Chunk": Message(
        payload={
            "type": "string",
            "format": "binary",
            "contentMediaType": contract.PCM_CONTENT_TYPE,
            "description": "Raw PCM, no JSON: whole samples of 16 bits, signed, little-endian, one"
            " channel, 24,000 a second.",
        },
        title="Some audio of a piece",
        summary="The chunks of the finished pieces, joined in order, are the stored samples.",
        headers=headers.of_audio(contract.Kind.CHUNK),
        content_type=contract.PCM_CONTENT_TYPE,
        examples=({"name": "audio_chunk", "headers": golden("audio_chunk_headers")},),
    ),
    "PieceDone": _audio(contract.Kind.PIECE_DONE, "A piece is done", "audio_piece_done"),
    "Stored": _audio(
        contract.Kind.STORED,
        "The voice is stored",
        *("audio_stored", "audio_stored_nothing", "audio_stored_truncated"),
    ),
    "AudioFailed": _audio(contract.Kind.FAILED, "The voice has failed", "audio_failed"),
    # -------- answers
    "Asked": _asked(contract.Asked, "The question is in the queue", "asked"),
    "Cancelled": Message(
        payload=_ref(contract.CancelRequest),
        title="The turn was told to stop",
        summary="The request as it was understood. The end itself is told by events.",
        golden=("cancel_request",),
    ),
    "History": _asked(
        contract.History, "A page of the history", "history", "history_page", "history_of_nobody"
    ),
    "Deleted": _asked(contract.Deleted, "The conversation is erased", "history_deleted"),
    "Link": _asked(contract.Link, "A link to a stored voice", "link"),
    "Refusal": _asked(contract.Refusal, "Why it cannot be done", "refusal"),
    "ReplayEnd": Message(
        payload={"type": "string", "maxLength": 0, "description": "Nothing."},
        title="The replay ends",
        headers=headers.of_replay_end(),
        content_type="application/octet-stream",
        examples=(
            {"name": "all", "headers": {contract.H_NEXT: "0"}, "payload": ""},
            {"name": "more", "headers": {contract.H_NEXT: "4711"}, "payload": ""},
        ),
    ),
    "PubAck": Message(
        payload=_PUB_ACK,
        title="The stream keeps it",
        examples=(
            {"name": "kept", "payload": {"stream": contract.CHAT_REQUESTS_STREAM, "seq": 17}},
            {
                "name": "known",
                "payload": {
                    "stream": contract.CHAT_REQUESTS_STREAM,
                    "seq": 17,
                    "duplicate": True,
                },
            },
        ),
    ),
    "PubRefused": Message(
        payload=_PUB_REFUSED,
        title="The stream does not take it",
        examples=(
            {
                "name": "full",
                "payload": {
                    "error": {
                        "code": 503,
                        "err_code": 10077,
                        "description": "maximum bytes exceeded",
                    },
                    "stream": contract.CHAT_REQUESTS_STREAM,
                    "seq": 0,
                },
            },
        ),
    ),
    # -------- what could not be done
    "ChatDeadLetter": _dead(
        "A question that could not be answered",
        contract.CHAT_REQUEST,
        '{"content": 1}',
        contract.Code.INVALID_REQUEST,
        "`content` is 1, but must be text",
    ),
    "SpeechDeadLetter": _dead(
        "What could not be spoken",
        contract.tts_request("c1"),
        '{"text": ""}',
        contract.Code.INVALID_REQUEST,
        "`text` is empty",
    ),
    "MaxDeliveries": Message(
        payload=_ADVISORY,
        title="A message was handed out too often",
        examples=(
            {
                "name": "given_up",
                "payload": {
                    "type": "io.nats.jetstream.advisory.v1.max_deliver",
                    "id": "jmp4V5GJxqTBOUQHLVB0gK",
                    "timestamp": "2026-01-02T03:04:05.678Z",
                    "stream": contract.CHAT_REQUESTS_STREAM,
                    "consumer": contract.CHAT_WORKERS,
                    "stream_seq": 17,
                    "deliveries": 25,
                },
            },
        ),
    ),
}


def components() -> dict[str, Any]:
    return {name: _component(name, message) for name, message in MESSAGES.items()}


def _component(name: str, message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "title": message.title}
    if message.summary:
        found["summary"] = message.summary
    found["contentType"] = message.content_type
    if message.headers is not None:
        found["headers"] = message.headers
    found["payload"] = message.payload
    made = [_example(message, each) for each in message.golden]
    found["examples"] = [*made, *message.examples]
    return found


def _example(message: Message, name: str) -> dict[str, Any]:
    payload = golden(name)
    found: dict[str, Any] = {"name": name}
    if message.headers is not None:
        found["headers"] = _headers_of(message, payload)
    return found | {"payload": payload}


def _headers_of(message: Message, payload: dict[str, Any]) -> dict[str, str]:
    """Those that the schema names and the body has, beside the message's own."""
    assert message.headers is not None
    in_body = {
        contract.H_CONVERSATION: payload.get("conversation_id"),
        contract.H_TURN: payload.get("turn_id"),
        contract.H_ATTEMPT: payload.get("attempt"),
    }
    required = message.headers.get("required", ())
    return message.example_headers | {
        name: str(value) for name, value in in_body.items() if name in required
    }
