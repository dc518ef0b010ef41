"""Messages of every kind as an enemy, or a bug, would send them, drawn from the contract's structs.

Each begins as what its struct allows; then fields are swapped, dropped and invented, and what is
written of it is cut, doubled, blown up or spoiled. Headers and subjects have lies of their own.
"""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from msgspec import inspect

from shared import contract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypothesis.strategies import DrawFn, SearchStrategy

CONVERSATIONS: Final = tuple(f"h{number}" for number in range(24))
ERASED: Final = CONVERSATIONS[:4]  # of which requests may go without a word
TURNS: Final = tuple(f"t{number}" for number in range(200))
# What is no id, and would be more: a path, a subject, a pattern, a line, a key of something else.
NO_IDS: Final = (
    *("", " ", "..", ".", "a.b", ">", "*", "a/b", "../../x", "/etc/x", "a b", "%2e%2e%2f"),
    *("\0", "a\0b", "a\n", "a\r\nX-Y: z", "\t", "x" * 65, "x" * 1_000, "٣", "ａ", "é", "\u202e"),
    *(
        "$JS",
        "$KV",
        "_INBOX",
        "a$b",
        "h0.1",
        "h0\ud800",
        "a\x0cb",
        "a\x0b2",
        "a\x0c1",
        "-" * 65,
        "'",
        '"',
        "\\",
        "${x}",
        "{}",
    ),
)
_NUMBERS: Final = (
    *(0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**300, 10**400),
    *(0.5, -0.0, 1e308, -1e308, math.nan, math.inf, -math.inf),
)
_TEXTS: Final = (
    *NO_IDS,
    *("\ud800", "\udfff\ud800", "😀" * 50, "\x1b[31m", "a" * 5_000, "NaN", "null", "true", "0x1"),
    *("<script>", "' OR 1=1", "{{7*7}}", "\ufeff", "\u0000\u0001\u0002", "<think>", "```"),
    "[" * 99,
)
_SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_TEXTS),
    st.text(max_size=9),
)
ANYTHING: Final = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_TEXTS), inner, max_size=3)
    ),
    max_leaves=5,
)
# Spoken to, these would do something else: to the services, or to the server.
_HEADERS: Final = (
    *("Nats-Msg-Id", "Nats-Expected-Last-Sequence", "Nats-Expected-Stream", "Nats-TTL"),
    *("Nats-Rollup", "Nats-Sequence", "Nats-Subject", "Nats-Num-Pending", "Nats-Pin-Id", "Status"),
    *("Nats-Schedule", "Nats-Batch-Id", "Nats-Marker-Reason", "KV-Operation", "Description"),
    *("Parley-Conversation", "Parley-Turn", "Parley-Warnings", "Parley-Asked-At", "Parley-Type"),
    *("Parley-Attempt", "Parley-Seq", "Parley-Piece", "Parley-Next", "Parley-Error-Code"),
    *("Parley-Original-Bytes", "Parley-Subject", "baggage", "tracestate", "Content-Type"),
)
_VALUES: Final = (
    *(text.replace("\r", "").replace("\n", "") for text in _TEXTS),
    *("sub", "all", "1", "-1", "1s", "0", "9" * 4_000, "x" * 10_000, "now", *TURNS[:9]),
)
_BLOCKS: Final = (
    *(b"X", b"NATS/1.0", b"NATS/1.0 \xff\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"\xff" * 30),
    *(b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b"NATS/1.0 404 No Messages\r\nA: b\r\n\r\n"),
    *(b"NATS/1.0\r\nno colon\r\n: no name\r\na b: c\r\n\xff: \xfe\r\n\r\n",),
    *(b"NATS/1.0 409 Consumer Deleted\r\n\r\n", b"NATS/1.0\r\n\r\n"),
    b"NATS/1.0\r\n" + b"A: b\r\n" * 500 + b"\r\n",
)


@dataclass(frozen=True, slots=True)
class Hostile:
    """One message; `literal` is its subject without the conversation.

    `headers` is a block as it is, or the headers of one. `reply`: an answer is asked for.
    """

    literal: str
    subject: bytes
    body: bytes
    headers: bytes | dict[str, str] = field(default_factory=dict)
    reply: bool = True


def of_type(info: inspect.Type) -> SearchStrategy[Any]:  # noqa: PLR0911, PLR0912  a table
    """What JSON of that type may be."""
    match info:
        case inspect.Metadata(type=described):
            return of_type(described)
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.EnumType(cls=cls):
            return st.sampled_from([each.value for each in cls])
        case inspect.LiteralType(values=values):
            return st.sampled_from(list(values))
        case inspect.StrType(pattern=contract.ID_PATTERN):
            return st.sampled_from((*CONVERSATIONS, *TURNS))
        case inspect.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=min(high or 20, 20))
        case inspect.IntType(ge=low, le=high):
            return st.integers(low or 0, min(high or 10_000, 10_000))
        case inspect.FloatType(ge=low, le=high):
            return st.floats(low or 0, high or 9)
        case inspect.ListType(item_type=item):
            return st.lists(of_type(item), max_size=3)
        case inspect.VarTupleType(item_type=item):
            return st.lists(of_type(item), max_size=3)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(of_type, items)).map(list)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(of_type(key), of_type(value), max_size=3)
        case inspect.UnionType(types=types):
            return st.one_of(*map(of_type, types))
        case inspect.StructType():
            return of_struct(info)
    return ANYTHING


