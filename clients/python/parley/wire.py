"""One connection to NATS that is dialled again for ever, and requests that always end.

nats-py reconnects by itself, but closes for good when a login is refused once, as it is while a
restarted server waits for the service that judges tokens; and a token may have to be made anew.
So each connection lives once, and a lost one is followed by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import random
import re
import secrets
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import nats.errors
from nats.aio.client import Client

from parley.contract import (
    CHAT_REPLAY,
    H_NEXT,
    H_SEQUENCE,
    UNREADABLE,
    Replayed,
    ReplayRequest,
    of_conversation,
)
from parley.errors import (
    DeadlineExceeded,
    Internal,
    ParleyError,
    Unauthorized,
    Unreachable,
    from_code,
)

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
Take: TypeAlias = Callable[["Msg"], None]
Ended: TypeAlias = "asyncio.Future[None]"

DIAL_SECONDS: Final = 5.0  # of one try
TRY_SECONDS: Final = 5.0  # of a replay, without anything more of it
# Of one request; then it is sent again, for the replica that had it may be frozen.
FIRST_TRY_SECONDS, LONGEST_TRY_SECONDS = 2.0, 8.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between two dials, or tries
# A login that is refused for so long is no server that waits for who judges it.
REFUSED_SECONDS: Final = 10.0
INBOX_CHARACTERS: Final = 22  # of a token's signature: its holder may read these inboxes
_DENIED: Final = re.compile(
    r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE
)


class NotNow(Exception):
    """It was not done this time; the same again may be."""


class _NotDialled(Exception):
    """There is no connection; its text says why."""


class _NotLetIn(_NotDialled):
    """The server refuses the login, or there is none that could be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where to connect, and who we are. What is secret is not printed."""

    servers: Sequence[str]
    token: Token | None = field(default=None, repr=False)
    creds: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    nkey: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    inbox_prefix: str | None = None
    name: str = "parley-client"

    async def options(self) -> dict[str, Any]:
        """For nats-py. A token that is made anew each time is made here."""
        found: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "user_credentials": self.creds,
            "nkeys_seed_str": self.nkey,
            "tls": self.tls,
        }
        prefix = self.inbox_prefix or "_INBOX"
        if self.token is not None:
            shown = self.token() if callable(self.token) else self.token
            token = await shown if inspect.isawaitable(shown) else shown
            found["token"] = token
            if self.inbox_prefix is None and token.count(".") == 2:
                prefix = "_INBOX_" + token.rpartition(".")[2][:INBOX_CHARACTERS]
        return {key: value for key, value in found.items() if value is not None} | {
            "servers": list(self.servers),
            "name": self.name,
            "inbox_prefix": prefix,
            "allow_reconnect": False,
            # Of one server: the pauses between dials are ours.
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": DIAL_SECONDS,
            # A dead connection is found within 20 s.
            "ping_interval": 10,
            "max_outstanding_pings": 2,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    data: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """What a replay gave at once, oldest first; `following` is where the next one goes on, 0 when
    there is no more at this moment."""

    events: list[Answer]
    sequence: int  # of the newest one, 0 where there is none
    following: int


@dataclass(slots=True)
class _Waiting:
    """Somebody waits for answers."""

    subject: str  # that was asked
    take: Callable[[Msg, Ended], None]
    ended: Ended

    def fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


@dataclass(slots=True, eq=False)
class Heard:
    """A subject that is listened to, over every connection."""

    subject: str
    take: Take
    subscription: Subscription | None = None
    denied: bool = False


class Wire:
    """Open it before anything else; whatever raises NotNow may be tried again."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._client: Client | None = None
        self._prefix = ""
        self._tokens = itertools.count(1)
        self._waiting: dict[str, _Waiting] = {}
        self._heard: set[Heard] = set()
        self._up = False
        self._told = asyncio.Event()  # there is a connection, or it is known why there is none
        self._dialling: asyncio.Task[None] | None = None
        self._closed = False
        self._refused: str | None = None  # why, while the server lets us not in
        self.listeners: set[Callable[[], None]] = set()  # called after each new connection
        self.reconnects = 0

    # ------------------------------------------------------------ its life

    async def open(self, seconds: float) -> None:
        """Raises Unreachable, Unauthorized."""
        until = time.monotonic() + seconds
        pauses = _pauses()
        while True:
            try:
                await self._dial()
            except _NotLetIn as exc:
                raise Unauthorized(str(exc)) from exc
            except _NotDialled as exc:
                pause = next(pauses)
                if time.monotonic() + pause > until:
                    where = ", ".join(map(_address, self._login.servers))
                    raise Unreachable(f"NATS at {where} cannot be reached ({exc})") from exc
            else:
                return
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """What was said last is still sent."""
        self._closed = True
        self._down("the client is closed")
        self._tell()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait({self._dialling}, timeout=DIAL_SECONDS)
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
                await asyncio.wait_for(client.close(), DIAL_SECONDS)

    @property
    def up(self) -> bool:
        return self._up

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def server(self) -> str:
        """The version of the server that we are connected to; "" while there is none."""
        if self._client is None:
            return ""
        version = self._client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    def away(self) -> ParleyError | None:
        """Why there is no connection; None where there is one."""
        if self.up:
            return None
        if self._refused is not None:
            return Unauthorized(self._refused)
        return Unreachable("the client is closed" if self._closed else "NATS is away")

    async def until_up(self, seconds: float) -> None:
        """Raises Unreachable, Unauthorized."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        error = self.away()
        if error is not None:
            raise error

    async def _dial(self) -> None:
        """Raises _NotDialled, _NotLetIn."""
        reason = ""
        client = Client()

        async def on_error(error: Exception) -> None:
            nonlocal reason
            reason = _words(error)
            self._on_error(error)

        async def on_closed() -> None:
            if self._client is client:
                self._client = None
                self._down("the connection was lost")
                self._redial()

        try:
            async with asyncio.timeout(DIAL_SECONDS):
                options = await self._login.options()
                await client.connect(**options, error_cb=on_error, closed_cb=on_closed)
                self._prefix = f"{options['inbox_prefix']}.{secrets.token_hex(12)}."
                await _subscribe(client, self._prefix + "*", self._on_answer)
                self._client = client
                for heard in tuple(self._heard):
                    await self._listen(client, heard)
        except (OSError, TimeoutError, nats.errors.Error) as exc:
            await self._hang_up(client)
            if _is_refusal(exc):
                raise _NotLetIn(f"NATS refuses this login ({_words(exc)})") from exc
            raise _NotDialled(reason or _words(exc)) from exc
        except Exception as exc:  # of whoever makes a token, or reads a seed
            await self._hang_up(client)
            raise _NotLetIn(f"this login cannot be used ({_words(exc)})") from exc
        except BaseException:
            await self._hang_up(client)
            raise
        self._refused, self._up = None, True
        self._told.set()

    async def _hang_up(self, client: Client) -> None:
        self._client = None
        with contextlib.suppress(Exception):
            await client.close()

    def _redial(self) -> None:
        if not self._closed and (self._dialling is None or self._dialling.done()):
            self._dialling = asyncio.create_task(self._dial_for_ever())

    async def _dial_for_ever(self) -> None:
        refused_since: float | None = None
        for pause in _pauses():
            try:
                await self._dial()
            except _NotLetIn as exc:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > REFUSED_SECONDS:
                    self._refused = str(exc)
                    self._tell()
            except _NotDialled:
                refused_since = None
            else:
                break
            await asyncio.sleep(pause)
        self.reconnects += 1
        self._tell()

    def _tell(self) -> None:
        """Something is known of the connection that was not known before."""
        if self._up or self._refused or self._closed:
            self._told.set()
        for call in tuple(self.listeners):
            call()

    def _down(self, why: str) -> None:
        self._up = False
        self._told.clear()
        for waiting in self._waiting.values():
            waiting.fail(NotNow(why))

    def _on_error(self, error: Exception) -> None:
        """A missing permission ends what waits for it; the rest is seen where it matters."""
        found = _DENIED.search(str(error))
        if found is None:
            return
        what, subject = found[1].lower(), found[2].lower()
        if what == "publish":
            for waiting in self._waiting.values():
                if waiting.subject.lower() == subject:
                    waiting.fail(Unauthorized(f"this login may not publish to {waiting.subject}"))
            return
        for heard in self._heard:
            if heard.subject.lower() == subject:
                heard.denied = True
        for call in tuple(self.listeners):
            call()

    # ------------------------------------------------------------ listening

    async def listen(self, subject: str, take: Take) -> Heard:
        """Hears a subject from now on, over every connection."""
        heard = Heard(subject, take)
        self._heard.add(heard)
        if self._client is not None:
            with contextlib.suppress(OSError, nats.errors.Error):  # the next connection has it
                await self._listen(self._client, heard)
        return heard

    async def _listen(self, client: Client, heard: Heard) -> None:
        async def take(msg: Msg) -> None:
            heard.take(msg)

        heard.denied = False
        heard.subscription = await _subscribe(client, heard.subject, take)

    async def forget(self, heard: Heard) -> None:
        self._heard.discard(heard)
        if heard.subscription is not None:
            with contextlib.suppress(OSError, nats.errors.Error):
                await heard.subscription.unsubscribe()

    # ------------------------------------------------------------ asking

    async def _on_answer(self, msg: Msg) -> None:
        waiting = self._waiting.get(msg.subject[len(self._prefix) :])
        if waiting is None:
            return
        if _headers(msg).get("Status") == "503":
            waiting.fail(NotNow(f"nobody answers {waiting.subject}"))
        else:
            waiting.take(msg, waiting.ended)

    @contextlib.asynccontextmanager
    async def _asked(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        take: Callable[[Msg, Ended], None],
    ) -> AsyncGenerator[Ended]:
        """The future that ends with the last answer."""
        client = self._client
        if client is None or not client.is_connected:
            raise NotNow("NATS is away")
        token = str(next(self._tokens))
        ended: Ended = asyncio.get_running_loop().create_future()
        self._waiting[token] = _Waiting(subject, take, ended)
        try:
            try:
                await client.publish(subject, body, self._prefix + token, dict(headers) or None)
            except nats.errors.MaxPayloadError as exc:
                raise from_code(
                    "too_large", f"more than NATS takes: {exc}", retryable=False
                ) from exc
            except (OSError, nats.errors.Error) as exc:
                raise NotNow(_words(exc)) from exc
            yield ended
        finally:
            del self._waiting[token]
            if ended.done() and not ended.cancelled():
                ended.exception()  # looked at, whoever waited may have left

    async def ask_once(
        self, subject: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> Answer:
        """Raises NotNow, Unauthorized, TooLarge."""
        found: list[Answer] = []

        def take(msg: Msg, ended: Ended) -> None:
            found.append(Answer(msg.data, _headers(msg)))
            if not ended.done():
                ended.set_result(None)

        async with self._asked(subject, body, headers, take) as ended:
            try:
                async with asyncio.timeout(seconds):
                    await ended
            except TimeoutError:
                raise NotNow(f"no answer of {subject} within {seconds:g} s") from None
        return found[0]

    async def ask(
        self,
        subject: str,
        body: object,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float,
        patience: float | None = None,
        again: Callable[[ParleyError], bool] = lambda _: False,
    ) -> bytes:
        """Asks until there is an answer, over reconnects; what is asked must be safe to repeat.

        `patience`: seconds for which one that was heard may take, where it takes longer than most.
        `again` says of a refusal whether it is asked again.

        Raises:
            Unreachable: NATS is away, or nobody answers, for all of that time.
            Unauthorized: this login may not.
            ParleyError: refused.
        """
        until = time.monotonic() + seconds
        encoded = msgspec.json.encode(body)
        pauses, tries = _pauses(), _doubling(FIRST_TRY_SECONDS, LONGEST_TRY_SECONDS)
        while True:
            left = max(until - time.monotonic(), 0.001)
            error: ParleyError
            try:
                await self.until_up(left)
                once = patience or min(next(tries), left)
                answer = await self.ask_once(subject, encoded, headers or {}, once)
                refusal = refused(answer.data)
                if refusal is None:
                    return answer.data
                if not again(refusal):
                    raise refusal
                error = refusal
            except NotNow as exc:
                error = Unreachable(str(exc))
            pause = next(pauses)
            if time.monotonic() + pause > until:
                raise error
            await asyncio.sleep(pause)

    async def replay(
        self, conversation_id: str, what: Replayed, start: int, turn_id: str | None
    ) -> Page:
        """What is kept of a conversation from a stream sequence on, as much as is given at once.

        Raises NotNow, Unauthorized, ParleyError.
        """
        subject = of_conversation(CHAT_REPLAY, conversation_id)
        body = msgspec.json.encode(ReplayRequest(what, start=start, turn_id=turn_id))
        events: list[Answer] = []
        following = 0

        def take(msg: Msg, ended: Ended) -> None:
            nonlocal following
            headers = _headers(msg)
            if H_SEQUENCE in headers:
                events.append(Answer(msg.data, headers))
            elif ended.done():
                return
            elif H_NEXT in headers:
                following = int(headers[H_NEXT])
                ended.set_result(None)
            else:
                ended.set_exception(refused(msg.data) or Internal("an answer that is none"))

        async with self._asked(subject, body, {}, take) as ended:
            while not ended.done():
                before = len(events)
                await asyncio.wait({ended}, timeout=TRY_SECONDS)
                if not ended.done() and len(events) == before:  # a slow line is not a dead one
                    raise NotNow(f"no answer of {subject} within {TRY_SECONDS:g} s")
            await ended
        newest = int(events[-1].headers[H_SEQUENCE]) if events else 0
        return Page(events, newest, following)


class _Error(msgspec.Struct, frozen=True):
    """As lenient as can be: a newer service may know more codes."""

    code: str | int = ""
    message: str = ""
    description: str = ""  # the stream's word for it
    retryable: bool = False


class _Refusal(msgspec.Struct, frozen=True):
    error: _Error | None = None


_decode_refusal = msgspec.json.Decoder(_Refusal).decode


def refused(data: bytes) -> ParleyError | None:
    """What an answer says went wrong, None where it is one."""
    try:
        error = _decode_refusal(data).error
    except UNREADABLE:
        return Internal("an answer that cannot be read")
    if error is None:
        return None
    if isinstance(error.code, int):  # of the stream itself, which is full, or has no leader
        return from_code("storage_unavailable", error.description, retryable=True)
    return from_code(error.code, error.message, retryable=error.retryable)


async def _subscribe(
    client: Client, subject: str, take: Callable[[Msg], Awaitable[None]]
) -> Subscription:
    """nats-py does not say all of its types."""
    untyped: Any = client
    found: Subscription = await untyped.subscribe(subject, cb=take)
    return found


def _headers(msg: Msg) -> Mapping[str, str]:
    return msg.headers or {}


def _is_refusal(error: BaseException) -> bool:
    """nats-py has a class for it only where the connection was made before."""
    return isinstance(error, nats.errors.AuthorizationError) or (
        "authorization violation" in str(error).lower()
    )


def _address(url: str) -> str:
    """Without a login that may stand in it."""
    scheme, _, rest = url.rpartition("://")
    return f"{scheme or 'nats'}://{rest.rpartition('@')[2]}"


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _pauses() -> Iterator[float]:
    """Seconds, without end, scattered: many clients lose one server at the same time."""
    for pause in _doubling(FIRST_PAUSE, LONGEST_PAUSE):
        yield pause * random.uniform(0.5, 1)  # noqa: S311  no secret


def _doubling(first: float, longest: float) -> Iterator[float]:
    while True:
        yield first
        first = min(first * 2, longest)


def late(what: str, seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"{what}: nothing came for {seconds:g} s")
