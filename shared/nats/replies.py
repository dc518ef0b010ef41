"""Request/reply: strict decoding, an answer or a reason, to inboxes only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from faststream.nats import NatsMessage

from shared.contract import Refusal, encode
from shared.errors import (
    DeadlineExceeded,
    Failure,
    Internal,
    InvalidRequest,
    NatsError,
    TooLarge,
)
from shared.nats.connection import Connection
from shared.nats.dead_letters import dead_letter
from shared.process.metrics import REFUSED

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nats.aio.msg import Msg


log = logging.getLogger(__name__)

T = TypeVar("T")
MAX_BYTES: Final = 16_384
DEADLINE: Final = 20.0


async def as_bytes(message: NatsMessage) -> bytes:
    """FastStream's own decoders turn "5" into an int, and JSON into anything."""
    return message.body


def decode_request(data: bytes, kind: type[T]) -> T:
    """Raises InvalidRequest, TooLarge."""
    if len(data) > MAX_BYTES:
        raise TooLarge(f"the body has {len(data)} bytes, more than {MAX_BYTES}")
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise InvalidRequest("nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidRequest(str(exc)) from None


async def answer_with(connection: Connection, msg: Msg, work: Awaitable[Any], *, to: str) -> None:
    """Answers with what `work` returns, or why it failed; what is not understood is a dead letter.

    Only to `_INBOX`: any other reply subject would let a sender make us publish there.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            reply: object = await work
    except Failure as exc:
        reply = Refusal(exc.as_error())
        REFUSED.labels(msg.subject, exc.code.value).inc()
        if isinstance(exc, InvalidRequest):
            with contextlib.suppress(NatsError):
                await dead_letter(
                    connection,
                    to,
                    subject=msg.subject,
                    data=msg.data,
                    headers=msg.headers or {},
                    error=exc,
                )
    except TimeoutError:
        reply = Refusal(DeadlineExceeded(f"not done within {DEADLINE:g} s").as_error())
    except Exception:  # the last guard: the asker gets a code, the log gets the reason
        log.exception("reply.failed", extra={"subject": msg.subject})
        reply = Refusal(Internal("an error inside the service").as_error())
    if msg.reply.startswith("_INBOX."):
        with contextlib.suppress(NatsError):
            await connection.send(msg.reply, encode(reply))
