"""How the emulated provider behaves: its replies, its pace, and what goes wrong.

A script is plain data, from JSON as well as from Python; unknown names are refused.

    {"chat":   {"replies": ["Hello."], "tokens_per_second": 0},
     "speech": {"done": "context", "realtime_factor": 5},
     "faults": [{"kind": "chat.status", "status": 429, "times": 2},
                {"kind": "speech.abort", "after": 3, "match": "MARK"}]}

A fault hits when its text matches, its `skip` is used up, its dice fall, and `times` is not yet
reached. Of several faults of one kind that match, the first in the list that can hit does.
"""

from __future__ import annotations

import enum
import random
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


class BadScript(ValueError):
    """A script names something unknown or gives a value of a wrong type."""


class FaultKind(enum.StrEnum):
    """What can go wrong. The first word tells which text `match` is looked for in.

    `chat.*`: the last user message. `socket.*`: the query string of the handshake.
    `speech.*`: the text that is spoken; for `refuse_context` the first text of the context.
    """

    CHAT_STATUS = "chat.status"  # refused with `status`, `code`, `message`, `retry_after`
    CHAT_SILENT = "chat.silent"  # accepted, and never answered, not even with a header
    CHAT_STALL = "chat.stall"  # after `after` tokens nothing more comes, for ever
    CHAT_CUT = "chat.cut"  # after `after` tokens the TCP connection is reset
    CHAT_UNFINISHED = "chat.unfinished"  # after `after` tokens it ends politely, without a finish
    CHAT_GARBAGE = "chat.garbage"  # after `after` tokens one line of SSE is no JSON
    CHAT_ERROR = "chat.error"  # after `after` tokens `data: {"error": …}`, and the end
    CHAT_EMPTY = "chat.empty"  # a completion without a word
    CHAT_SLOW = "chat.slow"  # `seconds` between tokens

    SOCKET_REFUSE = "socket.refuse"  # the handshake is answered with `status`
    SOCKET_HANG = "socket.hang"  # the handshake is never answered
    SOCKET_NO_SESSION = "socket.no_session"  # `session.created` never comes
    SOCKET_FAILED = "socket.failed"  # 101, then tts.failed with `code`, then closed

    SPEECH_REFUSE_CONTEXT = "speech.refuse_context"  # an error event, and no context
    SPEECH_ABORT = "speech.abort"  # the TCP connection is reset after `after` deltas
    SPEECH_CLOSE = "speech.close"  # closed with `close_code` after `after` deltas
    SPEECH_DEAD = "speech.dead"  # after `after` deltas it reads, sends and pongs no more
    SPEECH_STALL = "speech.stall"  # after `after` deltas this context says nothing more
    SPEECH_NO_AUDIO = "speech.no_audio"  # done, with zero audio
    SPEECH_NO_DONE = "speech.no_done"  # an item without a done
    SPEECH_TWO_DONES = "speech.two_dones"  # each done twice
    SPEECH_LATE_AUDIO = "speech.late_audio"  # `count` deltas after context.cancelled
    SPEECH_FAILED = "speech.failed"  # after `after` deltas tts.failed with `code`; no done
    SPEECH_ERROR = "speech.error"  # after `after` deltas an `error` event; the voice goes on
    SPEECH_BIG_FRAME = "speech.big_frame"  # delta `after` comes in a frame of `bytes` bytes
    SPEECH_UNKNOWN = "speech.unknown"  # an event of an unknown type before each delta
    SPEECH_GARBAGE = "speech.garbage"  # after `after` deltas a text frame that is no JSON
    SPEECH_SLOW = "speech.slow"  # `seconds` before each delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, and when."""

    kind: FaultKind
    match: str = ""  # hits only where the text contains this
    times: int | None = None  # how often it hits; null: always
    skip: int = 0  # how many that match pass unharmed first
    probability: float = 1.0  # from the script's seeded dice
    after: int = 0  # tokens or audio deltas that come first
    status: int = 503
    code: str = ""  # empty: the usual one for the status
    message: str = ""
    retry_after: float | None = None  # seconds, in Retry-After
    ratelimit_reset: float | None = None  # seconds, in x-ratelimit-reset
    seconds: float = 0.0
    count: int = 2
    bytes: int = 4 * 1024 * 1024
    close: bool = False  # of speech.failed: the socket is closed after it
    close_code: int = 1011


