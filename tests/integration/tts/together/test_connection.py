"""Connections to a server that does what it is told, and says what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from services.tts.ports import VoiceParams
from services.tts.together.connection import Endpoint
from services.tts.together.profile import Profile
from services.tts.together.socket import Socket
from services.tts.together.turn import SocketLost
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderRateLimited,
    ProviderRefused,
    ProviderStalled,
)
from tests.fakes_together import SESSION, Counts, failed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from websockets.http11 import Request, Response

    from services.tts.together.connection import Pump

pytestmark = pytest.mark.timeout(120)

KEY = "key-that-nobody-may-see"


# Text, or bytes, or either in several frames.
Said: TypeAlias = "str | bytes | Sequence[str] | Sequence[bytes]"


@dataclass
class Server:
    """Refuses the handshake, or says these frames and then listens."""

    says: Sequence[Said] = (SESSION,)
    refuses: tuple[int, dict[str, str], str] | None = None
    closes: bool = False
    asked: list[Request] = field(default_factory=list)
    raw: Sequence[bytes] = ()  # then, as one message of text in so many frames
    wire: Sequence[bytes] = ()  # then, as it is
    heard: list[str | bytes] = field(default_factory=list)
    port: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Endpoint]:
        async with serve(self.talk, "127.0.0.1", 0, process_request=self.judge) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield Endpoint(url=f"ws://127.0.0.1:{self.port}/", api_key=KEY, connect_timeout=5.0)

    def judge(self, connection: ServerConnection, request: Request) -> Response | None:
        self.asked.append(request)
        if self.refuses is None:
            return None
        status, headers, body = self.refuses
        response = connection.respond(http.HTTPStatus(status), body)
        response.headers.update(headers)
        return response

    async def talk(self, connection: ServerConnection) -> None:
        for frame in self.says:
            await connection.send(frame)
        if self.raw:
            await connection.send(self.raw, text=True)
        for part in self.wire:
            connection.transport.write(part)
            await asyncio.sleep(0.0005)
        if self.closes:
            return
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                self.heard.append(message)


def socket() -> Socket:
    params = VoiceParams(model="m", voice="a+b")
    return Socket(params, Profile(), stir=lambda _: None, count=Counts())


@contextlib.asynccontextmanager
async def pumping(server: Server, opened: Socket) -> AsyncIterator[Pump]:
    async with asyncio.timeout(30), server.running() as endpoint:
        pump = await endpoint.open(opened)
        try:
            yield pump
        finally:
            pump.abort()


async def test_a_socket_opens_with_its_session_and_its_key_in_a_header() -> None:
    server, opened = Server(says=[json.dumps({"type": "hello"}), SESSION]), socket()
    async with pumping(server, opened):
        assert opened.open
        (request,) = server.asked
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert KEY not in request.path
        assert "voice=a%2Bb" in request.path


async def test_what_is_sent_arrives_as_text() -> None:
    server, opened = Server(), socket()
    async with pumping(server, opened) as pump:
        pump.send(b'{"type":"x"}')
        await pump.ping(opened)  # frames are taken in order
        assert server.heard == ['{"type":"x"}']


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, ProviderRefused), (401, ProviderAuth), (429, ProviderRateLimited)],
)
async def test_a_refused_handshake_is_an_error_by_its_status(
    status: int, expected: type[Exception]
) -> None:
    body = json.dumps({"error": {"message": f"No, {KEY} is not good."}})
    server = Server(refuses=(status, {"Retry-After": "2.5"}, body))
    with pytest.raises(expected) as caught:
        async with pumping(server, socket()):
            pass
    assert str(caught.value) == "No, *** is not good."
    assert getattr(caught.value, "wait", None) == 2.5


async def test_a_refusal_may_come_after_the_handshake() -> None:
    with pytest.raises(ProviderAuth):
        async with pumping(Server(says=[failed(code="invalid_api_key")]), socket()):
            pass


async def test_a_handshake_without_a_session_has_a_deadline() -> None:
    server = Server(says=[])
    async with asyncio.timeout(30), server.running() as endpoint:
        hasty = Endpoint(url=endpoint.url, api_key=KEY, connect_timeout=0.2)
        with pytest.raises(ProviderStalled):
            await hasty.open(socket())


@pytest.mark.parametrize("says", [[], ["garbage"]])
async def test_a_handshake_that_ends_in_something_else_is_broken(says: list[str]) -> None:
    with pytest.raises(ProviderBroken):
        async with pumping(Server(says=says, closes=True), socket()):
            pass


async def test_where_nobody_listens_there_is_no_connection() -> None:
    server = Server()
    async with server.running() as endpoint:
        pass
    with pytest.raises(ProviderBroken):
        await endpoint.open(socket())


async def test_an_address_that_is_none_is_refused_for_good() -> None:
    with pytest.raises(ProviderRefused):
        await Endpoint(url="http://127.0.0.1/", api_key=KEY).open(socket())


async def test_the_key_is_in_no_repr() -> None:
    assert KEY not in repr(Endpoint(url="ws://127.0.0.1/", api_key=KEY))


async def test_a_connection_that_ends_says_that_it_is_lost() -> None:
    opened = socket()
    async with pumping(Server(closes=True), opened) as pump:
        assert isinstance(await pump.read(opened), SocketLost)
        assert not opened.open


async def test_a_connection_that_cannot_be_trusted_says_why() -> None:
    opened = socket()
    async with pumping(Server(says=[SESSION, "garbage"]), opened) as pump:
        reason = await pump.read(opened)
        assert "JSON" in str(reason)


async def test_a_message_in_several_frames_is_one() -> None:
    opened = socket()
    complaint = failed(code="model_not_available")
    says = [SESSION, [complaint[:10], complaint[10:20], complaint[20:]]]
    async with pumping(Server(says=says, closes=True), opened) as pump:
        assert isinstance(await pump.read(opened), ProviderRefused)


async def test_text_in_several_frames_may_be_parted_within_a_character() -> None:
    opened, said = socket(), json.dumps({"type": "hello", "é": "é"}, ensure_ascii=False)
    at = said.encode().index("é".encode()) + 1
    parted = [said.encode()[:at], said.encode()[at:]]
    async with asyncio.timeout(30):
        server = Server(says=[SESSION], closes=True)
        server.raw = parted
        async with pumping(server, opened) as pump:
            assert isinstance(await pump.read(opened), SocketLost)


async def test_audio_may_come_in_binary_frames() -> None:
    opened = socket()
    async with pumping(
        Server(says=[SESSION, b"\0\0", [b"\0", b"\0"]], closes=True), opened
    ) as pump:
        await pump.read(opened)
        assert opened.served


def text_frame(text: str) -> Frame:
    return Frame(Opcode.TEXT, text.encode())


EACH_KIND: list[tuple[Frame, str | bytes | None]] = [
    *[(text_frame(text), text) for text in ("", "é", "x" * 125, "x" * 126, "y" * 65_535)],
    (text_frame("z" * 65_536), "z" * 65_536),
    (Frame(Opcode.BINARY, b"\x81\x01a"), b"\x81\x01a"),
    (Frame(Opcode.PING, b"\x81"), None),
    (text_frame("after a ping"), "after a ping"),
    (Frame(Opcode.TEXT, b"in ", fin=False), None),
    (Frame(Opcode.PING, b""), None),
    (Frame(Opcode.CONT, b"", fin=False), None),
    (Frame(Opcode.CONT, b"parts"), "in parts"),
    *[(text_frame(f"{number}"), f"{number}") for number in range(20)],
]


@pytest.mark.parametrize("seed", range(12))
async def test_messages_are_the_same_wherever_their_bytes_are_cut(seed: int) -> None:
    dice, got = random.Random(seed), list[str | bytes]()
    order = EACH_KIND if not seed else [*EACH_KIND[:9], *dice.sample(EACH_KIND[:9], 9)]
    sent = b"".join(frame.serialize(mask=False) for frame, _ in order)
    cuts = sorted(dice.sample(range(1, len(sent)), min(seed * 20, 200)))

    class Collecting(Socket):
        def receive(self, frame: str | bytes, now: float) -> None:
            got.append(frame)

    server = Server(closes=True)
    server.wire = [sent[a:b] for a, b in pairwise([0, *cuts, len(sent)])]
    params = VoiceParams(model="m", voice="v")
    opened = Collecting(params, Profile(), stir=lambda _: None, count=Counts())
    async with pumping(server, opened) as pump:
        assert isinstance(await pump.read(opened), SocketLost)
    assert got == [message for _, message in order if message is not None]


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x81\x81\0\0\0\0x",  # masked, by a server
        b"\xc1\x01x",  # compressed, though nobody agreed on that
        b"\x80\x01x",  # goes on with nothing
        b"\x01\x01x\x81\x01y",  # begins while another goes on
        b"\x81\x7f\xff\0\0\0\0\0\0\0",  # longer than anything
    ],
)
async def test_a_frame_that_must_not_be_ends_the_connection(wrong: bytes) -> None:
    server, opened = Server(), socket()
    server.wire = [text_frame("{}").serialize(mask=False) + wrong]
    async with pumping(server, opened) as pump:
        assert isinstance(await pump.read(opened), SocketLost)


async def test_text_that_is_none_ends_the_trust_in_a_connection() -> None:
    opened, server = socket(), Server(closes=True)
    server.raw = [b"\xff"]
    async with pumping(server, opened) as pump:
        assert "UTF-8" in str(await pump.read(opened))


async def test_nothing_is_taken_after_a_failure_that_nobody_foresaw() -> None:
    opened = socket()

    class Fragile(Socket):
        taken = 0

        def receive(self, frame: str | bytes, now: float) -> None:
            self.taken += 1
            raise RuntimeError(f"at {now}: {frame!r}")

    async with pumping(Server(says=[SESSION, "{}", "{}"]), opened) as pump:
        params = VoiceParams(model="m", voice="v")
        fragile = Fragile(params, Profile(), stir=lambda _: None, count=Counts())
        with pytest.raises(RuntimeError):
            await pump.read(fragile)
        await pump.ping(opened)
        assert fragile.taken == 1


async def test_a_refusal_after_the_session_is_the_reason_of_the_end() -> None:
    opened = socket()
    server = Server(says=[SESSION, failed(code="model_not_available")], closes=True)
    async with pumping(server, opened) as pump:
        assert isinstance(await pump.read(opened), ProviderRefused)


async def test_a_ping_shows_in_what_is_heard() -> None:
    opened = socket()
    async with pumping(Server(), opened) as pump:
        before = pump.heard
        await pump.ping(opened)
        assert pump.heard > before
        assert opened.profile.slowest_pong is not None


async def test_a_connection_that_is_aborted_answers_nothing() -> None:
    opened = socket()
    async with pumping(Server(), opened) as pump:
        pump.abort()
        assert isinstance(await pump.read(opened), SocketLost)
        await pump.ping(opened)
        assert opened.profile.slowest_pong is None


async def test_closing_ends_the_task_that_reads_and_says_farewell() -> None:
    server, opened = Server(), socket()
    async with asyncio.timeout(30), server.running() as endpoint:

        async def live() -> None:
            pump = await endpoint.open(opened)
            try:
                await pump.read(opened)
            finally:
                await pump.farewell()

        task = asyncio.create_task(live())
        while not opened.open:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0)
        opened.retire()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not opened.open
