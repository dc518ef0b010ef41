"""What the verbs of the speech worker need, in their own words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from shared.errors import ProviderBroken
from shared.spans import OFF, Span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Sequence

    from services.tts.job import Job
    from services.tts.record import SpeechRecord
    from services.tts.resume import Replay
    from services.tts.text.segments import Piece
    from shared.contract import AudioFailed, AudioFormat, Delta, Stored, Word
    from shared.errors import Failure, ProviderError
    from shared.nats.documents import Held
    from shared.process.cancel import CancelToken
    from shared.refuse import Message

# ---------------------------------------------------------------- the text


class TurnText(Protocol):
    """The text of one turn."""

    def events(self, offer: Callable[[Delta], bool] | None = None) -> AsyncGenerator[Delta, None]:
        """In order, each once, as they come; ends with the text's end.

        Each is offered first, as it comes, also while nobody waits for one: what `offer` takes (it
        returns True) is not given out, except the end. So a token needs no wake-up.

        Raises:
            DeadlineExceeded: nothing came for too long.
        """
        ...

    async def whole(self) -> str | None:
        """All of it, of a turn that was stopped while it came; None where it does not end soon."""
        ...


# ---------------------------------------------------------------- the speech model


class Kind(NamedTuple):
    """Of a socket to the speech model, and of the turns that it carries.

    A voice once named cannot be taken back: a turn that names none needs a socket of its own kind.
    """

    model: str
    voiced: bool  # a voice is named


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceParams:
    """How a turn is spoken; `pronunciations` are pairs of written and spoken.

    An empty `voice` is not sent: the provider chooses.
    """

    model: str
    voice: str
    language: str | None = None
    speed: float = 1.0
    word_timestamps: bool = False
    pronunciations: tuple[tuple[str, str], ...] = ()
    max_partial_length: int = 250  # more than this the provider cuts by itself

    @property
    def kind(self) -> Kind:
        return Kind(self.model, bool(self.voice))


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One word with its place in the piece's audio, in seconds from the piece's first sample."""

    text: str
    start: float
    end: float


class Unvoiced(ProviderBroken):
    """The speech model calls a piece done and has sent no audio of it."""


class ConnectionLost(ProviderBroken):
    """The speech model has gone away, in the midst of a piece perhaps."""


# Takes PCM as it comes, and returns True; False: it is given out as a part.
Offer: TypeAlias = Callable[[bytes], bool]


class VoiceTurn(Protocol):
    """The voice of one turn: its own context on one socket."""

    def say(
        self, text: str, offer: Offer | None = None
    ) -> AsyncGenerator[bytes | SpokenWord, None]:
        """Speak one piece; PCM in whole samples as it arrives, ends when its audio is complete.

        What comes while nothing waits is offered first, in the turn of the loop that reads it.

        Raises:
            ProviderError: the piece may be incomplete; say it again in a new turn of the voice.
        """
        ...

    def finish(self, offer: Offer | None = None) -> AsyncGenerator[bytes | SpokenWord, None]:
        """After the last piece: what still comes of it, until it has been quiet for a while."""
        ...


class Voice(Protocol):
    """A speech model, ready to speak."""

    def turn(self, params: VoiceParams) -> AbstractAsyncContextManager[VoiceTurn]:
        """Takes a slot on a socket; leaving it stops the audio and frees the slot."""
        ...


# ---------------------------------------------------------------- the object


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object as it was written."""

    bucket: str
    key: str | None
    url: str | None
    captions_key: str | None
    captions_url: str | None
    content_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class KeptObject:
    """An object as it is listed."""

    key: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What an object says about itself."""

    conversation_id: str
    turn_id: str
    attempt: int
    model: str
    voice: str
    text: str
    format: AudioFormat


class Recording(Protocol):
    """The audio of a turn, piece after piece, kept until it is stored."""

    @property
    def samples(self) -> int: ...

    def append(self, pcm: bytes) -> None: ...

    def read(self, start: int, samples: int) -> bytes:
        """The PCM of so many samples from `start` on."""
        ...

    def cut(self, samples: int) -> None:
        """Forgets everything after so many samples."""
        ...


class AudioStore(Protocol):
    """Where the finished audio of a turn goes."""

    bucket: str

    async def put(self, recording: Recording, captions: str, label: Label) -> StoredObject:
        """Writes both objects whole; raises StorageUnavailable after it has tried for a while."""
        ...

    async def remove(self, label: Label) -> None:
        """Takes back what a late worker wrote. Never raises: it is only tidying up."""
        ...


class Links(Protocol):
    """What the store keeps of a turn's voice, for who has no login there."""

    @property
    def link_seconds(self) -> float:
        """For how long a link can be used."""
        ...

    async def kept(self, conversation_id: str, turn_id: str) -> Sequence[KeptObject]:
        """Raises StorageUnavailable."""
        ...

    async def duration_ms(self, key: str) -> int | None:
        """Of a voice, as its object says; None where it does not. Raises StorageUnavailable."""
        ...

    def link(self, key: str) -> str:
        """Freshly signed."""
        ...


class Objects(Protocol):
    """What the store keeps of conversations."""

    async def erase(self, conversation_id: str) -> int:
        """Removes every object of a conversation; returns how many. Raises StorageUnavailable."""
        ...


