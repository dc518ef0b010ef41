"""What could not be done: kept with its reason, as it came."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shared.contract import (
    H_DELIVERIES,
    H_ERROR,
    H_ERROR_CODE,
    H_FAILED_AT,
    H_ORIGINAL_BYTES,
    H_SUBJECT,
    MSG_ID,
    UNREADABLE,
    conversation_of,
    is_id,
    of_conversation,
)
from shared.errors import NatsError, NoStream
from shared.nats.connection import Connection, translated
from shared.nats.publish import publish
from shared.process.metrics import DEAD_LETTERS
from shared.retry import NATS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.errors import Failure
    from shared.refuse import Message

log = logging.getLogger(__name__)

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAX_HEADERS: Final = 6_000  # bytes of the original's headers that are kept
LOOKS: Final = 4  # within 0.75 s, in which a change of leader is over
_ROOM: Final = 16_384  # bytes left for headers within what NATS takes


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def headers_of(
    headers: Mapping[str, str], subject: str, error: Failure, deliveries: int
) -> dict[str, str]:
    """The original's headers and the reason. `Nats-` ones are renamed: they would be obeyed."""
    kept: dict[str, str] = {}
    size = 0
    for key, value in headers.items():
        if not _KEY.fullmatch(key):
            continue
        name = f"Parley-Original-{key}" if key.lower().startswith("nats-") else key
        size += len(name) + len(value.encode()) + len(": \r\n")
        if size <= _MAX_HEADERS:
            kept[name] = _one_line(value)
    return kept | {
        H_ERROR_CODE: error.code.value,
        H_ERROR: _one_line(str(error)[:1_000]),
        H_SUBJECT: subject,
        H_DELIVERIES: str(deliveries),
        H_FAILED_AT: datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


async def dead_letter(
    connection: Connection,
    to: str,
    *,
    subject: str,
    data: bytes,
    headers: Mapping[str, str],
    error: Failure,
    deliveries: int = 1,
    unique: str | None = None,
) -> None:
    """Stores a dead letter, on `to.<c>` where its conversation is known.

    `unique` makes a repetition harmless.
    """
    marks, known = headers_of(headers, subject, error, deliveries), _conversation_of(subject, data)
    kept = kept_of(data, connection)
    if len(kept) < len(data):
        marks[H_ORIGINAL_BYTES] = str(len(data))
    marks[MSG_ID] = unique or uuid.uuid4().hex
    if known is None or not await _stored(connection, of_conversation(to, known), kept, marks):
        await publish(connection, to, kept, marks)
    log.warning("dead_letter.kept", extra={"code": error.code.value, "deliveries": deliveries})
    DEAD_LETTERS.labels(to.partition(".")[0], error.code.value).inc()


async def _stored(connection: Connection, to: str, body: bytes, marks: dict[str, str]) -> bool:
    """False where no stream takes that subject: one of the version before has it not."""
    for pause in itertools.islice(NATS.pauses(), LOOKS):
        try:
            work = connection.jetstream.publish(to, body, headers=marks)
            await translated(work, to)
        except NoStream:
            await asyncio.sleep(pause)
        except NatsError:
            break  # with more patience
        else:
            return True
    else:
        return False
    await publish(connection, to, body, marks)
    return True


def kept_of(data: bytes, connection: Connection) -> bytes:
    """The original's body, as much of it as fits beside the headers."""
    return data[: connection.client.max_payload - _ROOM]


class _Ids(msgspec.Struct):
    conversation_id: Any = None


def _conversation_of(subject: str, data: bytes) -> str | None:
    """Whose it is, by its subject or else its body."""
    named: Any = conversation_of(subject)
    if not named and data.lstrip()[:1] == b"{":
        with contextlib.suppress(*UNREADABLE):
            named = msgspec.json.decode(data, type=_Ids).conversation_id
    return named if isinstance(named, str) and is_id(named) else None


@dataclass(frozen=True, slots=True)
class NatsDeadLetters:
    """Implements shared.refuse.DeadLetters: letters on `to`, and on `to.<c>`."""

    connection: Connection
    to: str

    async def add(self, message: Message, error: Failure) -> None:
        """Raises NatsError."""
        await dead_letter(
            self.connection,
            self.to,
            subject=message.subject,
            data=message.data,
            headers=message.headers,
            error=error,
            deliveries=message.deliveries,
            unique=f"dead.{message.unique}",
        )
