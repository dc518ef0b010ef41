"""NATS as this project uses it: the only connection options, and what nats-py leaves open.

- `Bus.publish` and `Outbox`: publishes whose acks are checked, one by one or pipelined in order;
  a lost ack is asked for again with the same `Nats-Msg-Id`, never for ever.
- `Pull` and `Delivery`: a continuous pull of work whose messages are leases, kept by confirmed
  heartbeats.
- `Bus.read_back` and `Bus.leader_get`: the past of a subject; decisions are read from the leader.
- `Bucket`: documents changed by compare-and-set.

Everything goes through one inbox subscription, so that an answer costs one dictionary look-up.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import logging
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import nats.errors

from shared.contract import MSG_ID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from shared.settings import NatsSettings

log = logging.getLogger(__name__)

REQUEST_TIMEOUT: Final = 5.0
ACK_TIMEOUT: Final = 2.0  # then a publish is sent once more
PUBLISH_DEADLINE: Final = 30.0  # then it has failed: NATS has been away for too long
DRAIN_TIMEOUT: Final = 2.0
WINDOW: Final = 256  # publishes of one outbox un-acked at once
# Of one batch that is read back: it must arrive within a request's time, and the server throws out
# a client that is slower to take than it is to give.
BATCH_BYTES: Final = 4 * 1024 * 1024

# The server's error codes.
_WRONG_LAST_SEQUENCE: Final = 10071  # a lost compare-and-set
_NO_MESSAGE: Final = 10037  # another 404 is a stream that is not there


class BusError(Exception):
    """NATS did not do what was asked, within the deadline."""


class Conflict(BusError):
    """A compare-and-set met another revision than it expected."""


class NoStream(BusError):
    """There is no stream of that name, or nobody answers for it at this moment."""


class Unsendable(BusError):
    """NATS would never take this message."""


class ApiError(BusError):
    """The JetStream API refused a request."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({err_code})")
        self.code, self.err_code = code, err_code


def connect_options(settings: NatsSettings, name: str) -> dict[str, Any]:
    """Keyword arguments for nats-py, and for FastStream's broker, which hands them on."""
    return {
        "servers": list(settings.servers),
        "name": name,
        # Of its own, so that a user may be allowed to read its own answers and no other's.
        "inbox_prefix": f"_INBOX.{name}",
        # nats-py gives up for ever after 60 attempts by default.
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "connect_timeout": 5,
        # A dead connection is found within 20 s instead of 4 min.
        "ping_interval": 10,
        "max_outstanding_pings": 2,
    }


def login_options(settings: NatsSettings) -> dict[str, Any]:
    """Who we are, for nats-py; FastStream's broker has objects of its own for that."""
    options: dict[str, Any] = {"tls": tls_context(settings)}
    if settings.creds:
        options["user_credentials"] = settings.creds
    elif settings.nkey_seed:
        options["nkeys_seed_str"] = settings.nkey_seed
    elif settings.user:
        options |= {"user": settings.user, "password": settings.password}
    return {key: value for key, value in options.items() if value is not None}


def tls_context(settings: NatsSettings) -> ssl.SSLContext | None:
    """None leaves it to the scheme of the URL."""
    return ssl.create_default_context(cafile=settings.ca) if settings.ca else None


async def settle(client: Client) -> None:
    """Waits until the server knows every subscription made so far.

    Twice on purpose: the PING of nats-py's flush overtakes a SUB that is still in its queue.
    """
    await client.flush()
    await client.flush()


class Fence(Protocol):
    """Tells a worker whether the work is still its own."""

    @property
    def fresh(self) -> bool:
        """True while the lease was confirmed recently enough not to ask."""
        ...

    async def verify(self) -> None:
        """Asks; raises Replaced when another worker has the work."""
        ...


class PubAck(msgspec.Struct, frozen=True):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: dict[str, Any] | None = None


_decode_ack = msgspec.json.Decoder(PubAck).decode


def _read_ack(msg: Msg) -> PubAck:
    """Raises: Conflict, ApiError, BusError for anything but a stored message."""
    if msg.headers and msg.headers.get("Status") == "503":
        raise BusError("no stream took the message: is it provisioned?")
    ack = _decode_ack(msg.data)
    if ack.error is not None:
        code = int(ack.error.get("err_code", 0))
        text = str(ack.error.get("description", "refused"))
        if code == _WRONG_LAST_SEQUENCE:
            raise Conflict(text)
        raise ApiError(int(ack.error.get("code", 0)), code, text)
    return ack


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the stream keeps it."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]


