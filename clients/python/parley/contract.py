# Generated from shared/contract.py by clients/python/generate.py (`make clients`): do not edit.
# pyright: reportUnknownVariableType=false
"""The wire contract: every subject, stream, header and message that crosses NATS.

Only this file spells a subject. Messages are JSON, decoded strictly (no lax conversion); unknown
fields are ignored, so that a field may be added. Times are milliseconds unless a name says
otherwise, `created_at` is RFC 3339 in UTC, `chars` are indices into a turn's text.

What a `Meta` or a docstring describes stands so in docs/asyncapi.yaml and docs/schemas, which are
made of this file.
"""

from __future__ import annotations

import enum
import re
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

# ---------------------------------------------------------------- names

CHAT_REQUEST = "chat.request"
CHAT_CANCEL = "chat.cancel"
CHAT_DELTA = "chat.delta"
TTS_REQUEST = "tts.request"
TTS_AUDIO = "tts.audio"
HISTORY_GET = "chat.history.get"
HISTORY_DELETE = "chat.history.delete"
CHAT_ASK = "chat.ask"
CHAT_REPLAY = "chat.replay"
TTS_LINK = "tts.link"
TTS_ERASE = "tts.erase"  # between the services: the voices of a conversation go, as it does
CHAT_DEAD = "chat.dead"
TTS_DEAD = "tts.dead"

CHAT_REQUESTS_STREAM = "CHAT_REQUESTS"
CHAT_DELTAS_STREAM = "CHAT_DELTAS"
TTS_REQUESTS_STREAM = "TTS_REQUESTS"
TTS_AUDIO_STREAM = "TTS_AUDIO"
DEAD_LETTERS_STREAM = "DEAD_LETTERS"
CONVERSATIONS_BUCKET = "conversations"
SPEECH_BUCKET = "speech"

CHAT_INTAKE = "chat-intake"  # validates `chat.request` and puts it on `chat.request.<c>`, in order
CHAT_WORKERS = "chat-workers"
TTS_WORKERS = "tts-workers"

MSG_ID = "Nats-Msg-Id"
TRACEPARENT = "traceparent"
H_CONVERSATION = "Parley-Conversation"
H_TURN = "Parley-Turn"
H_WARNINGS = "Parley-Warnings"  # of a request that was handed on: JSON, as in `started`
H_ASKED_AT = "Parley-Asked-At"  # when the stream took the request that this one is made of
H_ATTEMPT = "Parley-Attempt"
H_SEQ = "Parley-Seq"
H_PIECE = "Parley-Piece"
H_TYPE = "Parley-Type"
# Of a replayed event: its stream sequence; of the empty message that ends a replay: where the next
# one goes on, 0 when there is no more.
H_SEQUENCE = "Parley-Sequence"
H_NEXT = "Parley-Next"
# Of a dead letter, beside the original's own headers; its body is the original's, byte for byte.
H_ERROR_CODE = "Parley-Error-Code"
H_ERROR = "Parley-Error"
H_SUBJECT = "Parley-Subject"
H_DELIVERIES = "Parley-Deliveries"
H_FAILED_AT = "Parley-Failed-At"
H_ORIGINAL_BYTES = "Parley-Original-Bytes"  # only where the body had to be cut to fit

SAMPLE_RATE = 24_000
SAMPLE_WIDTH = 2  # bytes: s16le, mono
PCM_CONTENT_TYPE = "audio/pcm;rate=24000;channels=1;encoding=s16le"