# ---------------------------------------------------------------- the events and the record


class Publish(Protocol):
    """The events of one voice, in order, their acks checked.

    Raises Superseded when fenced; Torn where some are stored out of order: `started` begins anew.
    """

    async def started(self, attempt: int, params: VoiceParams) -> None: ...

    async def piece(self, piece: Piece) -> None: ...

    async def chunk(self, index: int, audio: bytes) -> None: ...

    def offer(self, index: int, audio: bytes) -> bool:
        """Publishes a chunk at once; False where `chunk` would wait, cut it, or raise."""
        ...

    async def piece_done(self, index: int, samples: int, words: Sequence[Word]) -> None: ...

    async def drained(self) -> None:
        """Everything published so far is acked."""
        ...

    async def end(self, event: Stored | AudioFailed) -> None:
        """Publishes the end, once; acked when it returns."""
        ...

    async def replay(self, since: str) -> Replay:
        """What the stream holds of this turn's voice."""
        ...

    async def intact(self, since: str) -> int:
        """So many pieces, from the first, stand in the stream whole and in their order."""
        ...


class Ends(Protocol):
    """The ends of voices that never began."""

    async def failed(self, message: Message, event: AudioFailed) -> None:
        """Published once for each message, acked. Raises NatsError."""
        ...


class Records(Protocol):
    """What is kept of one turn's voice, changed by compare-and-set only."""

    async def erase(self) -> None:
        """Removes it. Raises NatsError."""
        ...

    async def load(self) -> Held[SpeechRecord]:
        """As it is now; an empty one at revision 0 where there is none. Raises NatsError."""
        ...

    async def amend(
        self,
        change: Callable[[SpeechRecord], SpeechRecord],
        held: Held[SpeechRecord] | None = None,
    ) -> Held[SpeechRecord]:
        """Saves what `change` makes of the record, and returns that.

        `held` is the record as it was read or saved last, so that nothing need be read. `change` is
        asked again, with what is there by then, whenever somebody else was faster; it may raise,
        and returns the very record that it was given where nothing is to be saved.

        Raises:
            NatsError: lost too often, or not saved in time.
        """
        ...


class Requests(Protocol):
    """The queue of the requests to speak, of one turn. Raises NatsError."""

    async def is_there(self, sequence: int) -> bool:
        """Whether that message is in the queue still, and asks for this turn's voice."""
        ...

    async def any(self) -> bool:
        """Whether one asks for this turn's voice."""
        ...


class Voices(Protocol):
    """What NATS keeps of the voices of a conversation. Raises NatsError."""

    async def drop_requests(self, conversation_id: str) -> None: ...

    async def requested(self, conversation_id: str) -> Sequence[str]:
        """The turns of requests that are not dealt with."""
        ...

    async def stop(self, conversation_id: str, turn_id: str) -> None:
        """Whoever takes the turn's voice up does not speak it."""
        ...

    async def drop_events(self, conversation_id: str) -> None: ...

    async def drop_records(self, conversation_id: str) -> None: ...


# ---------------------------------------------------------------- time, and what operators see


class Clock(Protocol):
    """Time; where it belongs to a turn, a pause ends when the turn is stopped."""

    def monotonic(self) -> float: ...

    def utc(self) -> str:
        """RFC 3339, milliseconds."""
        ...

    async def pause(self, seconds: float) -> None:
        """Waits; raises Cancelled when the turn is stopped meanwhile."""
        ...

    def uniform(self, low: float, high: float) -> float: ...


class Report(Protocol):
    """What operators see of the requests."""

    def refused(self, error: Failure) -> None: ...

    def handed_back(self, error: Failure) -> None:
        """All is spoken, nothing stored; somebody takes it up again later."""
        ...

    def ended(self, end: Stored | AudioFailed, seconds: float) -> None:
        """A voice has ended, so many seconds after a worker took it up."""
        ...


class VoiceReport(Protocol):
    """What operators see of one voice, as one worker speaks it."""

    def begun(self, attempt: int) -> None:
        """Its `started` is out."""
        ...

    def submitted(self, characters: int, cost: float | None) -> None:
        """So many were given to the speech model, for so many dollars where they are known."""
        ...

    def retried(self, error: ProviderError) -> None:
        """The speech model is asked again, since this went wrong."""
        ...


# ---------------------------------------------------------------- the work


class Slots(Protocol):
    """How many voices may be spoken at once in this process."""

    def slot(self, message: Message) -> AbstractAsyncContextManager[None]:
        """One of them; waits for it."""
        ...


class Speaking(Protocol):
    """Speaks what may be spoken: services.tts.speak, with all that it needs."""

    async def __call__(
        self, job: Job, text: TurnText, token: CancelToken
    ) -> Stored | AudioFailed | None:
        """As services.tts.speak.speak."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceDependencies:
    """All that speaking one turn needs."""

    records: Records
    requests: Requests
    publish: Publish
    voice: Voice
    recording: Recording
    store: AudioStore
    clock: Clock
    token: CancelToken
    # Raises Superseded where the request may be somebody else's and is in the queue no more.
    confirm: Callable[[], Awaitable[None]]
    price: Callable[[str, int], float | None]  # model, characters -> dollars
    report: VoiceReport
    span: Span = OFF  # of the voice
