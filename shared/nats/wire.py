"""NATS's wire as we read and write it: nothing that anybody may send leaves us deaf, and a message
costs no task.

nats-py 2.16 ends its read loop for good, and believes to be connected, on a message whose subject
or reply is no UTF-8, or whose header block is too short or begins with a line that is no UTF-8; it
splits a line at a form feed, which may stand in a subject, and takes the rest for another
subscription's number. The server passes all of that on, and a stream delivers it again and again.
It also spends 60 to 90 µs of the processor on a message: each that comes has its headers parsed, a
queue and a wake-up of the subscription's task; each that goes has its subject and the names of its
headers validated, and a future and a wake-up of a task that writes. Tokens and their acks are most
of what a service does. There is no public way to do otherwise (to be filed upstream).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any, Final

from nats.aio.transport import TcpTransport
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from shared.errors import Unsendable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nats.aio.client import Client
    from nats.aio.subscription import Subscription

# Between two writes of what may be joined: at 2,000 tokens a second two or three go in one, and
# none waits longer than a person could notice.
JOIN_SECONDS: Final = 0.001
_VERSION: Final = b"NATS/1.0"
_END: Final = b"\r\n"
# As nats-py has it: printable ASCII without separators.
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NEWLINES: Final = str.maketrans("\r\n", "  ")
_SPACE: Final = re.compile(r"[ \t\r\n]")


class Incoming:
    """A message as it came; its headers are read when somebody asks."""

    __slots__ = ("_block", "_reply", "data", "subject")

    def __init__(self, subject: str, reply: bytes, block: bytes, data: bytes) -> None:
        self.subject, self.data = subject, data
        self._reply, self._block = reply, block

    @property
    def reply(self) -> str:
        return _text(self._reply)

    @property
    def headers(self) -> dict[str, str]:
        """None of them: nobody gave any, or what was given are none."""
        return (headers_of(self._block) or {}) if self._block else {}

    @property
    def is_unanswered(self) -> bool:
        """The server's word, to who asked, that nobody listens there."""
        return self._block.startswith(b"NATS/1.0 503")


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode(errors="replace")