class Bus:
    """One connection. Start it after connecting; close it before the connection goes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._tokens = itertools.count(1)
        self._handlers: dict[str, Callable[[Msg], None]] = {}
        self._prefix = ""
        self._inbox: Subscription | None = None
        self._reconnected: list[Callable[[], None]] = []

    @property
    def epoch(self) -> int:
        """Counts up with each reconnect, before anything else can be sent."""
        return int(self.client.stats["reconnects"])

    async def start(self) -> None:
        self._prefix = self.client.new_inbox() + "."
        self._inbox = await self.client.subscribe(self._prefix + "*", cb=self._on_answer)
        await settle(self.client)

    async def close(self) -> None:
        if self._inbox is not None and not self.client.is_closed:
            with contextlib.suppress(nats.errors.Error):
                await self._inbox.unsubscribe()

    async def _on_answer(self, msg: Msg) -> None:
        handler = self._handlers.get(msg.subject[len(self._prefix) :])
        if handler is not None:
            handler(msg)

    def expect(self, handler: Callable[[Msg], None]) -> tuple[str, str]:
        """Registers a receiver of answers; returns its token and the reply subject."""
        token = str(next(self._tokens))
        self._handlers[token] = handler
        return token, self.reply_to(token)

    def reply_to(self, token: str) -> str:
        return self._prefix + token

    def forget(self, token: str) -> None:
        self._handlers.pop(token, None)

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Calls `call` after each reconnect; the returned function ends that."""
        self._reconnected.append(call)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._reconnected.remove(call)

        return stop

    async def reconnected(self) -> None:
        """To be given to nats-py as `reconnected_cb`."""
        for call in tuple(self._reconnected):
            call()

    async def disconnected(self) -> None:
        """To be given to nats-py as `disconnected_cb`: what it has not yet written, it forgets.

        After a reconnect that would overtake what was lost on its way, and it may come from a
        worker that was replaced meanwhile.
        """
        self.client._pending.clear()  # noqa: SLF001
        self.client._pending_data_size = 0  # noqa: SLF001

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109  a deadline of ours, also when offline
    ) -> Msg:
        """Raises BusError when no answer comes in time."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def take(msg: Msg) -> None:
            if not answer.done():
                answer.set_result(msg)

        token, reply = self.expect(take)
        try:
            async with asyncio.timeout(timeout):
                await self._send(subject, payload, reply, headers)
                return await answer
        except TimeoutError:
            raise BusError(f"no answer from {subject} within {timeout:g} s") from None
        finally:
            self.forget(token)

    async def _send(
        self, subject: str, payload: bytes, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Raises BusError instead of letting nats-py queue a message for after a reconnect.

        What waits there would be sent by a worker that has been replaced in the meantime.
        """
        if not self.client.is_connected:
            raise BusError("not connected to NATS")
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
        except (nats.errors.MaxPayloadError, nats.errors.BadHeaderError) as exc:
            raise Unsendable(f"{subject}: {exc}") from exc
        except (nats.errors.Error, OSError) as exc:
            raise BusError(f"{subject}: {exc}") from exc

    async def tell(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        """A core publish: no ack. Raises BusError when offline."""
        await self._send(subject, payload, headers=headers)

    async def publish(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str] | None = None,
        *,
        deadline: float = PUBLISH_DEADLINE,
    ) -> PubAck:
        """Stores a message in the stream of its subject; repeated until acked, or BusError.

        Give a `Nats-Msg-Id`, or the expected last sequence, to make the repetition harmless.

        Raises:
            Conflict: it expected another last sequence.
            ApiError: the stream refused it.
            Unsendable: NATS would never take it.
        """
        until = time.monotonic() + deadline
        pause = 0.05
        while True:
            try:
                return _read_ack(
                    await self.request(subject, payload, headers=headers, timeout=ACK_TIMEOUT)
                )
            except (Conflict, ApiError, Unsendable):
                raise
            except BusError:
                if time.monotonic() + pause > until:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    def outbox(self, fence: Fence | None = None) -> Outbox:
        return Outbox(self, fence)

    async def api(
        self,
        subject: str,
        body: object = None,
        *,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109  handed on
    ) -> dict[str, Any]:
        """A request to the JetStream API, `subject` without its `$JS.API.`; raises ApiError."""
        payload = b"" if body is None else msgspec.json.encode(body)
        msg = await self.request(f"$JS.API.{subject}", payload, timeout=timeout)
        if msg.headers and msg.headers.get("Status") == "503":
            raise BusError("JetStream does not answer: is it enabled on the server?")
        answer: dict[str, Any] = msgspec.json.decode(msg.data)
        error = answer.get("error")
        if error:
            raise ApiError(
                int(error.get("code", 0)),
                int(error.get("err_code", 0)),
                str(error.get("description", "refused")),
            )
        return answer

    async def leader_get(
        self,
        stream: str,
        *,
        last: str | None = None,
        after: tuple[int, str] | None = None,
    ) -> StoredMessage | None:
        """The last message of subject `last`, or the first of a subject from a sequence on.

        From the leader: for decisions. A direct get may answer from a replica that lags.
        """
        body: dict[str, object] = (
            {"last_by_subj": last}
            if after is None
            else {"seq": max(after[0], 1), "next_by_subj": after[1]}
        )
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", body)
        except ApiError as exc:
            if exc.err_code == _NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        headers: Mapping[str, str] = {}
        if message.get("hdrs"):
            headers = _parse_headers(base64.b64decode(message["hdrs"]))
        return StoredMessage(
            message["subject"],
            int(message["seq"]),
            base64.b64decode(message.get("data", "")),
            headers,
        )

    async def read_back(
        self,
        stream: str,
        subject: str,
        start: int,
        *,
        batch: int = 256,
        since: str | None = None,
    ) -> AsyncIterator[StoredMessage]:
        """What the stream holds of `subject` from sequence `start` on, or from a time `since`
        (RFC 3339), oldest first.

        By direct get in batches: cheap, from any replica, perhaps a little behind the leader.
        """
        where: dict[str, object] = {"seq": max(start, 1)}
        if since is not None:
            where = {"start_time": since}
        while True:
            body = {"next_by_subj": subject, "batch": batch, "max_bytes": BATCH_BYTES, **where}
            got = await self._batch(stream, body)
            for message in got:
                yield message
            # A batch may end early, at a limit of bytes; only this header says what is left.
            if not got or got[-1].headers.get("Nats-Num-Pending", "0") == "0":
                return
            where = {"seq": got[-1].sequence + 1}

    async def _batch(self, stream: str, body: dict[str, object]) -> list[StoredMessage]:
        got: list[StoredMessage] = []
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(msg: Msg) -> None:
            headers = msg.headers or {}
            if "Nats-Sequence" in headers:
                got.append(
                    StoredMessage(
                        headers["Nats-Subject"], int(headers["Nats-Sequence"]), msg.data, headers
                    )
                )
            elif not ended.done():
                status = headers.get("Status", "")
                if status in {"204", "404"}:  # end of the batch, nothing (more) there
                    ended.set_result(None)
                else:
                    text = headers.get("Description", "no answer")
                    kind = NoStream if status == "503" else BusError
                    ended.set_exception(kind(f"{stream}: {status} {text}"))

        token, reply = self.expect(take)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._send(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(body), reply)
                await ended
        except TimeoutError:
            raise BusError(f"no answer from {stream} within {REQUEST_TIMEOUT:g} s") from None
        finally:
            self.forget(token)
        return got

    async def purge(self, stream: str, subject: str) -> None:
        """Removes everything that the stream holds of a subject."""
        await self.api(f"STREAM.PURGE.{stream}", {"filter": subject})

    def bucket(self, name: str) -> Bucket:
        return Bucket(self, name)