def of_struct(info: inspect.StructType) -> SearchStrategy[dict[str, Any]]:
    given = {each.encode_name: of_type(each.type) for each in info.fields if each.required}
    optional = {each.encode_name: of_type(each.type) for each in info.fields if not each.required}
    tag = {info.tag_field: st.just(info.tag)} if info.tag_field else {}
    return st.fixed_dictionaries({**tag, **given}, optional=optional)


def _fields(kind: type) -> SearchStrategy[dict[str, Any]]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return of_struct(info)


# ---------------------------------------------------------------- what is done to a valid one


def _as_it_is(_draw: DrawFn, _fields: dict[str, Any]) -> None:
    pass


def _swap(draw: DrawFn, fields: dict[str, Any]) -> None:
    inner = [each for each in fields.values() if isinstance(each, dict) and each]
    where = draw(st.sampled_from([fields, *inner]))
    if where:
        where[draw(st.sampled_from(sorted(where)))] = draw(ANYTHING)


def _swap_an_id(draw: DrawFn, fields: dict[str, Any]) -> None:
    name = draw(st.sampled_from(("conversation_id", "turn_id", "before", "voice", "model")))
    fields[name] = draw(st.sampled_from(NO_IDS))


def _drop(draw: DrawFn, fields: dict[str, Any]) -> None:
    if fields:
        del fields[draw(st.sampled_from(sorted(fields)))]


def _invent(draw: DrawFn, fields: dict[str, Any]) -> None:
    fields[draw(st.sampled_from(_TEXTS))] = draw(ANYTHING)


def _spoil(draw: DrawFn, fields: dict[str, Any]) -> None:
    for name in fields:
        fields[name] = draw(ANYTHING)


CHANGES: Final[tuple[Callable[[DrawFn, dict[str, Any]], None], ...]] = (
    *(_as_it_is, _as_it_is, _swap, _swap, _swap_an_id, _drop, _invent, _spoil),
)


def _deep(body: bytes) -> bytes:
    return b'{"content":"x","text":"x","deep":' + b"[" * 20_000 + body + b"]" * 20_000 + b"}"


