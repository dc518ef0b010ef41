"""The AsyncAPI 3.0 document, drawn from the contract's own structs.

FastStream's generator knows neither msgspec nor the subjects that are served by raw nats-py.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from shared import contract

_IDS = {"conversation_id": {"description": "one NATS token: A-Z a-z 0-9 _ -, at most 64"}}

_DELTAS: list[type] = [
    *(contract.Started, contract.Text, contract.Reasoning, contract.Done, contract.Failed)
]


def _in_conversation(subject: str) -> str:
    return contract.of_conversation(subject, "{conversation_id}")


# channel -> (address, what a client does there, messages)
_CHANNELS: dict[str, tuple[str, str, list[type]]] = {
    "request": (contract.CHAT_REQUEST, "send", [contract.ChatRequest]),
    "requestInConversation": (
        _in_conversation(contract.CHAT_REQUEST),
        "send",
        [contract.ChatRequest],
    ),
    "ask": (_in_conversation(contract.CHAT_ASK), "send", [contract.ChatRequest]),
    "cancel": (contract.CHAT_CANCEL, "send", [contract.CancelRequest]),
    "cancelInConversation": (
        _in_conversation(contract.CHAT_CANCEL),
        "send",
        [contract.CancelRequest],
    ),
    "delta": (_in_conversation(contract.CHAT_DELTA), "receive", _DELTAS),
    "deltaOfAll": (contract.CHAT_DELTA, "receive", _DELTAS),
    "speechRequest": (_in_conversation(contract.TTS_REQUEST), "send", [contract.SpeechRequest]),
    "audio": (
        _in_conversation(contract.TTS_AUDIO),
        "receive",
        list(contract.AUDIO_EVENTS.values()),
    ),
    "audioOfAll": (contract.TTS_AUDIO, "receive", list(contract.AUDIO_EVENTS.values())),
    "historyGet": (contract.HISTORY_GET, "send", [contract.HistoryRequest]),
    "historyGetInConversation": (
        _in_conversation(contract.HISTORY_GET),
        "send",
        [contract.HistoryRequest],
    ),
    "historyDelete": (contract.HISTORY_DELETE, "send", [contract.DeleteRequest]),
    "historyDeleteInConversation": (
        _in_conversation(contract.HISTORY_DELETE),
        "send",
        [contract.DeleteRequest],
    ),
    "replay": (_in_conversation(contract.CHAT_REPLAY), "send", [contract.ReplayRequest]),
    "link": (_in_conversation(contract.TTS_LINK), "send", [contract.LinkRequest]),
    # The original, byte for byte.
    "dead": (contract.CHAT_DEAD, "receive", []),
    "deadInConversation": (_in_conversation(contract.CHAT_DEAD), "receive", []),
    "speechDead": (contract.TTS_DEAD, "receive", []),
    "speechDeadInConversation": (_in_conversation(contract.TTS_DEAD), "receive", []),
}
_REPLIES: dict[str, list[type]] = {
    "ask": [contract.Asked, contract.Refusal],
    "cancel": [contract.CancelRequest, contract.Refusal],
    "cancelInConversation": [contract.CancelRequest, contract.Refusal],
    "historyGet": [contract.History, contract.Refusal],
    "historyGetInConversation": [contract.History, contract.Refusal],
    "historyDelete": [contract.Deleted, contract.Refusal],
    "historyDeleteInConversation": [contract.Deleted, contract.Refusal],
    # One after the other, each as it was stored, and an empty one with `Parley-Next`.
    "replay": [*_DELTAS, *contract.AUDIO_EVENTS.values(), contract.Refusal],
    "link": [contract.Link, contract.Refusal],
}
_AUDIO = {"audio", "audioOfAll"}
_CHUNK = {
    "name": "chunk",
    "contentType": contract.PCM_CONTENT_TYPE,
    "payload": {"type": "string", "format": "binary", "description": "whole samples, s16le"},
    "headers": {
        "type": "object",
        "properties": {
            name: {"type": "string"}
            for name in (
                contract.H_TYPE,
                contract.H_CONVERSATION,
                contract.H_TURN,
                contract.H_ATTEMPT,
                contract.H_SEQ,
                contract.H_PIECE,
            )
        },
    },
}


def _messages(types: list[type]) -> dict[str, Any]:
    return {t.__name__: {"$ref": f"#/components/messages/{t.__name__}"} for t in types}


@functools.cache
def document() -> bytes:
    """The whole document as JSON."""
    types = list(
        dict.fromkeys(t for _, _, ts in _CHANNELS.values() for t in ts)
        | dict.fromkeys(t for ts in _REPLIES.values() for t in ts)
    )
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    messages: dict[str, Any] = {
        t.__name__: {
            "name": t.__name__,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{t.__name__}"},
        }
        for t in types
    }
    messages["Chunk"] = _CHUNK
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, (address, action, kinds) in _CHANNELS.items():
        channel: dict[str, Any] = {"address": address, "messages": _messages(kinds)}
        if name in _AUDIO:
            channel["messages"]["Chunk"] = {"$ref": "#/components/messages/Chunk"}
        if "{conversation_id}" in address:
            channel["parameters"] = _IDS
        channels[name] = channel
        operation: dict[str, Any] = {
            # AsyncAPI speaks from the application's side: what clients send, it receives.
            "action": "receive" if action == "send" else "send",
            "channel": {"$ref": f"#/channels/{name}"},
        }
        if name in _REPLIES:
            channels[f"{name}Reply"] = {"address": None, "messages": _messages(_REPLIES[name])}
            operation["reply"] = {"channel": {"$ref": f"#/channels/{name}Reply"}}
        operations[name] = operation
    return msgspec.json.encode(
        {
            "asyncapi": "3.0.0",
            "info": {
                "title": "Parley",
                "version": "1",
                "description": "An assistant that talks, as two services on NATS.",
                "license": {"name": "Apache-2.0"},
            },
            "defaultContentType": "application/json",
            "channels": channels,
            "operations": operations,
            "components": {"messages": messages, "schemas": schemas},
        }
    ).replace(b"\\\\Z", b"$")
