"""What the bucket `speech` keeps of a voice: who speaks it, and how it ended (the commit)."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from shared.contract import AudioFailed, Stored
from shared.document import decoded
from shared.errors import ParleyError, Superseded, WrittenByNewer


class SpeechRecord(Struct, frozen=True):
    """`since`: RFC 3339; nothing of the voice is older. `execution`: the run that owns it now.

    `request`: the sequence of the message that this run works on; 0 where nobody noted it.
    """

    version: int = 1
    attempt: int = 0
    executions: int = 0
    execution: str = ""
    since: str = ""
    request: int = 0
    cancelled: bool = False
    away_since: str = ""  # RFC 3339: since then nothing could be stored
    refused_since: str = ""  # and since then the store has refused to
    stored: Stored | None = None
    failed: AudioFailed | None = None

    @property
    def begun(self) -> bool:
        """Somebody has taken the voice up."""
        return self.attempt > 0

    @property
    def end(self) -> Stored | AudioFailed | None:
        return self.stored or self.failed


class Repeated(ParleyError):
    """Another message of the same turn has the voice; `request` is its sequence."""

    def __init__(self, request: int) -> None:
        super().__init__(f"asked for by message {request}")
        self.request = request


VERSION: Final = 1
WHAT: Final = "a speech record"
_decoder = msgspec.json.Decoder(SpeechRecord)


def decode(data: bytes | None) -> SpeechRecord:
    """Raises Unreadable, or WrittenByNewer."""
    if data is None:
        return SpeechRecord()
    return decoded(data, _decoder.decode, what=WHAT, version=VERSION)


def encode(record: SpeechRecord) -> bytes:
    """Raises WrittenByNewer."""
    if record.version > VERSION:
        raise WrittenByNewer(WHAT, record.version, VERSION)
    return msgspec.json.encode(record)


# Each of these gives back the very record that it was given where it changes nothing.


def begin(
    record: SpeechRecord,
    *,
    execution: str,
    since: str,
    request: int,
    gone: int = 0,
    told: int = 0,
) -> SpeechRecord:
    """The voice starts, or a new execution takes it over as the next attempt.

    `gone` is the sequence of a message that is in the queue no more, whatever the record says;
    `told` the highest attempt that listeners know of a voice that the record does not.

    Raises Repeated.
    """
    if record.end is not None:
        return record
    if record.request not in {0, gone, request}:
        raise Repeated(record.request)
    return replace(
        record,
        attempt=max(record.attempt, told) + 1,
        executions=record.executions + 1,
        execution=execution,
        since=record.since or since,
        request=request,
    )


def cancelled(record: SpeechRecord) -> SpeechRecord:
    """Whoever takes it up next does not speak it."""
    if record.end is not None or record.cancelled:
        return record
    return replace(record, cancelled=True)


def owned(record: SpeechRecord, execution: str) -> SpeechRecord:
    """Raises Superseded when another execution has the voice, or it has ended."""
    if record.execution != execution or record.end is not None:
        raise Superseded
    return record


def next_attempt(record: SpeechRecord, execution: str) -> SpeechRecord:
    return replace(owned(record, execution), attempt=record.attempt + 1)


def handed_back(record: SpeechRecord, execution: str) -> SpeechRecord:
    """An execution that ended in good order, through no fault of the turn, does not count."""
    return replace(owned(record, execution), executions=max(0, record.executions - 1))


def not_stored(record: SpeechRecord, *, since: str, refused: bool) -> SpeechRecord:
    """The store has not taken it, in a try that began then."""
    return replace(
        record,
        away_since=record.away_since or since,
        refused_since=(record.refused_since or since) if refused else "",
    )


def ended(record: SpeechRecord, execution: str, end: Stored | AudioFailed) -> SpeechRecord:
    """The commit."""
    owned(record, execution)
    if isinstance(end, Stored):
        return replace(record, stored=end)
    return replace(record, failed=end)
