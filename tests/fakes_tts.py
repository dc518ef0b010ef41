"""Working stand-ins for the ports of the speech worker; each keeps what it was given."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from services.tts import record
from services.tts.audio import pcm
from services.tts.audio.spool import Spool
from services.tts.ports import Label, SpokenWord, StoredObject, VoiceParams
from services.tts.record import SpeechRecord
from services.tts.resume import Replay
from shared.contract import (
    CONTENT_TYPES,
    H_ATTEMPT,
    H_PIECE,
    H_SEQ,
    H_TYPE,
    AudioEvent,
    AudioFailed,
    AudioStarted,
    Done,
    Failed,
    Kind,
    PieceDone,
    Stored,
    encode,
)
from shared.contract import Piece as PieceEvent
from shared.errors import (
    Cancelled,
    Conflict,
    Full,
    NatsError,
    ProviderError,
    StorageRefused,
    StorageUnavailable,
    Superseded,
    Torn,
)
from shared.nats.documents import Held, amend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence

    from services.tts.ports import Offer, Recording
    from services.tts.text.segments import Piece
    from shared.contract import Code, Delta, Word

BUCKET = "parley-audio"


@dataclass
class Queued:
    """A Message that keeps what became of it."""

    data: bytes = b'{"turn_id": "t"}'
    subject: str = "tts.request.c"
    headers: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 7
    deliveries: int = 1
    unique: str = "7.1"
    taken_at: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    settled: list[str] = field(default_factory=list)

    async def ack(self) -> None:
        self.settled.append("ack")

    async def nak(self, delay: float = 0.0) -> None:
        self.settled.append(f"nak {delay:g}")


@dataclass
class MemoryRecords:
    """Compare-and-set in memory; `meanwhile` is what others do just before a save.

    So that a race is lost on demand: it is given what is to be saved, and returns what somebody
    else has saved by then, or None.
    """

    kept: SpeechRecord = field(default_factory=SpeechRecord)
    revision: int = 0
    meanwhile: Callable[[SpeechRecord], SpeechRecord | None] = lambda _: None
    away: bool = False
    full: bool = False  # there is no room for more

    async def erase(self) -> None:
        self.kept, self.revision = SpeechRecord(), 0

    async def load(self) -> Held[SpeechRecord]:
        if self.away:
            raise NatsError("no answer in time")
        return Held(self.kept, self.revision)

    async def amend(
        self,
        change: Callable[[SpeechRecord], SpeechRecord],
        held: Held[SpeechRecord] | None = None,
    ) -> Held[SpeechRecord]:
        return await amend(self.load, change, self._save, held)

    async def _save(self, changed: SpeechRecord, revision: int) -> int:
        other = self.meanwhile(changed)
        if other is not None:
            self.kept, self.revision = other, self.revision + 1
        if revision != self.revision:
            raise Conflict
        if self.full:
            raise Full(503, 10077, "maximum bytes exceeded")
        self.kept = record.decode(record.encode(changed))
        self.revision += 1
        return self.revision


@dataclass
class MemoryRequests:
    """Requests: the messages that ask for the turn's voice, by their sequence."""

    queued: set[int] = field(default_factory=set)

    async def is_there(self, sequence: int) -> bool:
        return sequence in self.queued

    async def any(self) -> bool:
        return bool(self.queued)


@dataclass
class ScriptedText:
    """TurnText: gives its events, or raises them; `all` is what is found out after a stop."""

    scripted: Iterable[Delta | Exception] = ()
    all: str | None = None

    async def events(
        self, offer: Callable[[Delta], bool] | None = None
    ) -> AsyncGenerator[Delta, None]:
        for event in self.scripted:
            if isinstance(event, Exception):
                raise event
            is_taken = offer is not None and offer(event)
            if not is_taken or isinstance(event, Done | Failed):
                yield event

    async def whole(self) -> str | None:
        return self.all


