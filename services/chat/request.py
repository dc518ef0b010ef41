"""A request as it arrives: understood and given its ids, or refused with a reason."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from shared.contract import (
    H_ASKED_AT,
    H_TURN,
    H_WARNINGS,
    ID_RULE,
    MSG_ID,
    UNREADABLE,
    ChatRequest,
    PromptMessage,
    Role,
    Speech,
    conversation_of,
    is_id,
)
from shared.errors import InvalidRequest, TooLarge
from shared.explain import explain
from shared.refuse import Refused, plain_text
from shared.unknown_fields import MAX_NAMED, unknown_fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.refuse import Message, Request

# Beyond the limit, of what was handed on: its ids were added, and plain text was spelled out.
IDS_BYTES: Final = 512

_decode = msgspec.json.Decoder(ChatRequest).decode
_Warnings: TypeAlias = Annotated[
    list[Annotated[str, msgspec.Meta(max_length=400)]], msgspec.Meta(max_length=MAX_NAMED)
]
_decode_warnings = msgspec.json.Decoder(_Warnings).decode


class _Ids(msgspec.Struct):
    """What can be told of a request that is otherwise not understood."""

    conversation_id: Any = None
    turn_id: Any = None


_decode_ids = msgspec.json.Decoder(_Ids).decode


def understand(message: Request, *, max_bytes: int) -> ChatRequest | Refused:
    """The request with both ids set, or why it cannot be done."""
    conversation_id, turn_id = _known_ids(message, max_bytes)
    try:
        request = _understand(message.subject, message.data, max_bytes, _spare(message))
    except InvalidRequest as exc:
        return Refused(exc, conversation_id, turn_id)
    if conversation_id is None:
        named = message.headers.get(MSG_ID) or message.unique
        conversation_id = "c" + hashlib.sha256(named.encode()).hexdigest()[:20]
    return replace(request, conversation_id=conversation_id, turn_id=turn_id)


def warnings_of(message: Request) -> list[str]:
    """What its sender may have misspelled, of a request that was understood."""
    handed_on = message.headers.get(H_WARNINGS)
    try:
        if handed_on is not None:
            return _decode_warnings(handed_on)
    except UNREADABLE:
        return []
    return unknown_fields_of(message.data, ChatRequest)


def handed_on_with(warnings: Sequence[str]) -> dict[str, str]:
    """The header by which they reach whoever answers; none where there are none."""
    return {H_WARNINGS: json.dumps(list(warnings))} if warnings else {}


def asked_at(message: Message) -> datetime:
    """When the stream took the request, also where the intake has handed it on since then."""
    try:
        first = datetime.fromisoformat(message.headers.get(H_ASKED_AT, ""))
    except ValueError:
        return message.taken_at
    return message.taken_at if first.tzinfo is None else min(first, message.taken_at)


def messages_of(request: ChatRequest) -> list[PromptMessage]:
    """What the request adds to the conversation, the user's words last."""
    if request.messages is not None:
        return request.messages
    return [PromptMessage(Role.USER, request.content or "")]


def characters_of(request: ChatRequest) -> int:
    """How much there is to read for the model, without what the history keeps."""
    return len(request.system or "") + sum(len(each.content) for each in messages_of(request))


def speech_of(request: ChatRequest, *, default: bool) -> Speech | None:
    """How the turn is spoken, None where it is not; `default`: whether, if it does not say."""
    if isinstance(request.speech, Speech):
        return request.speech
    return Speech() if request.speech is None and default else None


def turn_id_of(data: bytes, headers: Mapping[str, str], sequence: int, *, prefix: str = "t") -> str:
    """The turn's id: from the body, the header, `Nats-Msg-Id`, else the stream sequence."""
    if data.lstrip()[:1] == b"{":
        try:
            given = _decode_ids(data).turn_id
        except UNREADABLE:
            given = None
        if isinstance(given, str) and is_id(given):
            return given
    given = headers.get(H_TURN, "")
    if is_id(given):
        return given
    unique = headers.get(MSG_ID)
    if unique:
        # Any text makes a good idempotency key; only an id makes a subject or an object's key.
        return unique if is_id(unique) else "m" + hashlib.sha256(unique.encode()).hexdigest()[:20]
    return f"{prefix}{sequence}"


def _known_ids(message: Request, max_bytes: int) -> tuple[str | None, str]:
    short = message.data if len(message.data) <= max_bytes + _spare(message) else b""
    turn_id = turn_id_of(short, message.headers, message.sequence)
    known = conversation_of(message.subject) or conversation_id_of(short)
    return (known if is_id(known) else None), turn_id


def conversation_id_of(data: bytes) -> str:
    """As the body says; "" where it says none."""
    if data.lstrip()[:1] != b"{":
        return ""
    try:
        given = _decode_ids(data).conversation_id
    except UNREADABLE:
        return ""
    return given if isinstance(given, str) else ""


def _spare(message: Request) -> int:
    return IDS_BYTES if H_TURN in message.headers and conversation_of(message.subject) else 0


def _understand(subject: str, data: bytes, max_bytes: int, spare: int) -> ChatRequest:
    if len(data) > max_bytes + spare:
        raise TooLarge(f"the body has {len(data)} bytes, more than {max_bytes}")
    named = conversation_of(subject)
    if named and not is_id(named):
        raise InvalidRequest(f"the subject's conversation id is not {ID_RULE}")
    if data.lstrip()[:1] != b"{":
        request = ChatRequest(content=plain_text(data))
    else:
        try:
            request = _decode(data)
        except RecursionError:
            raise InvalidRequest("nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise InvalidRequest(explain(exc, data, ChatRequest)) from None
    if named and request.conversation_id not in {None, named}:
        raise InvalidRequest("`conversation_id` differs from the subject's")
    _check(request)
    # Plain text grows when it is handed on as JSON: a control character to six times its size.
    if len(_handed_on(request)) > max_bytes + spare:
        raise TooLarge(f"as JSON the request has more than {max_bytes} bytes")
    return request


def _check(request: ChatRequest) -> None:
    """What types alone cannot say."""
    if (request.content is None) == (request.messages is None):
        raise InvalidRequest("give either `content` or `messages`")
    if request.content is not None and not request.content.strip():
        raise InvalidRequest("`content` is empty")
    if request.messages is not None:
        if not request.messages or request.messages[-1].role is not Role.USER:
            raise InvalidRequest("the last of `messages` must be the user's")
        if not request.messages[-1].content.strip():
            raise InvalidRequest("the user's message is empty")
    if request.speech is True:
        raise InvalidRequest("`speech` must be an object or false")


def _handed_on(request: ChatRequest) -> bytes:
    try:
        return msgspec.json.encode(request)
    except (UnicodeEncodeError, msgspec.MsgspecError):
        raise InvalidRequest("a text holds a lone surrogate") from None
