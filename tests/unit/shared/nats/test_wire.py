"""What the server says is understood however it is cut; headers come back as they were given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import BadSubjectError, ProtocolError
from nats.protocol.parser import Parser

from shared.errors import Unsendable
from shared.nats.wire import Block, Incoming, Wire, block_of, check_subject, headers_of

if TYPE_CHECKING:
    from nats.aio.client import Client

BLOCK = b"NATS/1.0\r\nA: b\r\n\r\n"
SAID = (
    b'INFO {"max_payload": 7}\r\n'
    b"MSG s.a 1 5\r\nhello\r\n"
    b"PING\r\n"
    b"HMSG s.b 1 _INBOX.x %d %d\r\n%bwith\r\nlines\r\n"
    % (len(BLOCK), len(BLOCK) + 11, BLOCK)
    + b"-ERR 'Permissions Violation'\r\n"
    b"MSG s.c 2 r 0\r\n\r\n"
    b"PONG\r\n"
    b"+OK\r\n"
)


class Heard:
    """A client of nats-py as far as the wire knows it: keeps what it is told."""

    def __init__(self) -> None:
        self._ps = Parser(self)
        self.told: list[Any] = []
        self._sid = 0

    async def subscribe(self, subject: str, queue: str = "") -> Any:
        if not subject:
            raise BadSubjectError
        self._sid += 1
        return SimpleNamespace(_id=self._sid)

    async def _process_ping(self) -> None:
        self.told.append("ping")

    async def _process_pong(self) -> None:
        self.told.append("pong")

    async def _process_err(self, words: str) -> None:
        self.told.append(words)

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.told.append(info)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, *rest: Any) -> None:
        self.told.append((sid, subject, reply, *rest))

    async def _error_cb(self, exc: Exception) -> None:
        self.told.append(exc)


async def understood(pieces: list[bytes]) -> list[Any]:
    client = Heard()
    wire = Wire(cast("Client", client))

    def take(msg: Incoming) -> None:
        client.told.append((msg.subject, msg.reply, msg.headers, msg.data))

    await wire.subscribe("s.*", take)
    for piece in pieces:
        await client._ps.parse(piece)
    return client.told


ALL = [
    {"max_payload": 7},
    ("s.a", "", {}, b"hello"),
    "ping",
    ("s.b", "_INBOX.x", {"A": "b"}, b"with\r\nlines"),
    "'permissions violation'",
    (2, b"s.c", b"r", b"", None),
    "pong",
]


async def test_what_is_said_at_once_is_understood() -> None:
    assert await understood([SAID]) == ALL


@pytest.mark.parametrize("at", range(len(SAID)))
async def test_what_is_cut_anywhere_is_understood(at: int) -> None:
    assert await understood([SAID[:at], SAID[at:]]) == ALL


async def test_what_comes_byte_by_byte_is_understood() -> None:
    assert await understood([SAID[n : n + 1] for n in range(len(SAID))]) == ALL


async def test_what_no_server_says_ends_the_connection() -> None:
    for said in (b"HELLO\r\n", b"MSG s.a 1 x\r\n"):
        with pytest.raises(ProtocolError):
            await understood([said])


async def test_what_an_old_connection_began_is_not_ended_by_a_new_one() -> None:
    client = Heard()
    wire = Wire(cast("Client", client))
    await wire.subscribe("s.*", client.told.append)
    for began in (b"MSG s.a 1 5\r\nhel", b"MSG s."):
        await client._ps.parse(began)
        client._ps.reset()
        await client._ps.parse(b"PING\r\n")
    assert client.told == ["ping", "ping"]


async def test_what_fails_with_a_message_is_told_and_the_next_one_comes() -> None:
    client = Heard()
    wire = Wire(cast("Client", client))
    taken: list[bytes] = []

    def take(msg: Incoming) -> None:
        taken.append(msg.data)
        raise ValueError(msg.data)

    await wire.subscribe("s.*", take)
    await client._ps.parse(b"MSG s.a 1 1\r\na\r\nMSG s.a 1 1\r\nb\r\n")
    assert taken == [b"a", b"b"]


async def test_who_is_forgotten_hears_nothing_more() -> None:
    client = Heard()
    wire = Wire(cast("Client", client))
    taken: list[Incoming] = []
    subscription = await wire.subscribe("s.*", taken.append)
    wire.forget(subscription)
    await client._ps.parse(b"MSG s.a 1 1\r\na\r\n")
    assert not taken
    assert client.told == [(1, b"s.a", b"", b"a", None)]


async def test_a_subscription_that_fails_takes_nothing_of_the_next_one() -> None:
    client = Heard()
    wire = Wire(cast("Client", client))
    taken: list[Incoming] = []
    with pytest.raises(BadSubjectError):
        await wire.subscribe("", taken.append)
    await client.subscribe("s.*")
    await client._ps.parse(b"MSG s.a 1 1\r\na\r\n")
    assert not taken


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0 404 No Messages\r\n\r\n", {"Status": "404", "Description": "No Messages"}),
        (
            b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n",
            {"Status": "100", "Description": "Idle Heartbeat", "Nats-Last-Consumer": "7"},
        ),
        (b"NATS/1.0\r\nA:b\r\nC:\td\r\n\r\n", {"A": "b", "C": "d"}),
        (b"NATS/1.0\r\nno header\r\nwith space: x\r\n: y\r\nA: \xff\r\n\r\n", {"A": "\ufffd"}),
        (b"NATS/1.0\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"", None),
    ],
)
def test_headers_are_read_as_far_as_they_are_some(
    block: bytes, found: dict[str, str] | None
) -> None:
    assert headers_of(block) == found


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)


@given(st.dictionaries(NAMES, VALUES.map(str.strip), min_size=1))
def test_headers_come_back_as_they_were_given(headers: dict[str, str]) -> None:
    assert headers_of(block_of(headers)) == headers


def test_a_value_ends_no_line() -> None:
    assert headers_of(block_of({"A": "b\r\nC: d"})) == {"A": "b  C: d"}


def test_a_name_that_is_none_is_refused() -> None:
    for name in ("", "a b", "a:b", "ä", "a\r\nb"):
        with pytest.raises(Unsendable):
            block_of({name: "x"})


def test_one_header_changes_and_the_others_stand() -> None:
    block = Block("Nats-Msg-Id", {"A": "b"})
    for value in ("c.t.1.0", "c.t.1.1"):
        assert headers_of(block.of(value)) == {"Nats-Msg-Id": value, "A": "b"}


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0", "a\tb"])
def test_what_is_no_subject_is_refused(subject: str) -> None:
    with pytest.raises(Unsendable):
        check_subject(subject)