WRITTEN: Final[tuple[Callable[[bytes], bytes], ...]] = (
    *(lambda body: body,) * 12,
    lambda body: body[: len(body) // 2],
    lambda body: body + body,
    lambda body: body[:-1] + b"," + body[1:],  # each key twice
    lambda body: body.replace(b'"', b'"\xff', 3),
    lambda body: body[:-1] + b',"\xfe":1}',
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: b" \r\n\t" * 100 + body,
    lambda body: b"[" + body + b"]",
    lambda body: body[:-1] + b',"filler":"' + b"x" * 300_000 + b'"}',
    lambda body: body[:-1] + b',"content":"' + b"y " * 100_000 + b'"}',
    lambda body: b"\0" + body,
    _deep,
)
_RAW: Final = st.one_of(
    st.binary(max_size=50),
    st.sampled_from(
        (b"", b"{", b"}", b"null", b"\xff\xfe\0", b"[" * 100_000, b'{"a":' * 5_000, b"\0" * 1_000)
    ),
    st.sampled_from((b"x" * 700_000, b"\xff" * 300_000, b'{"content":"' + b"z" * 600_000)),
)

# ---------------------------------------------------------------- subjects

# Each with what is sent there, and whether a conversation belongs behind it.
_SUBJECTS: Final[tuple[tuple[str, tuple[type, ...], bool], ...]] = (
    *(("chat.request", (contract.ChatRequest,), named) for named in (False, True, True)),
    *(("chat.ask", (contract.ChatRequest,), True),) * 2,
    *(("chat.cancel", (contract.CancelRequest,), named) for named in (False, True)),
    *(("chat.history.get", (contract.HistoryRequest,), named) for named in (False, True)),
    ("chat.history.delete", (contract.DeleteRequest,), True),
    ("chat.replay", (contract.ReplayRequest,), True),
    *(("tts.request", (contract.SpeechRequest,), True),) * 2,
    ("tts.link", (contract.LinkRequest,), True),
    ("tts.erase", (contract.DeleteRequest,), True),
    (
        "chat.delta",
        (contract.Started, contract.Text, contract.Reasoning, contract.Done, contract.Failed),
        True,
    ),
    ("tts.audio", tuple(contract.AUDIO_EVENTS.values()), True),
)
EVENTS: Final = frozenset({"chat.delta", "tts.audio"})
ERASURES: Final = frozenset({"chat.history.delete", "tts.erase"})


_MARKS: Final = str.maketrans(dict.fromkeys(" \t\r\n", "_"))  # of the protocol itself
_TURN: Final = re.compile(rb'"t[0-9]+"')
_CONVERSATION: Final = re.compile(rb'"conversation_id": "[^"]*"')
LARGEST: Final = 1_000_000  # beside headers; the server cuts off who sends more
_EACH: Final = 4  # messages that are made of one body, each written, named and headed otherwise


@st.composite
def _bodies(draw: DrawFn) -> tuple[str, type, bool, bytes]:
    """What a struct allows, and what somebody made of it; with the subject that it is for."""
    literal, kinds, named = draw(st.sampled_from(_SUBJECTS))
    kind = draw(st.sampled_from(kinds))
    if draw(st.integers(0, 9)) == 0:
        return literal, kind, named, draw(_RAW)
    fields = draw(_fields(kind))
    # Few want a voice, which takes twenty times as long; most are of use, so that turns run.
    if kind is contract.ChatRequest and draw(st.integers(0, 4)):
        fields |= {"content": "Go on.", "speech": False}
        for name in ("messages", "model", "seed", "stop", "reasoning_effort"):
            fields.pop(name, None)
    if kind is contract.SpeechRequest and draw(st.booleans()):
        fields |= {"text": "Go on.", "speech": {}}
    draw(st.sampled_from(CHANGES))(draw, fields)
    # A surrogate that is not escaped makes bytes that are no UTF-8.
    plain = draw(st.booleans())
    body = json.dumps(fields, ensure_ascii=plain).encode(errors="surrogatepass")
    return literal, kind, named, body


def _drawn(count: int, seed: int) -> list[tuple[str, type, bool, bytes]]:
    """So many, the same for the same seed."""
    found: list[tuple[str, type, bool, bytes]] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
        derandomize=False,
    )
    @hypothesis.given(_bodies())
    def collect(body: tuple[str, type, bool, bytes]) -> None:
        found.append(body)

    collect()
    return found


def generated(count: int, seed: int) -> Iterator[Hostile]:
    """So many, the same for the same seed."""
    dice = random.Random(seed)
    bodies = _drawn(count // _EACH, seed)
    for number in range(count):
        literal, kind, named, body = dice.choice(bodies)
        if dice.random() < 0.7:  # else the turn was asked for before
            body = _TURN.sub(b'"u%d"' % number, body)
        known = ERASED if literal in ERASURES else CONVERSATIONS
        conversation = dice.choice(known if dice.random() < 0.8 else NO_IDS)
        if dice.random() < 0.7:  # else the body names another one
            named_so = json.dumps({"conversation_id": conversation}).encode()[1:-1]
            body = _CONVERSATION.sub(named_so.replace(b"\\", b"\\\\"), body)
        headers = _headers(literal, kind, dice)
        # Where the headers may have the stream refuse it, or hide what becomes of it, it is asked.
        strange = isinstance(headers, bytes) or any(name.startswith("Nats-") for name in headers)
        yield Hostile(
            literal,
            _subject(literal, conversation) if named else literal.encode(),
            dice.choice(WRITTEN)(body)[:LARGEST],
            headers,
            reply=literal not in EVENTS and (strange or dice.random() < 0.75),
        )


def _subject(literal: str, name: str) -> bytes:
    if name == ">" and literal in {"chat.request", "tts.request"}:
        # The server keeps it and gives it to no consumer of `chat.request.*`: it waits for an
        # operator who deletes it (docs/security.md).
        name = "*"
    return f"{literal}.{name.translate(_MARKS)}".encode(errors="surrogatepass")


def _headers(literal: str, kind: type, dice: random.Random) -> bytes | dict[str, str]:
    chance, headers = dice.random(), dict[str, str]()
    if chance < 0.1:
        # nats-server 2.15.1 dies of a block of one byte on a stream that republishes: whoever may
        # publish events may stop it, which only the services may (docs/security.md).
        return dice.choice(_BLOCKS[1:] if literal in EVENTS else _BLOCKS)
    if literal in EVENTS:
        kinds = {each: name for name, each in contract.AUDIO_EVENTS.items()}
        told = kinds.get(kind, contract.Kind.CHUNK).value
        headers = {"Parley-Type": told, "Parley-Turn": dice.choice(TURNS), "Parley-Attempt": "1"}
    if chance < 0.4:
        headers |= {dice.choice(_HEADERS): dice.choice(_VALUES) for _ in range(dice.randint(1, 3))}
    return headers
