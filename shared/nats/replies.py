"""Request/reply: strict decoding, an answer or a reason, to inboxes only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import msgspec
from faststream.nats import NatsBroker, NatsMessage
from msgspec import Struct, structs

from shared.contract import (
    H_TURN,
    ID_RULE,
    UNREADABLE,
    Refusal,
    conversation_of,
    encode,
    everywhere,
    is_id,
)
from shared.errors import (
    DeadlineExceeded,
    Failure,
    Internal,
    InvalidRequest,
    NatsError,
    StorageUnavailable,
    TooLarge,
)
from shared.explain import explain
from shared.nats.connection import Connection
from shared.nats.dead_letters import dead_letter
from shared.process.logs import concerning, ids
from shared.process.metrics import REFUSED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.msg import Msg


log = logging.getLogger(__name__)

T = TypeVar("T")
MAX_BYTES: Final = 16_384
DEADLINE: Final = 20.0
AT_ONCE: Final = 16
ANSWERED: Final = object()


async def _as_bytes(message: NatsMessage) -> bytes:
    """FastStream's own decoders turn "5" into an int, and JSON into anything."""
    return message.body


def serve(
    broker: NatsBroker,
    subject: str,
    take: Callable[[Msg], Awaitable[None]],
    *,
    queue: str = "",
    literal: bool = True,
) -> None:
    """Has FastStream take a subject, and the same with a conversation behind it (or that alone).

    In a queue group one replica takes each message, several at once: one that waits for something
    holds up no other. Else every replica does, one after the other.
    """

    async def on_message(body: bytes, message: NatsMessage) -> None:  # noqa: ARG001  FastStream's form
        await take(message.raw_message)

    for each in everywhere(subject)[0 if literal else 1 :]:
        broker.subscriber(
            each, queue=queue, no_reply=True, decoder=_as_bytes, max_workers=AT_ONCE if queue else 1
        )(on_message)


async def overhear(
    connection: Connection, subject: str, take: Callable[[Msg], Awaitable[None]]
) -> None:
    """Hears a subject, and the same with a conversation behind it, until the connection closes.

    Without FastStream, which takes 5 to 40 ms for a message on a busy machine: a stop that means
    what runs now must not come late, and stop what came after it.
    """
    for each in everywhere(subject):
        await connection.client.subscribe(each, cb=take)


class _InConversation(Protocol):
    """A request whose conversation the body names, or the subject."""

    @property
    def conversation_id(self) -> str: ...


R = TypeVar("R", bound=_InConversation)


def decode_body(data: bytes, kind: type[T]) -> T:
    """An empty body is `{}`. Raises InvalidRequest, TooLarge."""
    if len(data) > MAX_BYTES:
        raise TooLarge(f"the body has {len(data)} bytes, more than {MAX_BYTES}")
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except RecursionError:
        raise InvalidRequest("nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidRequest(explain(exc, data, kind)) from None


def decode_request(msg: Msg, kind: type[R]) -> R:
    """A request with its `conversation_id`, which the body names, or the subject, or both alike.

    Raises InvalidRequest, TooLarge.
    """
    request = decode_body(msg.data, kind)
    conversation_id = named_by(msg.subject)
    if request.conversation_id and conversation_id not in {"", request.conversation_id}:
        raise InvalidRequest("`conversation_id` differs from the subject's")
    if not (request.conversation_id or conversation_id):
        raise InvalidRequest("`conversation_id` is missing")
    if request.conversation_id:
        return request
    return cast("R", structs.replace(cast("Struct", request), conversation_id=conversation_id))


def named_by(subject: str) -> str:
    """The conversation that the subject names, "" for none; raises InvalidRequest."""
    conversation_id = conversation_of(subject)
    if conversation_id and not is_id(conversation_id):
        raise InvalidRequest(f"the subject's conversation id is not {ID_RULE}")
    return conversation_id


async def answer_with(connection: Connection, msg: Msg, work: Awaitable[Any], *, to: str) -> None:
    """Answers with what `work` returns, or why it failed; a request that is not understood is kept
    as a dead letter, too. Where `work` has answered by itself it returns ANSWERED."""
    with concerning(lambda: _ids(msg)):
        await _answer_with(connection, msg, work, to=to)


async def _answer_with(connection: Connection, msg: Msg, work: Awaitable[Any], *, to: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE):
            reply: object = await work
    except Failure as exc:
        await _refuse(connection, msg, exc, to=to)
    except TimeoutError:
        await _refuse(connection, msg, DeadlineExceeded(f"not done within {DEADLINE:g} s"), to=to)
    except NatsError as exc:
        log.warning("reply.not_done", extra={"subject": msg.subject, "reason": str(exc)})
        await _refuse(connection, msg, StorageUnavailable(f"NATS did not do it: {exc}"), to=to)
    except Exception:  # the last guard: the asker gets a code, the log gets the reason
        log.exception("reply.failed", extra={"subject": msg.subject})
        await _refuse(connection, msg, Internal("an error inside the service"), to=to)
    else:
        if reply is not ANSWERED:
            await reply_to(connection, msg.reply, reply)


class _Named(Struct):
    """What can be told of a request that is otherwise not understood."""

    conversation_id: Any = None
    turn_id: Any = None


def _ids(msg: Msg) -> dict[str, object]:
    named = _Named()
    with contextlib.suppress(*UNREADABLE):
        named = msgspec.json.decode(msg.data, type=_Named)
    headers = msg.headers or {}
    known = conversation_of(msg.subject) or named.conversation_id
    turn_id = named.turn_id or headers.get(H_TURN)
    return ids(_id(known), _id(turn_id), headers)


def _id(found: object) -> str | None:
    return found if isinstance(found, str) and is_id(found) else None


async def _refuse(connection: Connection, msg: Msg, error: Failure, *, to: str) -> None:
    REFUSED.labels(_label(msg.subject), error.code.value).inc()
    await reply_to(connection, msg.reply, Refusal(error.as_error()))
    if isinstance(error, InvalidRequest):
        with contextlib.suppress(NatsError):
            await dead_letter(
                connection,
                to,
                subject=msg.subject,
                data=msg.data,
                headers=msg.headers or {},
                error=error,
            )


def _label(subject: str) -> str:
    """Without the conversation: each would be a series of its own."""
    conversation_id = conversation_of(subject)
    return subject.removesuffix(f".{conversation_id}") if conversation_id else subject


# An inbox; or, where the sender is of another account, what the server put in the place of its
# reply subject, and takes from nobody else: an answer then goes out in the sender's account.
_ANSWERED: Final = ("_INBOX.", "_R_.")


def is_inbox(reply: str) -> bool:
    """Any other reply subject would let a sender make us publish there."""
    return reply.startswith(_ANSWERED)


async def reply_to(connection: Connection, to: str, reply: object) -> None:
    """Sends an answer, to an inbox only; one that NATS would not take is a refusal that says so."""
    if not is_inbox(to):
        return
    body = encode(reply)
    limit = connection.client.max_payload
    if len(body) > limit:
        refused = TooLarge(f"the answer has {len(body)} bytes, more than the {limit} of NATS")
        body = encode(Refusal(refused.as_error()))
    with contextlib.suppress(NatsError):
        await connection.send(to, body)
