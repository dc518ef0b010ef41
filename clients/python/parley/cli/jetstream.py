"""The part of NATS's JetStream API that an operator's commands need."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Struct

from parley.errors import Internal, NotFound, ParleyError, Unauthorized, Unreachable
from parley.wire import NotNow

if TYPE_CHECKING:
    from parley.client import Parley

_API: Final = "$JS.API"
_NOT_FOUND: Final = 404
_TRY_SECONDS: Final = 5.0


class _Error(Struct, frozen=True):
    code: int = 0
    description: str = ""


class _Refusal(Struct, frozen=True):
    error: _Error | None = None


class StreamConfig(Struct, frozen=True):
    subjects: list[str] = []
    max_bytes: int = -1
    max_age: int = 0  # nanoseconds
    num_replicas: int = 1


class StreamState(Struct, frozen=True):
    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class Replica(Struct, frozen=True):
    name: str = ""
    current: bool = True
    offline: bool = False
    lag: int = 0


class Cluster(Struct, frozen=True):
    leader: str = ""
    replicas: list[Replica] = []


class StreamInfo(Struct, frozen=True):
    config: StreamConfig
    state: StreamState
    cluster: Cluster = Cluster()


class ConsumerInfo(Struct, frozen=True):
    num_pending: int = 0
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0


class AccountInfo(Struct, frozen=True):
    memory: int = 0
    storage: int = 0
    streams: int = 0
    consumers: int = 0


class _Raw(Struct, frozen=True):
    subject: str
    seq: int
    time: str
    hdrs: str = ""
    data: str = ""


class _Got(Struct, frozen=True):
    message: _Raw


class _Ack(Struct, frozen=True):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False


class _Deleted(Struct, frozen=True):
    success: bool = False


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream keeps it."""

    subject: str
    sequence: int
    time: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    data: bytes = b""


class JetStream:
    """Asked by the operator's login; what others have no right to raises Unauthorized."""

    def __init__(self, parley: Parley) -> None:
        self._wire = parley.wire
        self._seconds = min(parley.timeout, _TRY_SECONDS)

    async def account(self) -> AccountInfo:
        return await self._ask(f"{_API}.INFO", {}, AccountInfo)

    async def stream(self, name: str) -> StreamInfo:
        """Raises NotFound, Unreachable, Unauthorized, as all of these do."""
        return await self._ask(f"{_API}.STREAM.INFO.{name}", {}, StreamInfo)

    async def consumer(self, stream: str, name: str) -> ConsumerInfo:
        return await self._ask(f"{_API}.CONSUMER.INFO.{stream}.{name}", {}, ConsumerInfo)

    async def get(self, stream: str, sequence: int) -> Stored:
        return await self._get(stream, {"seq": sequence})

    async def next(self, stream: str, sequence: int, subject: str = ">") -> Stored | None:
        """The first message from a sequence on; None where there is no more."""
        try:
            return await self._get(stream, {"seq": sequence, "next_by_subj": subject})
        except NotFound:
            return None

    async def _get(self, stream: str, body: Mapping[str, object]) -> Stored:
        raw = (await self._ask(f"{_API}.STREAM.MSG.GET.{stream}", body, _Got)).message
        headers = _headers(base64.b64decode(raw.hdrs))
        return Stored(raw.subject, raw.seq, raw.time, headers, base64.b64decode(raw.data))

    async def delete(self, stream: str, sequence: int) -> None:
        body = {"seq": sequence, "no_erase": True}
        await self._ask(f"{_API}.STREAM.MSG.DELETE.{stream}", body, _Deleted)

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str]) -> bool:
        """Stored in the stream of that subject; False where the stream has that message already."""
        return not (await self._send(subject, data, headers, _Ack)).duplicate

    async def _ask(self, subject: str, body: Mapping[str, object], kind: type[T]) -> T:
        return await self._send(subject, msgspec.json.encode(body), {}, kind)

    async def _send(
        self, subject: str, data: bytes, headers: Mapping[str, str], kind: type[T]
    ) -> T:
        try:
            answer = await self._wire.ask_once(subject, data, headers, self._seconds)
        except NotNow as exc:
            raise Unreachable(f"JetStream: {exc}") from exc
        except Unauthorized as exc:
            said = f"{exc.message}: it takes the operator's (--user operator, docs/operations.md)"
            raise Unauthorized(said) from None
        try:
            error = msgspec.json.decode(answer.data, type=_Refusal).error
            if error is None:
                return msgspec.json.decode(answer.data, type=kind)
        except msgspec.MsgspecError as exc:
            raise Internal(f"JetStream: an answer that cannot be read: {exc}") from exc
        raised: ParleyError = Internal(f"JetStream: {error.description}")
        if error.code == _NOT_FOUND:
            raised = NotFound(error.description)
        raise raised


def _headers(block: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in block.decode(errors="replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name] = value.strip()
    return found