_LITERALS = (
    *(CHAT_REQUEST, CHAT_CANCEL, CHAT_DELTA, CHAT_ASK, CHAT_REPLAY, CHAT_DEAD),
    *(HISTORY_GET, HISTORY_DELETE),
    *(TTS_REQUEST, TTS_AUDIO, TTS_LINK, TTS_ERASE, TTS_DEAD),
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
ID_RULE = "1 to 64 letters (A to Z, a to z), digits, _ and -"


def is_id(text: str) -> bool:
    """True for what may stand as one token of a subject and as a part of an object's key."""
    return _ID.fullmatch(text) is not None


def of_conversation(subject: str, conversation_id: str) -> str:
    """`chat.cancel` -> `chat.cancel.<c>`: the same for one conversation, named in the subject."""
    return f"{subject}.{conversation_id}"


def everywhere(subject: str) -> tuple[str, str]:
    """`chat.cancel` and `chat.cancel.*`: what serves the one serves the other."""
    return subject, of_conversation(subject, "*")


def chat_request(conversation_id: str) -> str:
    return f"{CHAT_REQUEST}.{conversation_id}"


def chat_delta(conversation_id: str) -> str:
    return f"{CHAT_DELTA}.{conversation_id}"


def tts_request(conversation_id: str) -> str:
    return f"{TTS_REQUEST}.{conversation_id}"


def tts_audio(conversation_id: str) -> str:
    return f"{TTS_AUDIO}.{conversation_id}"


def conversation_of(subject: str) -> str:
    """The `<c>` of `chat.request.<c>` and its like; "" for the literal subject."""
    for literal in _LITERALS:
        if subject.startswith(literal) and subject[len(literal) : len(literal) + 1] == ".":
            return subject[len(literal) + 1 :]
    return ""


# ---------------------------------------------------------------- types

# \Z, not $: "abc\n" is not an id.
ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}\Z"
Id: TypeAlias = Annotated[str, Meta(pattern=ID_PATTERN)]
# The provider takes "written/spoken", and knows no way to write a slash in either.
NO_SLASH = r"^[^/]{0,200}\Z"
NO_SLASH_RULE = "text of at most 200 characters without a /"
Pronounced: TypeAlias = Annotated[str, Meta(pattern=NO_SLASH)]
Pronunciations: TypeAlias = Annotated[dict[Pronounced, Pronounced], Meta(max_length=200)]
# The largest whole number that every reader of JSON keeps as it is.
MAX_WHOLE = 2**53 - 1
Milliseconds: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_WHOLE)]
# A shorter one has the provider speak syllables.
MIN_PARTIAL_LENGTH = 20
MAX_PARTIAL_LENGTH = 10_000


# Of events, whose ids a service has checked.
ConversationId: TypeAlias = Annotated[str, Meta(description="Whose conversation it is.")]
TurnId: TypeAlias = Annotated[str, Meta(description="The turn that it belongs to.")]
Attempt: TypeAlias = Annotated[
    int, Meta(description="1, 2 …: a higher one takes back what lower ones told; ignore those.")
]
Seq: TypeAlias = Annotated[
    int, Meta(description="0, 1, 2 … within an attempt, no gap and no repeat.")
]
CreatedAt: TypeAlias = Annotated[str, Meta(description="When, RFC 3339 in UTC.")]
Metadata: TypeAlias = Annotated[
    dict[str, str], Meta(description="What the asker gave, to be told again with the events.")
]
Warnings: TypeAlias = Annotated[
    list[str],
    Meta(description="Fields of the request that nothing knows, by path, with the nearest name."),
]
CostUsd: TypeAlias = Annotated[
    float | None, Meta(description="US dollars by the list of prices; null where it has none.")
]