def headers_of(block: bytes) -> dict[str, str] | None:
    """A status stands under `Status`, its words under `Description`; None where there are none."""
    first, end, lines = block.partition(_END)
    if not end or not first.startswith(_VERSION):
        return None
    found: dict[str, str] = {}
    if len(first) > len(_VERSION):
        try:
            status, _, words = first[len(_VERSION) :].decode().strip().partition(" ")
        except UnicodeDecodeError:
            return None
        if status.isdigit():
            found["Status"] = status
        if words:
            found["Description"] = words
    for line in lines.decode(errors="replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and _NAME.fullmatch(name := name.strip()):
            found[name] = value.strip()
    return found or None


def block_of(headers: Mapping[str, str]) -> bytes:
    """Headers as they go over the wire; raises Unsendable for a name that is none."""
    lines = [_VERSION.decode()]
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise Unsendable(f"{name!r} is no header's name")
        lines.append(f"{name}: {value.strip().translate(_NEWLINES)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode(errors="replace")


class Block:
    """Headers of which one changes from message to message, the others stand for good.

    Raises Unsendable for a name that is none.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, name: str, others: Mapping[str, str]) -> None:
        self._before = block_of({name: ""})[: -2 * len(_END)]
        self._after = block_of(others)[len(_VERSION) :]

    def of(self, value: str) -> bytes:
        """`value` is an id: without a line's end."""
        return self._before + value.encode() + self._after


class Wire:
    """Between nats-py's client, which keeps the connection, and us."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._takes: dict[int, Callable[[Incoming], None]] = {}
        self._reader = _Reader(client, self._takes)
        self._reader.adopt(client._ps)  # noqa: SLF001  see above
        client._ps = self._reader  # noqa: SLF001  see above
        client._process_headers = _as_they_are  # type: ignore[method-assign]  # noqa: SLF001
        self._flush: asyncio.Handle | None = None  # the next one
        self._is_soon = False  # it comes in this turn of the loop
        self._flushed = 0.0

    async def subscribe(
        self, subject: str, take: Callable[[Incoming], None], *, queue: str = ""
    ) -> Subscription:
        """`take` is called with each message as it is read, and must not last."""
        sid = self._client._sid + 1  # noqa: SLF001  see above
        self._takes[sid] = take  # before the server can know of it
        try:
            return await self._client.subscribe(subject, queue)
        except BaseException:
            del self._takes[sid]
            raise

    def forget(self, subscription: Subscription) -> None:
        """It has been unsubscribed."""
        self._takes.pop(subscription._id, None)  # noqa: SLF001  see above

    def write(
        self, subject: str, reply: str, block: bytes, data: bytes, *, joined: bool = False
    ) -> None:
        """Goes with all that is written in the same turn of the loop, behind what was before.

        `joined`: it may wait for JOIN_SECONDS since the last was written, so that a stream of small
        messages costs the server and us a system call and a wake-up for several of them.
        The connection must be up. Raises Unsendable.
        """
        client = self._client
        if len(data) > client.max_payload:
            raise Unsendable(f"{subject}: {len(data)} bytes are more than NATS takes as a payload")
        to = f"{subject} {reply}" if reply else subject
        if block:
            size = len(block)
            head = f"HPUB {to} {size} {size + len(data)}\r\n"
        else:
            head = f"PUB {to} {len(data)}\r\n"
        client._pending.append(b"".join((head.encode(), block, data, _END)))  # noqa: SLF001
        client._pending_data_size += len(data)  # noqa: SLF001  see above
        if not (self._is_soon or (joined and self._flush is not None)):
            self._plan(joined=joined)

    def _plan(self, *, joined: bool) -> None:
        loop = asyncio.get_running_loop()
        if joined and time.monotonic() - self._flushed < JOIN_SECONDS:
            self._flush = loop.call_later(JOIN_SECONDS, self._write_all)
            return
        if self._flush is not None:
            self._flush.cancel()
        self._flush, self._is_soon = loop.call_soon(self._write_all), True

    def _write_all(self) -> None:
        """What is lost with the connection here is what was never acked: it is sent again."""
        self._flush, self._is_soon = None, False
        client = self._client
        transport = client._transport  # noqa: SLF001  see above
        if not client._pending or not client.is_connected:  # noqa: SLF001  see above
            return
        if not isinstance(transport, TcpTransport):  # a WebSocket's writes only when it is drained
            _keep(asyncio.ensure_future(client._flush_pending()))  # noqa: SLF001  see above
            return
        data = b"".join(client._pending)  # noqa: SLF001  see above
        self.forget_unwritten()
        self._flushed = time.monotonic()
        try:
            transport.write(data)  # type: ignore[no-untyped-call]  # of nats-py
        except (OSError, RuntimeError):
            return  # it is closed: the read loop finds that, too

    def forget_unwritten(self) -> None:
        """Drops what is buffered and not yet written."""
        self._client._pending.clear()  # noqa: SLF001  see above
        self._client._pending_data_size = 0  # noqa: SLF001  see above


def check_subject(subject: str) -> None:
    """Raises Unsendable for what would be something else on the wire."""
    if not subject or _SPACE.search(subject):
        raise Unsendable(f"{subject!r} is no subject")


_kept: set[asyncio.Future[Any]] = set()


def _keep(task: asyncio.Future[Any]) -> None:
    _kept.add(task)
    task.add_done_callback(_kept.discard)


async def _as_they_are(headers: dict[str, str] | None) -> dict[str, str] | None:
    """Our reader has read them."""
    return headers


class _Reader(Parser):
    """Reads what the server says. What nobody takes raw goes the client's own way."""

    def __init__(self, client: Client, takes: Mapping[int, Callable[[Incoming], None]]) -> None:
        self._takes = takes
        self._resets = 0
        super().__init__(client)

    def reset(self) -> None:
        """A new connection begins; what an old one began is forgotten."""
        super().reset()
        self._resets += 1
        self._rest = b""
        self._parts: list[bytes] = []  # of a message that is not here whole
        self._missing = 0  # bytes of it

    def adopt(self, other: Parser) -> None:
        """What another one has read, and not yet understood, of the same connection."""
        self._rest = bytes(other.buf)

    async def parse(self, data: bytes = b"") -> None:
        """Raises ProtocolError."""
        if self._missing > len(data):  # a large message comes in many parts
            self._parts.append(data)
            self._missing -= len(data)
            return
        if self._parts:
            data = b"".join([*self._parts, data])
            self._parts, self._missing = [], 0
        elif self._rest:
            data, self._rest = self._rest + data, b""
        await self._read(data)

    async def _read(self, data: bytes) -> None:
        at, resets = 0, self._resets
        while (end := data.find(_END, at)) >= 0:
            line = data[at:end]
            start = end + 2
            if line.startswith((b"MSG ", b"HMSG ")):
                stop = start + _size(line) + 2
                if stop > len(data):
                    self._parts, self._missing = [data[at:]], stop - len(data)
                    return
                if not self._took(line, data, start, stop - 2):
                    await self._give(line, data, start, stop - 2)
                at = stop
            else:
                await self._control(line)
                at = start
            if self._resets != resets:
                return
        self._rest = data[at:]

    def _took(self, line: bytes, data: bytes, start: int, stop: int) -> bool:
        """Gives it to who takes it raw; False where nobody does."""
        verb, subject, sid, *more = line.split(b" ")
        take = self._takes.get(int(sid))
        if take is None:
            return False
        body, block = start, b""
        if verb == b"HMSG":
            body += int(more[-2])
            block = data[start:body]
        reply = more[0] if len(more) > len(verb) - 2 else b""
        try:
            take(Incoming(_text(subject), reply, block, data[body:stop]))
        except Exception as exc:  # noqa: BLE001  the loop that reads for everybody must go on
            _keep(asyncio.ensure_future(self.nc._error_cb(exc)))  # noqa: SLF001  see above
        return True

    async def _give(self, line: bytes, data: bytes, start: int, stop: int) -> None:
        """The client's own way: the message waits for the subscription's task."""
        verb, subject, sid, *more = line.split(b" ")
        body, headers = start, None
        if verb == b"HMSG":
            body += int(more[-2])
            headers = headers_of(data[start:body])
        reply = more[0] if len(more) > len(verb) - 2 else b""
        names = (_text(subject).encode(), _text(reply).encode())
        await self.nc._process_msg(int(sid), *names, data[body:stop], headers)  # noqa: SLF001  see above

    async def _control(self, line: bytes) -> None:
        client = self.nc
        if line == b"PING":
            await client._process_ping()  # noqa: SLF001  see above
        elif line == b"PONG":
            await client._process_pong()  # noqa: SLF001  see above
        elif line.startswith(b"-ERR"):
            words = line[4:].strip().decode(errors="replace").lower()
            await client._process_err(words)  # noqa: SLF001  see above
        elif line.startswith(b"INFO "):
            await client._process_info(json.loads(line[5:]))  # noqa: SLF001  see above
        elif line != b"+OK":
            raise ProtocolError("nats: unknown protocol")


def _size(line: bytes) -> int:
    """Of headers and body; raises ProtocolError."""
    try:
        return int(line[line.rindex(b" ") :])
    except ValueError:
        raise ProtocolError("nats: malformed MSG") from None