Usage = Literal["finish", "trailing", "none"]
ReasoningField = Literal["reasoning", "reasoning_content"]
TokenIds = Literal["always", "sometimes", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """How chat completions are answered when nothing goes wrong."""

    answers: dict[str, str] = field(default_factory=dict)  # last user message contains: reply
    replies: tuple[str, ...] = ()  # used in turn, over and over, where no answer matches
    reasoning: str = ""  # comes first, unless the request switches reasoning off
    reasoning_field: ReasoningField = "reasoning"
    first_token_ms: float = 120.0
    tokens_per_second: float = 40.0  # 0: as fast as possible
    tokens_per_chunk: int = 1
    finish_reason: str = "stop"  # `length` when the request's max_tokens are reached
    usage: Usage = "finish"  # on the finish chunk, or trailing with empty choices
    token_ids: TokenIds = "sometimes"  # noqa: S105 - tokens of text, not of a login
    keys: tuple[str, ...] = ()  # the keys that are accepted; empty: any


Done = Literal["commit", "item", "two_items", "context", "context_once", "none"]
WavHeader = Literal["auto", "always", "never"]
Received = Literal["append", "sentence", "none"]
EmptyCommit = Literal["nothing", "done", "error"]
Timestamps = Literal["item", "context"]
Sound = Literal["computable", "audible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """How the speech WebSocket behaves when nothing goes wrong.

    `done` says what is one item, and gets a done: `commit`, each commit; `item`, each sentence of
    a commit; `two_items`, each half of a commit; `context`, all that is queued in a context, with
    a done each time nothing is left; `context_once`, the same, but only the first time; `none`,
    items are as with `commit`, and no done ever comes.
    """

    sound: Sound = "computable"
    char_samples: int = 1200  # of the computable voice: 50 ms a character
    realtime_factor: float = 20.0  # seconds of audio made per second; 0: at once
    first_audio_ms: float = 80.0
    delta_ms: float = 100.0  # audio in one delta
    odd_splits: bool = False  # deltas end in the middle of a sample
    binary: bool = False  # audio in binary frames that name neither context nor item
    wav_header: WavHeader = "auto"  # auto: where response_format is absent or `wav`
    done: Done = "commit"
    extra_dones: int = 0  # each done is repeated so often
    received: Received = "append"
    session_updated: bool = False  # whether tts_session.updated is answered
    echo_context: bool = True  # a context_id that was sent comes back on every event
    parallel: bool = True  # contexts of one socket speak at the same time
    max_contexts: int = 100
    empty_commit: EmptyCommit = "nothing"
    clear_drops_queued: bool = False  # clear also drops what was committed and has not begun
    late_settings: bool = False  # a change of voice or speed reaches what is already queued
    timestamps: Timestamps = "item"  # what word times are relative to
    late_deltas: int = 0  # audio of a cancelled context that still comes
    unknown_every: int = 0  # an event of an unknown type before every n-th delta; 0: never
    idle_seconds: float = 0.0  # closed after so long without a message; 0: never
    pings_count: bool = True  # a ping is a message, for idle_seconds
    idle_close_code: int = 1000
    lifetime_seconds: float = 0.0  # closed after so long whatever happens; 0: never
    max_sockets: int = 0  # a further one is refused with 429; 0: any number
    models: tuple[str, ...] = ()  # others are model_not_available; empty: any
    refuse_late: bool = False  # a bad key or model is refused by tts.failed after the 101
    keys: tuple[str, ...] = ()  # the keys that are accepted; empty: any


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """All of it. `seed` is for the dice of `Fault.probability`."""

    chat: Chat = field(default_factory=Chat)
    speech: Speech = field(default_factory=Speech)
    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def script(data: object) -> Script:
    """A script from JSON's values.

    Raises: BadScript, naming the place.
    """
    return _build(Script, data, "script")


def fault(data: object) -> Fault:
    """One fault from JSON's values.

    Raises: BadScript, naming the place.
    """
    return _build(Fault, data, "fault")


def changed(before: Script, data: object) -> Script:
    """`before` with what `data` names: `chat` and `speech` field by field, the rest as a whole.

    Raises: BadScript, naming the place.
    """
    if not isinstance(data, dict):
        raise BadScript("script: must be an object")
    after = script(data)
    new: dict[str, Any] = {name: getattr(after, name) for name in data}
    for part in ("chat", "speech"):
        if part in data:
            named = {name: getattr(new[part], name) for name in data[part]}
            new[part] = replace(getattr(before, part), **named)
    return replace(before, **new)


def _build(cls: type[_T], data: object, place: str) -> _T:
    if not isinstance(data, dict):
        raise BadScript(f"{place}: must be an object")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # always a dataclass
    if unknown := sorted(str(name) for name in data.keys() - known):
        raise BadScript(f"{place}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        return cls(**{name: _value(hints[name], data[name], f"{place}.{name}") for name in data})
    except TypeError as exc:
        raise BadScript(f"{place}: {exc}") from exc


def _value(hint: Any, data: object, place: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in {types.UnionType, Union}:
        return None if data is None else _value(args[0], data, place)
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, enum.StrEnum)):
        choices = args if origin is Literal else tuple(str(member) for member in hint)
        if data not in choices:
            raise BadScript(f"{place}: {data!r} is not one of {', '.join(choices)}")
        return data if origin is Literal else hint(data)
    if origin is tuple and isinstance(data, list | tuple):
        return tuple(_value(args[0], item, f"{place}[{i}]") for i, item in enumerate(data))
    if origin is dict and isinstance(data, dict):
        return {str(k): _value(args[1], v, f"{place}.{k}") for k, v in data.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, data, place)
    return _scalar(hint, data, place)


def _scalar(hint: Any, data: object, place: str) -> Any:
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        data = float(data)
    if type(data) is not hint:
        wanted = getattr(hint, "__name__", str(hint))
        if hint is not None and get_origin(hint) is not None:
            wanted = "a list" if get_origin(hint) is tuple else "an object"
        raise BadScript(f"{place}: {data!r} is not {wanted}")
    if isinstance(data, int | float) and data < 0:
        raise BadScript(f"{place}: {data!r} is below 0")
    return data


@dataclass(slots=True)
class _Armed:
    """A fault and how often it was met and hit."""

    id: int
    fault: Fault
    met: int = 0
    hits: int = 0


class Faults:
    """The faults of a running emulator: decides which hit, and counts them."""

    def __init__(self, faults: tuple[Fault, ...] = (), seed: int = 0) -> None:
        self._armed: list[_Armed] = []
        self._next_id = 1
        self.load(faults, seed)

    def load(self, faults: tuple[Fault, ...], seed: int) -> None:
        """Takes these in place of all it had."""
        self._armed.clear()
        self._dice = random.Random(seed)  # noqa: S311 - a fault is no secret
        for one in faults:
            self.add(one)

    def add(self, one: Fault) -> int:
        """Adds one at the end; the answer is its id."""
        armed = _Armed(self._next_id, one)
        self._next_id += 1
        self._armed.append(armed)
        return armed.id

    def remove(self, number: int) -> bool:
        """Whether there was one."""
        before = len(self._armed)
        self._armed = [armed for armed in self._armed if armed.id != number]
        return len(self._armed) < before

    def hits(self, number: int) -> int:
        """How often the fault with this id has hit; 0 for an unknown one."""
        return next((armed.hits for armed in self._armed if armed.id == number), 0)

    def take(self, stage: str, text: str) -> dict[FaultKind, Fault]:
        """The faults that hit now, at most one of a kind; `stage` is a kind or its first word."""
        hit: dict[FaultKind, Fault] = {}
        for armed in self._armed:
            one = armed.fault
            if one.kind in hit or stage not in {one.kind, one.kind.partition(".")[0]}:
                continue
            if stage != one.kind and one.kind is FaultKind.SPEECH_REFUSE_CONTEXT:
                continue  # this one is asked for by its full name: it meets another text
            if one.match not in text or not self._falls(armed):
                continue
            hit[one.kind] = one
        return hit

    def _falls(self, armed: _Armed) -> bool:
        one = armed.fault
        if one.times is not None and armed.hits >= one.times:
            return False
        armed.met += 1
        if armed.met <= one.skip:
            return False
        if one.probability < 1.0 and self._dice.random() >= one.probability:
            return False
        armed.hits += 1
        return True

    def as_json(self) -> list[dict[str, Any]]:
        """Each with its id and how often it hit."""
        return [{"id": a.id, "hits": a.hits, **asdict(a.fault)} for a in self._armed]
