"""Documents in a key-value bucket: read from the leader, changed by compare-and-set only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from nats.js import api

from shared.errors import Conflict, NatsError
from shared.nats.publish import publish
from shared.nats.read import last, purge, read_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.nats.connection import Connection

T = TypeVar("T")

AMEND_TRIES: Final = 20  # lost races for one document; each means that somebody else got on
_DELETED: Final = frozenset({"DEL", "PURGE"})


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """A value as it was read or written, with its revision; 0 where there is none."""

    value: T
    revision: int


async def amend(
    load: Callable[[], Awaitable[Held[T]]],
    change: Callable[[T], T],
    save: Callable[[T, int], Awaitable[int]],
    held: Held[T] | None = None,
) -> Held[T]:
    """Changes a value by compare-and-set; again from what is there when somebody else was faster.

    `held` is what was read or written last, so that nothing need be read; `change` may be asked
    several times, may raise, and returns the very value that it was given where nothing is to be
    saved.

    Raises:
        NatsError: lost too often.
    """
    for _ in range(AMEND_TRIES):
        if held is None:
            held = await load()
        value = change(held.value)
        if value is held.value:
            return held
        try:
            return Held(value, await save(value, held.revision))
        except Conflict:
            held = None
    raise NatsError(f"a document could not be saved in {AMEND_TRIES} tries")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A key-value bucket, as every NATS client makes and reads it."""

    connection: Connection
    name: str

    @property
    def _stream(self) -> str:
        return f"KV_{self.name}"

    def _subject(self, key: str) -> str:
        return f"$KV.{self.name}.{key}"

    async def get(self, key: str) -> Held[bytes | None]:
        """From the leader: nats-py's KeyValue.get may ask a replica that lags.

        Raises NatsError.
        """
        message = await last(self.connection, self._stream, self._subject(key))
        if message is None:
            return Held(None, 0)
        gone = message.headers.get("KV-Operation") in _DELETED
        return Held(None if gone else message.data, message.sequence)

    async def put(self, key: str, data: bytes, revision: int) -> int:
        """Returns the new revision. nats-py's KeyValue.update gives up when an ack is lost.

        Raises:
            Conflict: the document has moved on.
            NatsError: not acked in time.
        """
        headers = {api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(revision)}
        try:
            return (await publish(self.connection, self._subject(key), data, headers)).seq
        except Conflict:
            # The ack of our own write may have been lost on its way, and the write repeated.
            found = await self.get(key)
            if found.value == data:
                return found.revision
            raise

    async def entries(self, pattern: str) -> AsyncIterator[tuple[str, bytes]]:
        """Keys and values that match, such as `<c>.*`; perhaps a little behind the leader."""
        prefix = len(self._subject(""))
        async for message in read_back(self.connection, self._stream, self._subject(pattern)):
            if message.headers.get("KV-Operation") not in _DELETED:
                yield message.subject[prefix:], message.data

    async def erase(self, pattern: str) -> None:
        """Removes the keys that match, leaving no marker; raises NatsError."""
        await purge(self.connection, self._stream, self._subject(pattern))