@dataclass
class AudioStream:
    """What `tts.audio.<c>` holds of one turn, as it stands on the wire."""

    messages: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def told(self, *kinds: Kind) -> list[tuple[str, int, object]]:
        """(kind, attempt, fact): of a chunk its piece, of an end how it ended."""
        return [
            (headers[H_TYPE], int(headers[H_ATTEMPT]), _fact(headers, data))
            for headers, data in self.messages
            if not kinds or headers[H_TYPE] in kinds
        ]

    def replay(self) -> Replay:
        replay = Replay()
        for headers, data in self.messages:
            replay.add(headers, data)
        return replay


def _fact(headers: dict[str, str], data: bytes) -> object:
    if headers[H_TYPE] == Kind.CHUNK:
        return int(headers[H_PIECE])
    event = msgspec.json.decode(data)
    match headers[H_TYPE]:
        case Kind.STARTED:
            return event["model"]
        case Kind.PIECE:
            return event["index"], event["text"]
        case Kind.PIECE_DONE:
            return event["index"], event["samples"]
        case Kind.STORED:
            return event["finish"]
        case _:
            return event["error"]["code"]


@dataclass
class MemoryAudio:
    """Publish on an AudioStream; the fence is shut once it holds `shut_after` messages.

    When it would hold as many as `torn_at` says next, a burst is torn: the one before comes last.
    """

    stream: AudioStream = field(default_factory=AudioStream)
    shut_after: int | None = None
    torn_at: list[int] = field(default_factory=list)
    heard: Callable[[int], None] | None = None  # called behind each chunk with its piece
    attempt: int = 0
    seq: int = 0

    def _check(self) -> None:
        if self.shut_after is not None and len(self.stream.messages) >= self.shut_after:
            raise Superseded

    def _keep(self, kind: Kind, data: bytes, **more: int) -> None:
        self._check()
        headers = {H_TYPE: kind.value, H_ATTEMPT: str(self.attempt)}
        headers |= {name: str(value) for name, value in more.items()}
        self.stream.messages.append((headers, data))
        if self.torn_at and len(self.stream.messages) >= self.torn_at[0]:
            del self.torn_at[0]
            self.stream.messages[-2:] = reversed(self.stream.messages[-2:])
            raise Torn

    async def started(self, attempt: int, params: VoiceParams) -> None:
        self.attempt, self.seq = attempt, 0
        event = AudioStarted("c", "t", attempt, model=params.model, voice=params.voice)
        self._keep(Kind.STARTED, encode(event))

    async def piece(self, piece: Piece) -> None:
        event: AudioEvent = PieceEvent(
            "c",
            "t",
            self.attempt,
            index=piece.index,
            text=piece.text,
            chars=(piece.start, piece.end),
        )
        self._keep(Kind.PIECE, encode(event))

    async def chunk(self, index: int, audio: bytes) -> None:
        self._chunk(index, audio)

    def _chunk(self, index: int, audio: bytes) -> None:
        self._keep(Kind.CHUNK, audio, **{H_PIECE: index, H_SEQ: self.seq})
        self.seq += 1
        if self.heard is not None:
            self.heard(index)

    def offer(self, index: int, audio: bytes) -> bool:
        would_raise = len(self.stream.messages) + 1
        if would_raise in self.torn_at or (self.shut_after or would_raise) < would_raise:
            return False
        self._chunk(index, audio)
        return True

    async def piece_done(self, index: int, samples: int, words: Sequence[Word]) -> None:
        event = PieceDone("c", "t", self.attempt, index=index, samples=samples, words=list(words))
        self._keep(Kind.PIECE_DONE, encode(event))

    async def drained(self) -> None:
        self._check()

    async def end(self, event: Stored | AudioFailed) -> None:
        self.attempt = event.attempt
        self._keep(Kind.STORED if isinstance(event, Stored) else Kind.FAILED, encode(event))

    async def replay(self, since: str) -> Replay:
        assert since
        return self.stream.replay()

    async def intact(self, since: str) -> int:
        return (await self.replay(since)).intact


Part = bytes | SpokenWord | Exception


def audio_of(text: str) -> bytes:
    """Ten samples for each character, which tell it."""
    return b"".join(ord(char).to_bytes(4, "little")[:2] * 10 for char in text)