class Role(enum.StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class HistoryMode(enum.StrEnum):
    """What a request does with the conversation's history."""

    APPEND = "append"
    REPLACE = "replace"
    NONE = "none"


class OnBusy(enum.StrEnum):
    """What happens while a turn of the conversation is under way."""

    QUEUE = "queue"
    INTERRUPT = "interrupt"
    REJECT = "reject"


class AudioFormat(enum.StrEnum):
    """What the stored object is; live audio is always PCM."""

    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"
    OPUS = "opus"
    AAC = "aac"
    PCM = "pcm"


CONTENT_TYPES = {
    AudioFormat.WAV: "audio/wav",
    AudioFormat.FLAC: "audio/flac",
    AudioFormat.MP3: "audio/mpeg",
    AudioFormat.OPUS: "audio/ogg",
    AudioFormat.AAC: "audio/aac",
    AudioFormat.PCM: "audio/pcm",
}


class Alignment(enum.StrEnum):
    """Whether the voice tells when each word is heard."""

    NONE = "none"
    WORD = "word"


class FinishReason(enum.StrEnum):
    """Why the assistant's text ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


class Finish(enum.StrEnum):
    """Why the voice of a turn ended."""

    COMPLETE = "complete"
    CANCELLED = "cancelled"
    TRUNCATED = "truncated"  # the text is longer than what is spoken of one


class Status(enum.StrEnum):
    """Whether all of a message was said."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"


class Code(enum.StrEnum):
    """Why something could not be done. Stable: users branch on these (shared/errors.py)."""

    INVALID_REQUEST = "invalid_request"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    NOT_FOUND = "not_found"
    PROVIDER_AUTH = "provider_auth"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_OVERLOADED = "provider_overloaded"
    PROVIDER_REFUSED = "provider_refused"
    PROVIDER_STALLED = "provider_stalled"
    PROVIDER_BROKEN = "provider_broken"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INTERNAL = "internal"


# ---------------------------------------------------------------- into the system


class PromptMessage(Struct, frozen=True):
    """One message of what the model is shown."""

    role: Role
    content: str


class Speech(Struct, frozen=True, omit_defaults=True):
    """How a turn is spoken; what is absent is the speech worker's default."""

    voice: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    language: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    speed: Annotated[
        Annotated[float, Meta(ge=0.25, le=4)] | None, Meta(description="1 is the voice's own.")
    ] = None
    format: AudioFormat | None = None
    alignment: Alignment | None = None
    pronunciations: Annotated[
        Pronunciations | None, Meta(description="From what is written to what is spoken.")
    ] = None
    max_partial_length: Annotated[
        Annotated[int, Meta(ge=MIN_PARTIAL_LENGTH, le=MAX_PARTIAL_LENGTH)] | None,
        Meta(description="Characters that the provider may hold back at most."),
    ] = None


# msgspec knows no `Literal[False]`; `true` is refused where requests are read (validate()).
SpeechOrFalse: TypeAlias = Speech | bool


class ChatRequest(Struct, frozen=True, omit_defaults=True):
    """`chat.request` and `chat.request.<c>`: `content` or `messages`, the rest is optional."""

    conversation_id: Annotated[
        Id | None, Meta(description="A new conversation where it is absent.")
    ] = None
    turn_id: Annotated[
        Id | None,
        Meta(
            description="The idempotency key: the same is never answered twice. Default: the"
            " `Nats-Msg-Id`, else of the stream's sequence."
        ),
    ] = None
    content: Annotated[str | None, Meta(description="What the user says; or `messages`.")] = None
    messages: Annotated[
        list[PromptMessage] | None,
        Meta(description="Appended to the history; the last one is the user's."),
    ] = None
    history: Annotated[
        HistoryMode,
        Meta(
            description="`append` adds to what is kept, `replace` starts the conversation over with"
            " `messages`, `none` answers exactly `messages` and keeps nothing."
        ),
    ] = HistoryMode.APPEND
    system: Annotated[
        str | None,
        Meta(description='The system prompt, which stays with the conversation; "" is none.'),
    ] = None
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop: Annotated[list[str], Meta(max_length=16)] | None = None
    seed: int | None = None
    reasoning_effort: Annotated[str, Meta(max_length=32)] | None = None
    on_busy: Annotated[
        OnBusy, Meta(description="What happens while a turn of this conversation is under way.")
    ] = OnBusy.QUEUE
    heard_ms: Annotated[
        Milliseconds | None,
        Meta(description="With `interrupt`: how much was heard of the voice that it stops."),
    ] = None
    speech: Annotated[
        SpeechOrFalse | None,
        Meta(description="How it is spoken; false for text only; never true."),
    ] = None
    metadata: Metadata = field(default_factory=dict)


class CancelRequest(Struct, frozen=True, omit_defaults=True):
    """`chat.cancel`, and `chat.cancel.<c>` where the conversation need not be said again.

    Without `turn_id` the turn whose text or voice is under way; nothing where none is.
    """

    conversation_id: Annotated[Id, Meta(description="Not needed where the subject names it.")] = ""
    turn_id: Id | None = None
    heard_ms: Annotated[
        Milliseconds | None,
        Meta(description="How much of the voice was heard: the history then keeps that much."),
    ] = None


class SpeechRequest(Struct, frozen=True, omit_defaults=True):
    """`tts.request.<c>`: speak `text`, or follow the turn's deltas from `start_sequence` on."""

    conversation_id: Id | None = None
    turn_id: Id | None = None
    speech: Speech = Speech()
    text: Annotated[
        str | None, Meta(description="What is spoken; without it the deltas of the turn are.")
    ] = None
    start_sequence: Annotated[
        int,
        Meta(ge=1, le=MAX_WHOLE, description="Where the turn begins in the stream of deltas."),
    ] = 1


class HistoryRequest(Struct, frozen=True, omit_defaults=True):
    """`chat.history.get`; `before` is what the page that is newer said."""

    conversation_id: Annotated[Id, Meta(description="Not needed where the subject names it.")] = ""
    limit: Annotated[int, Meta(ge=1, description="Messages; more than 1,000 are 1,000.")] = 200
    before: Annotated[str, Meta(max_length=200)] | None = None


class DeleteRequest(Struct, frozen=True, omit_defaults=True):
    """`chat.history.delete`."""

    conversation_id: Annotated[Id, Meta(description="Not needed where the subject names it.")] = ""


class Replayed(enum.StrEnum):
    """Of what a replay is wanted."""

    DELTA = "delta"
    AUDIO = "audio"


class ReplayRequest(Struct, frozen=True, omit_defaults=True):
    """`chat.replay.<c>`: the events of the conversation, or of one turn, from a sequence on."""

    what: Replayed
    start: Annotated[
        int, Meta(ge=0, le=MAX_WHOLE, description="The stream's sequence to begin at.")
    ] = field(default=1, name="from")
    turn_id: Id | None = None


class LinkRequest(Struct, frozen=True):
    """`tts.link.<c>`."""

    turn_id: Id


# ---------------------------------------------------------------- events of the text


class Error(Struct, frozen=True):
    """Why something could not be done."""

    code: Code
    message: Annotated[str, Meta(description="For people; programs branch on `code`.")]
    retryable: Annotated[bool, Meta(description="Whether the same may succeed later.")]


class Usage(Struct, frozen=True):
    """Summed over the attempts of a turn; null where the provider told none."""

    prompt_tokens: int | None
    completion_tokens: int | None


class DeltaEvent(Struct, frozen=True, tag_field="type"):
    """What all events on `chat.delta.<c>` carry; `seq` counts 0, 1, 2 … within an attempt."""

    conversation_id: ConversationId
    turn_id: TurnId
    attempt: Attempt
    seq: Seq


class Started(DeltaEvent, frozen=True, tag="started"):
    """Opens an attempt: forget what earlier attempts of this turn said."""

    model: str
    metadata: Metadata
    speech: Annotated[SpeechOrFalse, Meta(description="False where the turn has no voice.")]
    created_at: CreatedAt
    warnings: Warnings = []


class Text(DeltaEvent, frozen=True, tag="text"):
    """What the assistant says next; all of an attempt, joined, are `done.text`."""

    text: str


class Reasoning(DeltaEvent, frozen=True, tag="reasoning"):
    """What the model thinks: never spoken, no part of `done.text`."""

    text: str


class Done(DeltaEvent, frozen=True, tag="done"):
    """Ends the text of a turn; nothing follows it."""

    finish_reason: FinishReason
    text: Annotated[str, Meta(description="All of it.")]
    usage: Usage
    first_token_ms: Annotated[
        int | None, Meta(description="Like `duration_ms` from the request's time in the stream.")
    ]
    duration_ms: int
    metadata: Metadata
    cost_usd: CostUsd = None


class Failed(DeltaEvent, frozen=True, tag="failed"):
    """Ends a turn that could not be done; nothing follows it."""

    error: Error


Delta: TypeAlias = Started | Text | Reasoning | Done | Failed

# ---------------------------------------------------------------- events of the voice


class AudioEvent(Struct, frozen=True):
    """What all JSON events on `tts.audio.<c>` carry; their kind stands in `Parley-Type`."""

    conversation_id: ConversationId
    turn_id: TurnId
    attempt: Attempt


class AudioStarted(AudioEvent, frozen=True):
    """Opens an attempt: drop what you hold of pieces without `piece_done`."""

    model: str
    voice: str
    encoding: Literal["pcm_s16le"] = "pcm_s16le"
    sample_rate: Annotated[int, Meta(description="Samples a second.")] = SAMPLE_RATE
    channels: int = 1
    # As in `Started`; there only when there are any.
    warnings: Warnings | UnsetType = UNSET


class Piece(AudioEvent, frozen=True):
    """What is about to be heard; `chars` is its range [start, end) in the turn's text."""

    index: Annotated[int, Meta(description="0, 1, 2 … within the turn.")]
    text: str
    chars: tuple[int, int]


class Word(Struct, frozen=True):
    """When a word is heard, from the start of the turn's voice."""

    text: str
    start_ms: int
    end_ms: int


class PieceDone(AudioEvent, frozen=True):
    """All of a piece was published; it is never spoken again."""

    index: int
    samples: Annotated[int, Meta(description="0 where the provider never voiced it.")]
    words: Annotated[list[Word], Meta(description="When `alignment` was `word`.")] = []


class Stored(AudioEvent, frozen=True):
    """The voice is whole and kept; `key` is null where nothing was spoken."""

    bucket: str
    key: str | None
    url: Annotated[str | None, Meta(description="A presigned GET; `tts.link.<c>` signs it anew.")]
    content_type: str
    bytes: Annotated[int, Meta(description="Of the object, like `sha256`.")]
    sha256: str
    duration_ms: int
    captions_key: Annotated[str | None, Meta(description="The pieces and words as WebVTT.")]
    pieces: int
    characters: Annotated[int, Meta(description="That were spoken.")]
    finish: Finish
    cost_usd: CostUsd = None
    captions_url: Annotated[str | None, Meta(description="A presigned GET.")] = None


class AudioFailed(AudioEvent, frozen=True):
    """Ends a voice that could not be done; nothing follows it."""

    error: Error


class Kind(enum.StrEnum):
    """The values of `Parley-Type`."""

    STARTED = "started"
    PIECE = "piece"
    CHUNK = "chunk"
    PIECE_DONE = "piece_done"
    STORED = "stored"
    FAILED = "failed"


AUDIO_EVENTS: dict[Kind, type[AudioEvent]] = {
    Kind.STARTED: AudioStarted,
    Kind.PIECE: Piece,
    Kind.PIECE_DONE: PieceDone,
    Kind.STORED: Stored,
    Kind.FAILED: AudioFailed,
}

# ---------------------------------------------------------------- history


class Message(Struct, frozen=True):
    """One message of a conversation, as it is kept."""

    id: str
    role: Role
    content: str
    turn_id: TurnId
    created_at: CreatedAt
    status: Status = Status.COMPLETE


class TurnUnderWay(Struct, frozen=True):
    """`seq` is the last event that `text` contains: a page shows it and goes on from there."""

    turn_id: str
    attempt: int
    text: str
    seq: int


class History(Struct, frozen=True):
    """A page, oldest first. `before` asks for the next older one, null at the beginning; `turn`
    comes with the newest page only."""

    conversation_id: str
    messages: list[Message]
    turn: TurnUnderWay | None
    before: str | None = None


class Deleted(Struct, frozen=True):
    """The answer of `chat.history.delete`: the conversation is erased everywhere."""

    conversation_id: str
    deleted: bool = True


class AskState(enum.StrEnum):
    """What has become of a turn that was asked for."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


class Asked(Struct, frozen=True):
    """The answer of `chat.ask.<c>` once the stream has the request."""

    conversation_id: str
    turn_id: str
    state: AskState


class Link(Struct, frozen=True):
    """The answer of `tts.link.<c>`: a stored voice, signed until `expires_at` (RFC 3339)."""

    url: str
    captions_url: str | None
    content_type: str
    bytes: int
    duration_ms: int
    expires_at: str


class Refusal(Struct, frozen=True):
    """The answer to a bad request with a reply subject."""

    error: Error


encode = msgspec.json.encode
# What decoding raises for what anybody may have put on a subject: JSON that is none or is of
# another form, bytes that are no UTF-8, nesting without end.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
