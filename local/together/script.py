"""How the emulated provider behaves: its replies, its pace, and what goes wrong.

A script is plain data, from JSON as well as from Python; unknown names are refused.

    {"chat":   {"replies": ["Hello."], "tokens_per_second": 0},
     "speech": {"done": "context", "realtime_factor": 5},
     "faults": [{"kind": "chat.status", "status": 429, "times": 2},
                {"kind": "speech.abort", "after": 3, "match": "MARK"}]}
"""

from __future__ import annotations

import enum
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from local.together.catalogue import CHAT_MODELS, SPEECH_MODELS
from local.together.faults import Fault

_T = TypeVar("_T")


class BadScript(ValueError):
    """A script names something unknown or gives a value of a wrong type."""


Usage = Literal["finish", "trailing", "asked", "none"]
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
    # On the finish chunk; trailing with empty choices, always or where stream_options ask for it.
    usage: Usage = "finish"
    context_tokens: int = 0  # of messages and answer; more is refused with 400; 0: any number
    token_ids: TokenIds = "sometimes"  # noqa: S105 - tokens of text, not of a login
    models: tuple[str, ...] = CHAT_MODELS  # others are model_not_available; empty: any
    keys: tuple[str, ...] = ()  # the keys that are accepted; empty: any
    wire_times: bool = False  # the record says when each chunk went out


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
    pong_seconds: float = 0.0  # that a pong takes; the rest goes on meanwhile
    pongs: bool = True  # false: no ping is ever answered
    idle_close_code: int = 1000
    lifetime_seconds: float = 0.0  # closed after so long whatever happens; 0: never
    max_sockets: int = 0  # a further one is refused with 429; 0: any number
    unknown_parameters: tuple[str, ...] = ()  # a handshake that has one of these is refused
    refused_with: int = 400  # that handshake
    session_model: str = ""  # that session.created names; empty: the one that was asked for
    nulls: bool = False  # null wherever an event has a list, a number or a string to spare
    nameless_errors: bool = False  # errors name no context
    models: tuple[str, ...] = SPEECH_MODELS  # others are model_not_available; empty: any
    any_voice: bool = False  # else a voice that its model does not have is voice_not_available
    refuse_late: bool = False  # a bad key or model is refused by tts.failed after the 101
    keys: tuple[str, ...] = ()  # the keys that are accepted; empty: any
    wire_times: bool = False  # the record says when each delta went out


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """All of it. `seed` is for the dice of `Fault.probability`."""

    chat: Chat = field(default_factory=Chat)
    speech: Speech = field(default_factory=Speech)
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    connect_ms: float = 0.0  # that a new connection takes, as TCP and TLS do over a distance

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
