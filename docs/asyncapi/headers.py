"""The headers of each kind of message, as JSON Schemas. A header's value is always text."""

from __future__ import annotations

from typing import Any, Final

from docs.asyncapi.schemas import COMPONENTS
from shared import contract

_ID: Final = contract.ID_PATTERN.replace(r"\Z", "$")
_COUNT: Final = "^(0|[1-9][0-9]*)$"
_FROM_ONE: Final = "^[1-9][0-9]*$"
CONTENT_TYPE: Final = "Content-Type"
ORIGINAL: Final = "Parley-Original-"


def _text(description: str, **rules: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **rules}


_HEADERS: Final[dict[str, dict[str, Any]]] = {
    contract.MSG_ID: _text("Makes the publish idempotent: a stream keeps the same id once."),
    contract.TRACEPARENT: _text(
        "The W3C trace context, carried from the request through all that follows from it.",
        pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    ),
    contract.H_CONVERSATION: _text(
        "The conversation, as in the body: to filter without parsing.", pattern=_ID
    ),
    contract.H_TURN: _text("The turn, as in the body.", pattern=_ID),
    contract.H_ATTEMPT: _text("The attempt, 1, 2 …, as in the body.", pattern=_FROM_ONE),
    contract.H_SEQ: _text(
        "0, 1, 2 … among the chunks of an attempt, no gap and no repeat.", pattern=_COUNT
    ),
    contract.H_PIECE: _text("The `index` of the piece that it belongs to.", pattern=_COUNT),
    contract.H_SEQUENCE: _text(
        "Only in the answers of a replay: the event's sequence in its stream.", pattern=_FROM_ONE
    ),
    contract.H_NEXT: _text(
        "Ends a replay: the sequence to go on from, 0 where there is no more.", pattern=_COUNT
    ),
    "Nats-Sequence": _text(
        "Only where the server republishes it: the event's sequence in its stream.",
        pattern=_FROM_ONE,
    ),
    "Nats-Last-Sequence": _text(
        "Likewise: the sequence of the event before it on its own subject, 0 for the first one.",
        pattern=_COUNT,
    ),
    "Nats-Stream": _text("Likewise: the stream."),
    "Nats-Subject": _text("Likewise: its own subject, which names the conversation."),
    "Nats-Time-Stamp": _text("Likewise: when the stream took it, RFC 3339."),
    contract.H_WARNINGS: _text(
        "Of a request that a service handed on: a JSON list of its unknown fields, as in `started`."
    ),
    contract.H_ASKED_AT: _text(
        "Of a request that a service handed on: when the stream took the first one, RFC 3339."
    ),
    contract.H_ERROR_CODE: {
        "allOf": [{"$ref": f"{COMPONENTS}Code"}],
        "description": "Why it could not be done.",
    },
    contract.H_ERROR: _text("The same for people, one line of at most 1,000 characters."),
    contract.H_SUBJECT: _text("Where the original was published."),
    contract.H_DELIVERIES: _text("How often it was handed out.", pattern=_FROM_ONE),
    contract.H_FAILED_AT: _text("When it was given up, RFC 3339 in UTC."),
    contract.H_ORIGINAL_BYTES: _text(
        "The original's size, only where its body had to be cut to fit.", pattern=_COUNT
    ),
    CONTENT_TYPE: _text("What the body is.", const=contract.PCM_CONTENT_TYPE),
}

REQUEST: Final = (contract.MSG_ID, contract.TRACEPARENT, contract.H_TURN)
HANDED_ON: Final = (contract.H_CONVERSATION, contract.H_WARNINGS, contract.H_ASKED_AT)
IDS: Final = (contract.H_CONVERSATION, contract.H_TURN)
CARRIED: Final = (
    *(contract.MSG_ID, contract.TRACEPARENT, contract.H_SEQUENCE),
    *("Nats-Sequence", "Nats-Last-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp"),
)
OF_CHUNK: Final = (contract.H_SEQ, contract.H_PIECE, CONTENT_TYPE)
OF_DEAD: Final = (
    *(contract.H_ERROR_CODE, contract.H_ERROR, contract.H_SUBJECT),
    *(contract.H_DELIVERIES, contract.H_FAILED_AT),
)


def plain(*optional: str) -> dict[str, Any]:
    """None of them has to be there."""
    return _object({name: _HEADERS[name] for name in optional}, ())


def of_delta() -> dict[str, Any]:
    """Their kind stands in the body, as `type`."""
    return _object({name: _HEADERS[name] for name in (*IDS, *CARRIED)}, IDS)


def of_audio(kind: contract.Kind) -> dict[str, Any]:
    """Their kind stands in `Parley-Type`, one value for each message."""
    required: tuple[str, ...] = (contract.H_TYPE, *IDS, contract.H_ATTEMPT)
    if kind is contract.Kind.CHUNK:
        required += OF_CHUNK
    # Some generators of code know `const`, others an enum of one value.
    told = _text("Which kind of event it is.", const=kind.value, enum=[kind.value])
    known = {contract.H_TYPE: told} | _HEADERS
    return _object({name: known[name] for name in (*required, *CARRIED)}, required)


def of_dead_letter() -> dict[str, Any]:
    """Beside these stand the original's own, those that begin with `Nats-` under another name."""
    names = (*OF_DEAD, contract.H_ORIGINAL_BYTES, contract.MSG_ID)
    schema = _object({name: _HEADERS[name] for name in names}, OF_DEAD)
    return schema | {"patternProperties": {f"^{ORIGINAL}": {"type": "string"}}}


def of_replay_end() -> dict[str, Any]:
    return _object({contract.H_NEXT: _HEADERS[contract.H_NEXT]}, (contract.H_NEXT,))


def _object(properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties}
    return found | ({"required": list(required)} if required else {})