def _parse_headers(raw: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("utf-8", "replace")] = value.strip().decode("utf-8", "replace")
    return headers


# ---------------------------------------------------------------- pipelined publish


@dataclass(slots=True)
class _Unacked:
    subject: str
    payload: bytes
    headers: dict[str, str]
    sent: float


class Outbox:
    """Publishes in order without waiting for each ack; every ack is checked before the end.

    Each message needs a `Nats-Msg-Id`: what is not acked in time is sent again. A failure is
    raised by the next `send` or by `drained`. With a fence, a worker that may have been replaced
    looks before it sends anything.
    """

    def __init__(self, bus: Bus, fence: Fence | None) -> None:
        self._bus = bus
        self._fence = fence
        self._unacked: dict[str, _Unacked] = {}
        self._error: BusError | None = None
        self._changed = asyncio.Event()
        self._on_idle: Callable[[], None] | None = None
        self._epoch = bus.epoch

    @property
    def unacked(self) -> int:
        return len(self._unacked)

    def when_idle(self, call: Callable[[], None] | None) -> None:
        """Calls `call` whenever the last un-acked publish was acked."""
        self._on_idle = call

    async def send(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        """Raises BusError for an earlier or this publish, Replaced from the fence."""
        if self._error is not None:
            raise self._error
        if len(self._unacked) >= WINDOW:
            await self._wait(lambda: len(self._unacked) < WINDOW)
        if self._fence is not None and not self._fence.fresh:
            await self._fence.verify()
        if not self._bus.client.is_connected:
            await self._wait(lambda: self._bus.client.is_connected)
        await self._resend()
        now = time.monotonic()
        token, reply = self._bus.expect(self._on_ack)
        self._unacked[token] = _Unacked(subject, payload, headers, now)
        try:
            await self._bus.client.publish(subject, payload, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError as exc:
            self._drop(token)
            raise BusError(f"{subject}: {len(payload)} bytes are more than NATS takes") from exc
        except (nats.errors.Error, OSError):
            pass  # it stays un-acked and is sent again

    def _drop(self, token: str) -> None:
        self._bus.forget(token)
        self._unacked.pop(token, None)

    def _on_ack(self, msg: Msg) -> None:
        token = msg.subject.rpartition(".")[2]
        if token not in self._unacked:
            return
        try:
            _read_ack(msg)
        except ApiError as exc:
            self._error = exc
        except BusError:
            return  # no responder: the stream is away for a moment; sent again
        except msgspec.MsgspecError as exc:
            self._error = BusError(f"an ack that cannot be read: {exc}")
        self._drop(token)
        self._changed.set()
        if not self._unacked and self._on_idle is not None:
            self._on_idle()

    async def drained(self) -> None:
        """Waits until every publish is acked; raises BusError when one is not."""
        await self._wait(lambda: not self._unacked)

    def close(self) -> None:
        """Forgets what is un-acked: this worker has nothing more to say."""
        for token in tuple(self._unacked):
            self._drop(token)

    async def _wait(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + PUBLISH_DEADLINE
        while True:
            self._changed.clear()
            if self._error is not None:
                raise self._error
            if ready():
                return
            if time.monotonic() > until:
                self._error = BusError("NATS acked nothing for too long")
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    await self._changed.wait()
                    continue
            await self._resend()

    async def _resend(self) -> None:
        """Sends everything un-acked again, in order, after a reconnect or when the oldest is late.

        What the stream has already is dropped there by its `Nats-Msg-Id`.
        """
        now = time.monotonic()
        oldest = next(iter(self._unacked.values()), None)
        if oldest is None:
            self._epoch = self._bus.epoch
            return
        if not self._bus.client.is_connected:
            return
        if self._epoch == self._bus.epoch and now - oldest.sent < ACK_TIMEOUT:
            return
        if self._fence is not None:
            await self._fence.verify()
        self._epoch = self._bus.epoch
        for token, entry in tuple(self._unacked.items()):
            entry.sent = now
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._bus.client.publish(
                    entry.subject,
                    entry.payload,
                    reply=self._bus.reply_to(token),
                    headers=entry.headers,
                )


# ---------------------------------------------------------------- work and its leases


class Delivery:
    """One message of a work queue, held by a lease: un-acked, kept by heartbeats."""

    __slots__ = (
        "_bus",
        "_reply",
        "confirmed",
        "consumer_sequence",
        "data",
        "deliveries",
        "headers",
        "lapsed",
        "sequence",
        "settled",
        "subject",
        "timestamp",
    )

    def __init__(self, bus: Bus, msg: Msg) -> None:
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<ns>.<pending>,
        # with a domain and an account hash before the stream on newer servers behind a leaf.
        tokens = msg.reply.split(".")
        at = 2 if len(tokens) == 9 else 4
        self._bus = bus
        self._reply = msg.reply
        self.subject = msg.subject
        self.data = msg.data
        self.headers: Mapping[str, str] = msg.headers or {}
        self.deliveries = int(tokens[at + 2])
        self.sequence = int(tokens[at + 3])
        self.consumer_sequence = int(tokens[at + 4])  # counts what the consumer gives to anybody
        self.timestamp = int(tokens[at + 5])  # ns since the epoch, when the stream took it
        self.confirmed = time.monotonic()  # when the lease was last known to be ours
        self.lapsed = False  # once it has been longer than a lease, for good
        self.settled = False

    def adopt(self, other: Delivery) -> None:
        """The same message came again (a heartbeat was lost): go on under its lease."""
        self._reply, self.deliveries = other._reply, other.deliveries
        self._confirm(other.confirmed, 0)

    def _confirm(self, asked: float, lease: float) -> None:
        # The server says yes to anybody who ever held the message: a lease that ran out in
        # between may have been somebody else's, and only a look at the work itself can tell.
        if lease and asked - self.confirmed > lease:
            self.lapsed = True
        self.confirmed = max(self.confirmed, asked)

    async def heartbeat(self, lease: float) -> None:
        """Asks the server to keep the lease, and notes when it said yes."""
        if self.settled:
            return
        asked = time.monotonic()

        def confirm(_msg: Msg) -> None:
            self._bus.forget(token)
            self._confirm(asked, lease)

        token, reply = self._bus.expect(confirm)
        # Forgotten in any case: an answer after this long would confirm nothing.
        asyncio.get_running_loop().call_later(10, self._bus.forget, token)
        with contextlib.suppress(BusError):
            await self._bus._send(self._reply, b"+WPI", reply)  # noqa: SLF001

    async def ack(self) -> None:
        """A double ack: returns when the server has removed the message, else BusError."""
        self.settled = True
        until = time.monotonic() + PUBLISH_DEADLINE
        while True:
            try:
                await self._bus.request(self._reply, b"+ACK", timeout=ACK_TIMEOUT)
            except BusError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def ack_unconfirmed(self) -> None:
        """For work that is harmless to repeat: nobody waits for the server's answer."""
        self.settled = True
        await self._bus.tell(self._reply, b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """Hands the message back, to be delivered again after `delay` seconds."""
        self.settled = True
        body = b"-NAK" if not delay else b'-NAK {"delay": %d}' % int(delay * 1e9)
        with contextlib.suppress(BusError):  # then the lease runs out, to the same effect
            await self._bus.request(self._reply, body, timeout=ACK_TIMEOUT)


class Pull:
    """A continuous pull: keeps requests open at the server and hands each message to `take`.

    `room()` says how many more messages may be asked for now; call `more()` when it grows.
    With `group`, a pinned-client priority group: one replica at a time gets everything, in order.
    """

    # Shorter than a lease: what a frozen worker asked for must not swallow what it lost.
    EXPIRES: Final = 5.0
    HEARTBEAT: Final = 2.0
    SILENCE: Final = 6.0  # no message, status or heartbeat for so long: asked again
    BATCH: Final = 128

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        take: Callable[[Delivery], None],
        *,
        room: Callable[[], int],
        missing: Callable[[], Awaitable[None]],
        group: str | None = None,
        expires: float = EXPIRES,
    ) -> None:
        self._bus, self._take, self._room, self._missing = bus, take, room, missing
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._group = group
        self._expires = expires
        self._open = 0  # messages asked for and not yet come
        self._heard = time.monotonic()
        self._reply = ""
        self._sub: Subscription | None = None
        self._old: Subscription | None = None
        self._wake = asyncio.Event()
        self._gone = False
        self._stopped = False
        self.pin: str | None = None
        self.on_pinned: Callable[[str], None] | None = None

    async def run(self) -> None:
        """Until cancelled or stopped."""
        end = self._bus.on_reconnect(self._forget_asked)
        try:
            while not self._stopped:
                if self._gone:
                    self._gone = False
                    await self._missing()
                if self._sub is None:
                    await self._listen()
                await self._ask()
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.HEARTBEAT):
                        await self._wake.wait()
                if self._open and time.monotonic() - self._heard > self.SILENCE:
                    self._forget_asked()
        finally:
            end()

    async def _listen(self) -> None:
        """A new inbox: a message comes under its own subject, so only the subscription tells."""
        old, self._sub = self._old, None
        self._old = None
        if old is not None:
            with contextlib.suppress(nats.errors.Error):
                await old.unsubscribe()
        self._reply = self._bus.client.new_inbox()
        self._sub = await self._bus.client.subscribe(self._reply, cb=self._on_message)

    async def drain(self) -> None:
        """Ends what was asked for; what the server had sent already is still handed over.

        To be done before anything is handed back: it would come straight to us again.
        """
        self.stop()
        for sub in (self._sub, self._old):
            if sub is not None and self._bus.client.is_connected:
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    async with asyncio.timeout(DRAIN_TIMEOUT):
                        await sub.drain()  # type: ignore[no-untyped-call]  # of nats-py
        self._sub = self._old = None

    def stop(self) -> None:
        """Asks for nothing more; what was asked for may still come and must be handled."""
        self._stopped = True
        self._wake.set()

    def more(self) -> None:
        self._wake.set()

    def _forget_asked(self) -> None:
        """What was asked for is lost (reconnect, silence): asked again, from a new inbox.

        A message that still comes to the old one is not taken; its lease runs out.
        """
        self._old, self._sub = self._sub or self._old, None
        self._open = 0
        self._heard = time.monotonic()
        self._wake.set()

    async def _ask(self) -> None:
        wanted = min(self._room(), self.BATCH)
        if self._stopped or wanted <= 0 or self._open > wanted // 2:
            return
        count = wanted - self._open
        body: dict[str, object] = {
            "batch": count,
            "expires": int(self._expires * 1e9),
            "idle_heartbeat": int(min(self.HEARTBEAT, self._expires / 2.5) * 1e9),
        }
        if self._group:
            body["group"] = self._group
            if self.pin:
                body["id"] = self.pin
        try:
            await self._bus._send(  # noqa: SLF001
                self._subject, msgspec.json.encode(body), self._reply
            )
        except BusError:
            await asyncio.sleep(0.1)  # offline; the reconnect wakes us
            return
        if not self._open:
            self._heard = time.monotonic()
        self._open += count

    async def _on_message(self, msg: Msg) -> None:
        self._heard = time.monotonic()
        headers = msg.headers or {}
        status = headers.get("Status")
        if status is None or msg.reply.startswith("$JS.ACK."):
            self._open = max(0, self._open - 1)
            pin = headers.get("Nats-Pin-Id")
            if pin and pin != self.pin:
                self.pin = pin
                if self.on_pinned is not None:
                    self.on_pinned(pin)
            self._take(Delivery(self._bus, msg))
            if self._open * 2 <= self._room():
                self._wake.set()
            return
        if status == "100":  # idle heartbeat
            return
        self._open = max(0, self._open - int(headers.get("Nats-Pending-Messages", self._open)))
        text = headers.get("Description", "").lower()
        if status == "423":  # another client is pinned now
            self.pin = None
        elif status == "503" or "consumer deleted" in text or "no responders" in text:
            self._open, self._gone = 0, True
        self._wake.set()


async def keep_leases(held: Callable[[], list[Delivery]], lease: float) -> None:
    """Heartbeats for everything held, three within one lease, until cancelled."""
    while True:
        await asyncio.sleep(lease / 3)
        for delivery in held():
            await delivery.heartbeat(lease)


# ---------------------------------------------------------------- documents


@dataclass(frozen=True, slots=True)
class Document:
    """One value of a bucket with its revision, 0 where there is none."""

    data: bytes | None
    revision: int


@dataclass(slots=True)
class Bucket:
    """A key-value bucket, read from the leader and changed by compare-and-set only."""

    bus: Bus
    name: str
    _deleted: frozenset[str] = field(default=frozenset({"DEL", "PURGE"}))

    def _subject(self, key: str) -> str:
        return f"$KV.{self.name}.{key}"

    async def get(self, key: str) -> Document:
        message = await self.bus.leader_get(f"KV_{self.name}", last=self._subject(key))
        if message is None:
            return Document(None, 0)
        gone = message.headers.get("KV-Operation") in self._deleted
        return Document(None if gone else message.data, message.sequence)

    async def put(self, key: str, data: bytes, revision: int) -> int:
        """Returns the new revision; raises Conflict when the document has moved on.

        An ack may be lost after the write: who gets a Conflict reads again and looks for itself.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        return (await self.bus.publish(self._subject(key), data, headers)).seq

    async def entries(self, pattern: str) -> AsyncIterator[tuple[str, bytes]]:
        """Keys and values that match, such as `<c>.*`; perhaps a little behind the leader."""
        prefix = len(self._subject(""))
        stream = f"KV_{self.name}"
        async for message in self.bus.read_back(stream, self._subject(pattern), 1):
            if message.headers.get("KV-Operation") not in self._deleted:
                yield message.subject[prefix:], message.data

    async def erase(self, pattern: str) -> None:
        """Removes the keys that match, leaving no marker."""
        await self.bus.purge(f"KV_{self.name}", self._subject(pattern))


__all__ = [
    "MSG_ID",
    "ApiError",
    "Bucket",
    "Bus",
    "BusError",
    "Conflict",
    "Delivery",
    "Document",
    "Fence",
    "NoStream",
    "Outbox",
    "PubAck",
    "Pull",
    "StoredMessage",
    "connect_options",
    "keep_leases",
    "login_options",
    "settle",
    "tls_context",
]
