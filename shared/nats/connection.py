"""The one connection of a process to NATS: how it is opened, and requests that always end.

A request ends with an answer or a `NatsError` within its deadline, also while NATS is away: nothing
is kept back to be sent later by a worker that has been superseded meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
import nats.errors
import nats.js.errors

from shared.errors import (
    ApiError,
    Conflict,
    Full,
    InFlight,
    NatsError,
    NoStream,
    NotNow,
    Torn,
    Unsendable,
)
from shared.nats.wire import Incoming, Wire, block_of, check_subject
from shared.retry import NATS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from nats.aio.client import Client
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext

    from shared.process.settings import NatsSettings

    T = TypeVar("T")

REQUEST_SECONDS: Final = 5.0
ACK_SECONDS: Final = 2.0  # then a publish, or an ack, is sent once more
PUBLISH_SECONDS: Final = 30.0  # then it has failed: NATS has been away for too long
# Of a flush: a dead connection is found, and its pongs forgotten, well before this.
_FLUSH_SECONDS: Final = 60
_LOOK_SECONDS: Final = 0.1  # whether the connection was lost while a flush waits
# The server's codes. A lost compare-and-set; in a cluster another one, while a write to the same
# subject is being agreed on, perhaps our own whose ack was lost.
_WRONG_LAST_SEQUENCE: Final = 10071
_WRITE_IN_FLIGHT: Final = 10164
_IN_FLIGHT_SECONDS: Final = 2.0  # longer than an agreement takes; then it counts as lost
_ID_IN_FLIGHT: Final = 10158  # the same `Nats-Msg-Id` is being agreed on
# No room: in the account, on any server, on this one; in a stream (which has other reasons, too).
_NO_ROOM: Final = frozenset({10002, 10023, 10047})
_NOT_STORED: Final = 10077
_FOR_NOW: Final = frozenset({429, 503})  # like HTTP: too many requests, nobody leads


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
        # What is published while offline fails at once; by default it waits for the reconnect.
        "pending_size": 0,
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
    """None leaves it to the scheme of the URL; raises ssl.SSLError when a file holds no PEM."""
    if settings.ca is None and settings.cert is None:
        return None
    context = ssl.create_default_context(cafile=settings.ca)
    load_certificate(context, settings)
    return context


def load_certificate(context: ssl.SSLContext, settings: NatsSettings) -> None:
    """Reads our certificate, and our authority's, again: they are renewed while a process lives,
    and a connection that is opened later has to show the new one.

    Raises:
        OSError: ssl.SSLError among them: not to be read; the context is as it was.
    """
    if settings.ca is not None:
        context.load_verify_locations(cafile=settings.ca)
    if settings.cert is not None:
        context.load_cert_chain(settings.cert, settings.key)


async def settle(client: Client, *, seconds: float = REQUEST_SECONDS) -> None:
    """Waits until the server knows every subscription made so far; may be cancelled.

    Twice on purpose: the PING of nats-py's flush overtakes a SUB that is still in its queue.

    Raises:
        NatsError: the server did not answer in time.
    """
    until = time.monotonic() + seconds
    for _ in range(2):
        while not await _answered(client, until):
            if time.monotonic() > until:
                raise NatsError("the server does not answer")


async def _answered(client: Client, until: float) -> bool:
    """Whether the server answered a PING; False when the connection was lost meanwhile, too.

    The flush itself is never cancelled, and is given more time than a dead connection lives: it
    would leave a cancelled future among nats-py's pongs, the pong that comes for it would end the
    read loop, and the client would be deaf while it believes to be connected.
    """
    epoch = client.stats["reconnects"]
    flush = asyncio.ensure_future(client.flush(_FLUSH_SECONDS))
    flush.add_done_callback(_forget)
    while not flush.done():
        if time.monotonic() > until or client.stats["reconnects"] != epoch:
            return False
        await asyncio.wait({flush}, timeout=_LOOK_SECONDS)
    error = flush.exception()
    # When a connection is lost nats-py ends flushes that nobody answered.
    if error is None and client.is_connected and client.stats["reconnects"] == epoch:
        return True
    if client.is_closed:
        raise NatsError("the connection is closed") from error
    await asyncio.sleep(_LOOK_SECONDS)
    return False


def _forget(task: asyncio.Future[None]) -> None:
    """Whoever waited may have left; asyncio would complain of an error that nobody looked at."""
    if not task.cancelled():
        task.exception()


class _Refusal(msgspec.Struct, frozen=True):
    """As JetStream says it; `code` is like an HTTP status, `err_code` says more."""

    code: int = 0
    err_code: int = 0
    description: str = "refused"

    def as_error(self) -> NatsError:
        if self.err_code == _WRONG_LAST_SEQUENCE:
            return Conflict(self.description)
        if self.err_code == _WRITE_IN_FLIGHT:
            return InFlight(self.description)
        return self._kind()(self.code, self.err_code, self.description)

    def _kind(self) -> type[ApiError]:
        full = self.err_code == _NOT_STORED and "exceeded" in self.description
        if full or self.err_code in _NO_ROOM:
            return Full
        if self.err_code == _ID_IN_FLIGHT or self.code in _FOR_NOW:
            return NotNow
        return ApiError


class Answer(msgspec.Struct, frozen=True):
    """An answer of JetStream; a subclass names what is read of it besides."""

    error: _Refusal | None = None

    def check(self) -> None:
        """Raises Conflict, ApiError."""
        if self.error is not None:
            raise self.error.as_error()


_decode_answer = msgspec.json.Decoder(Answer).decode


async def translated(work: Awaitable[T], what: str) -> T:
    """What nats-py raises, in words of ours.

    Raises:
        Conflict, ApiError, NoStream, Unsendable, NatsError.
    """
    task = asyncio.current_task()
    cancels = task.cancelling() if task is not None else 0
    try:
        found = await work
    except (nats.errors.NoRespondersError, nats.js.errors.NoStreamResponseError) as exc:
        raise NoStream(f"{what}: nobody answers; is it provisioned?") from exc
    except nats.js.errors.APIError as exc:
        if exc.code is None:  # nats-py's word for it that nobody answers
            raise NoStream(f"{what}: JetStream does not answer; is it enabled?") from exc
        refusal = _Refusal(exc.code, exc.err_code or 0, exc.description or "refused")
        raise refusal.as_error() from exc
    except (nats.errors.MaxPayloadError, nats.errors.BadHeaderError) as exc:
        raise Unsendable(f"{what}: {exc}") from exc
    except (nats.errors.TimeoutError, TimeoutError) as exc:
        raise NatsError(f"{what}: no answer in time") from exc
    except nats.errors.OutboundBufferLimitError as exc:
        raise NatsError(f"{what}: not connected to NATS") from exc
    except (nats.errors.Error, OSError) as exc:
        raise NatsError(f"{what}: {exc}") from exc
    # nats-py waits by asyncio.wait_for, which before Python 3.12 forgets a cancel that comes
    # together with the answer: who cancelled would wait for this task for ever.
    if task is not None and task.cancelling() > cancels:
        raise asyncio.CancelledError
    return found


class Connection:
    """Start it after connecting; close it before nats-py's client goes.

    All answers come to one inbox of its own, so that each costs one look-up in a dictionary.
    """

    def __init__(
        self,
        client: Client,
        *,
        request_seconds: float = REQUEST_SECONDS,
        ack_seconds: float = ACK_SECONDS,
        publish_seconds: float = PUBLISH_SECONDS,
    ) -> None:
        self.client = client
        self._wire = Wire(client)
        self.request_seconds = request_seconds
        self.ack_seconds, self.publish_seconds = ack_seconds, publish_seconds
        self.jetstream: JetStreamContext = client.jetstream(timeout=request_seconds)
        self._tokens = itertools.count(1)
        self._handlers: dict[str, Callable[[Incoming], None]] = {}
        self._prefix = ""
        self._inbox: Subscription | None = None
        self._reconnected: list[Callable[[], None]] = []
        self.unacked = 0  # publishes of all windows that wait for their ack

    async def start(self) -> None:
        self._prefix = self.client.new_inbox() + "."
        self._inbox = await self.subscribe(self._prefix + "*", self._on_answer)
        with contextlib.suppress(NatsError):  # then it is known when the server answers again
            await settle(self.client)

    async def close(self) -> None:
        if self._inbox is not None:
            await self.unsubscribe(self._inbox)

    # ------------------------------------------------------------ its life

    @property
    def up(self) -> bool:
        return self.client.is_connected

    @property
    def epoch(self) -> int:
        """Counts up with each reconnect, before anything else can be sent."""
        return self.client.stats["reconnects"]

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
        """To be given to nats-py as `disconnected_cb`.

        What was not written would go first of all after the reconnect, overtaking what was lost on
        its way, perhaps of a worker that was superseded meanwhile. `pending_size=0` refuses what
        comes while offline, but not what was buffered in the same turn of the loop.
        """
        self._wire.forget_unwritten()

    # ------------------------------------------------------------ hearing

    async def subscribe(
        self, subject: str, take: Callable[[Incoming], None], *, queue: str = ""
    ) -> Subscription:
        """`take` is called with each message as it is read, in order, and must not last."""
        return await self._wire.subscribe(subject, take, queue=queue)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """A closed connection has none."""
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
        self._wire.forget(subscription)

    def _on_answer(self, msg: Incoming) -> None:
        handler = self._handlers.get(msg.subject[len(self._prefix) :])
        if handler is not None:
            handler(msg)

    def expect(self, handler: Callable[[Incoming], None]) -> tuple[str, str]:
        """Registers a receiver of answers; returns its token and the reply subject."""
        token = str(next(self._tokens))
        self._handlers[token] = handler
        return token, self._prefix + token

    def reply_to(self, token: str) -> str:
        return self._prefix + token

    def forget(self, token: str) -> None:
        self._handlers.pop(token, None)

    # ------------------------------------------------------------ sending

    def write(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        block: bytes = b"",
        joined: bool = False,
    ) -> None:
        """A core publish at once; `block`: its headers, as shared.nats.wire.block_of makes them.

        `joined`: it may go together with what comes within the next millisecond.

        Raises:
            NatsError: offline; nothing is kept for later.
            Unsendable: NATS would never take it.
        """
        if not self.client.is_connected:
            raise NatsError(f"{subject}: not connected to NATS")
        self._wire.write(subject, reply, block, payload, joined=joined)

    async def send(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """A core publish: no ack; raises as `write`."""
        check_subject(subject)
        self.write(subject, payload, reply=reply, block=block_of(headers) if headers else b"")

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> Incoming:
        """Raises NatsError when no answer comes in time, NoStream when nobody listens."""
        check_subject(subject)
        block = block_of(headers) if headers else b""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Incoming | None] = loop.create_future()

        def take(msg: Incoming | None) -> None:
            if not answered.done():
                answered.set_result(msg)

        token, reply = self.expect(take)
        timeout = loop.call_later(self.request_seconds if seconds is None else seconds, take, None)
        try:
            self.write(subject, payload, reply=reply, block=block)
            msg = await answered
        finally:
            timeout.cancel()
            self.forget(token)
        if msg is None:
            raise NatsError(f"{subject}: no answer in time")
        if msg.is_unanswered:
            raise NoStream(f"{subject}: nobody answers; is it provisioned?")
        return msg

    async def api(
        self, subject: str, body: object = None, *, seconds: float | None = None
    ) -> dict[str, Any]:
        """A request to the JetStream API that nats-py has no method for, `subject` without its
        `$JS.API.`; raises ApiError, NatsError."""
        payload = b"" if body is None else msgspec.json.encode(body)
        msg = await self.request(f"$JS.API.{subject}", payload, seconds=seconds)
        _decode_answer(msg.data).check()
        answer: dict[str, Any] = msgspec.json.decode(msg.data)
        return answer

    async def persist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does `work` again until it is done, for `publish_seconds` at most.

        Raises:
            Conflict: lost for good, or another write was in flight for too long.
            ApiError, Unsendable: at once, for a repetition mends none of these; but NotNow is one
                of those that were not done in time.
            NatsError: it was not done in time.
        """
        began = time.monotonic()
        pauses = NATS.pauses()
        while True:
            try:
                return await work()
            except NatsError as exc:
                pause = next(pauses)
                if time.monotonic() + pause - began > self._patience(exc):
                    raise
            await asyncio.sleep(pause)

    def _patience(self, error: NatsError) -> float:
        """Seconds in which a repetition may mend it."""
        match error:
            case InFlight():
                return min(_IN_FLIGHT_SECONDS, self.publish_seconds)
            case NotNow():
                return self.publish_seconds
            case Conflict() | ApiError() | Unsendable() | Torn():
                return 0
        return self.publish_seconds
