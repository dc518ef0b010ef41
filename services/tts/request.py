"""A request to speak as it arrives: understood and given its ids, or refused with a reason."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from shared.contract import (
    H_TURN,
    ID_RULE,
    MSG_ID,
    UNREADABLE,
    SpeechRequest,
    conversation_of,
    is_id,
)
from shared.errors import InvalidRequest
from shared.explain import explain
from shared.refuse import Refused, plain_text
from shared.unknown_fields import unknown_fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.refuse import Request

_decode = msgspec.json.Decoder(SpeechRequest).decode


class _Ids(msgspec.Struct):
    turn_id: Any = None


_decode_ids = msgspec.json.Decoder(_Ids).decode


def understand(message: Request) -> SpeechRequest | Refused:
    """The request with both ids set, or why it cannot be done."""
    named = conversation_of(message.subject)
    turn_id = turn_id_of(message.data, message.headers, message.sequence)
    try:
        request = _understand(named, message.data)
    except InvalidRequest as exc:
        return Refused(exc, named if is_id(named) else None, turn_id)
    return replace(request, conversation_id=named, turn_id=request.turn_id or turn_id)


def warnings_of(message: Request) -> list[str]:
    """What its sender may have misspelled, of a request that was understood."""
    return unknown_fields_of(message.data, SpeechRequest)


def turn_id_of(data: bytes, headers: Mapping[str, str], sequence: int) -> str:
    """From the body, the header, `Nats-Msg-Id`, else the stream sequence."""
    try:
        given = _decode_ids(data).turn_id
    except UNREADABLE:
        given = None
    given = given if isinstance(given, str) else headers.get(H_TURN, "")
    if is_id(given):
        return given
    unique = headers.get(MSG_ID)
    if unique:
        return unique if is_id(unique) else "m" + hashlib.sha256(unique.encode()).hexdigest()[:20]
    return f"v{sequence}"


def _understand(named: str, data: bytes) -> SpeechRequest:
    if not is_id(named):
        raise InvalidRequest(f"the subject's conversation id is not {ID_RULE}")
    is_json = data.lstrip()[:1] == b"{"
    request = _decoded(data) if is_json else SpeechRequest(text=plain_text(data))
    if request.conversation_id not in {None, named}:
        raise InvalidRequest("`conversation_id` differs from the subject's")
    if request.text is None and request.turn_id is None:
        raise InvalidRequest("give `text`, or the `turn_id` whose text is to be spoken")
    if request.text is not None and not request.text.strip():
        raise InvalidRequest("`text` is empty")
    return request


def _decoded(data: bytes) -> SpeechRequest:
    try:
        request = _decode(data)
        msgspec.json.encode(request)
    except RecursionError:
        raise InvalidRequest("nested too deeply") from None
    except UnicodeEncodeError:
        raise InvalidRequest("a text holds a lone surrogate") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidRequest(explain(exc, data, SpeechRequest)) from None
    return request