class ScriptedVoice:
    """Says `audio_of` each text, unless the next plan has it say or raise something else."""

    def __init__(self, *plans: Sequence[Part] | None) -> None:
        self.plans = list(plans)
        self.late: list[Sequence[Part]] = []  # what comes after the last piece, each time
        self.away: list[ProviderError] = []  # why no slot could be had, each time
        self.said: list[tuple[str, str]] = []  # model, text
        self.open = 0
        self.opened: list[VoiceParams] = []

    @asynccontextmanager
    async def turn(self, params: VoiceParams) -> AsyncIterator[_ScriptedTurn]:
        if self.away:
            raise self.away.pop(0)
        self.open += 1
        self.opened.append(params)
        try:
            yield _ScriptedTurn(self, params)
        finally:
            self.open -= 1


class _ScriptedTurn:
    def __init__(self, voice: ScriptedVoice, params: VoiceParams) -> None:
        self.voice, self.params = voice, params

    async def say(
        self, text: str, offer: Offer | None = None
    ) -> AsyncGenerator[bytes | SpokenWord, None]:
        self.voice.said.append((self.params.model, text))
        plan = self.voice.plans.pop(0) if self.voice.plans else None
        for part in _halves(audio_of(text)) if plan is None else plan:
            if isinstance(part, Exception):
                raise part
            if offer is None or isinstance(part, SpokenWord) or not offer(part):
                await asyncio.sleep(0)  # who waits may be stopped
                yield part

    async def finish(self, offer: Offer | None = None) -> AsyncGenerator[bytes | SpokenWord, None]:
        for part in self.voice.late.pop(0) if self.voice.late else ():
            if isinstance(part, Exception):
                raise part
            if offer is None or isinstance(part, SpokenWord) or not offer(part):
                await asyncio.sleep(0)  # who waits may be stopped
                yield part


def _halves(audio: bytes) -> list[bytes]:
    middle = pcm.samples(len(audio)) // 2 * pcm.SAMPLE_WIDTH
    return [audio[:middle], audio[middle:]]


@dataclass
class MemoryStore:
    """Objects as PCM; the first `down` puts fail, refused or without an answer."""

    bucket: str = BUCKET
    down: int = 0
    refuses: bool = False
    audio: dict[str, bytes] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    labels: list[Label] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    async def put(self, recording: Recording, captions: str, label: Label) -> StoredObject:
        assert isinstance(recording, Spool)
        if self.down:
            self.down -= 1
            if self.refuses:
                raise StorageRefused("storing the voice: InvalidAccessKeyId")
            raise StorageUnavailable("storing the voice: HTTP 503")
        key = self._key(label)
        audio = recording.open().read()
        assert recording.samples == pcm.samples(len(audio))
        self.audio[key], self.captions[key] = audio, captions
        self.labels.append(label)
        return StoredObject(
            bucket=self.bucket,
            key=key,
            url=f"http://store/{key}",
            captions_key=f"{key}.vtt",
            captions_url=f"http://store/{key}.vtt",
            content_type=CONTENT_TYPES[label.format],
            bytes=len(audio),
            sha256="0" * 64,
        )

    async def remove(self, label: Label) -> None:
        key = self._key(label)
        self.removed.append(key)
        self.audio.pop(key, None)

    def _key(self, label: Label) -> str:
        return f"{label.conversation_id}/{label.turn_id}/{label.attempt}.{label.format.value}"


@dataclass
class NoTime:
    """Clock: pauses take none; with `stopped` the turn is stopped in the next one."""

    stopped: bool = False
    now: str = "2026-01-01T00:00:10.000Z"
    pauses: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return sum(self.pauses)

    def utc(self) -> str:
        return self.now

    async def pause(self, seconds: float) -> None:
        if self.stopped:
            raise Cancelled
        self.pauses.append(seconds)

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


@dataclass
class VoiceReported:
    """Implements services.tts.ports.VoiceReport; keeps what it is told."""

    attempts: list[int] = field(default_factory=list)
    submissions: list[tuple[int, float | None]] = field(default_factory=list)
    retries: list[Code] = field(default_factory=list)

    def begun(self, attempt: int) -> None:
        self.attempts.append(attempt)

    def submitted(self, characters: int, cost: float | None) -> None:
        self.submissions.append((characters, cost))

    def retried(self, error: ProviderError) -> None:
        self.retries.append(error.code)
