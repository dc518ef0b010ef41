"""The client: asks, follows, says, and looks after conversations."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypeVar

import msgspec

from parley.contract import (
    CHAT_ASK,
    CHAT_CANCEL,
    CHAT_DELTA,
    HISTORY_DELETE,
    HISTORY_GET,
    ID_RULE,
    MSG_ID,
    TTS_AUDIO,
    TTS_LINK,
    Asked,
    AskState,
    CancelRequest,
    ChatRequest,
    Deleted,
    DeleteRequest,
    History,
    HistoryMode,
    HistoryRequest,
    Link,
    LinkRequest,
    OnBusy,
    PromptMessage,
    Speech,
    SpeechRequest,
    is_id,
    of_conversation,
    tts_request,
)
from parley.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    ParleyError,
    StorageUnavailable,
    Unauthorized,
)
from parley.events import Later, text_event, voice_event
from parley.follow import Channel, Channels, Follower, Position
from parley.turn import Turn
from parley.wire import Login, Token, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from os import PathLike

    from parley.events import Event

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
DELETE_SECONDS: Final = 30.0  # the services take up to 20 s: what runs is stopped first

SpeechOptions: TypeAlias = Speech | Mapping[str, Any] | Literal[False]
T = TypeVar("T")
_Asking: TypeAlias = "asyncio.Task[tuple[Asked, Follower]]"
Messages: TypeAlias = Sequence[PromptMessage | Mapping[str, str]]


class Parley:
    """A connection to Parley. One is enough for a program; it outlives every lost connection.

    >>> async with Parley.connect(url) as client:
    ...     print(await client.ask("Hello!", speech=False).text())
    You said: Hello!
    """

    def __init__(self, login: Login, *, timeout: float, idle: float) -> None:
        """`connect` makes one."""
        self.timeout, self.idle = timeout, idle
        self.wire = Wire(login)
        self.channels = Channels(self.wire)
        self._asking: set[_Asking] = set()

    @classmethod
    def connect(
        cls,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        token: Token | None = None,
        creds: str | PathLike[str] | None = None,
        user: str | None = None,
        password: str | None = None,
        nkey: str | None = None,
        ca: str | PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
        inbox_prefix: str | None = None,
        name: str = "parley-client",
        timeout: float = 30.0,
        idle: float = 120.0,
    ) -> Self:
        """A client, to be opened by `async with`.

        `url`: one or several, as a sequence or with commas between.
        `token`: a conversation token, for TLS or a WebSocket (extra `websocket`); or what makes
        one, sync or async, for each connection.
        `creds`: a file of credentials; `nkey`: a seed; `user` and `password`.
        `ca`: a file with the authority's certificate; `tls`: a context, for who has more to say.
        `inbox_prefix`: where the login may read no other answers than its own.
        `timeout`: seconds within which a request has an answer, over reconnects.
        `idle`: seconds without any event after which a turn that is followed counts as lost.

        Raises:
            InvalidRequest: there is no URL.
            OSError: the authority's certificate cannot be read.
        and when it is opened:
            Unreachable: nobody answers there.
            Unauthorized: NATS refuses the login, or it cannot be used.

        >>> async with Parley.connect(url, timeout=10) as client:
        ...     print(client.timeout)
        10
        """
        servers = url.split(",") if isinstance(url, str) else list(url)
        if not all(each.strip() for each in servers) or not servers:
            raise InvalidRequest("an empty URL")
        if tls is None and ca is not None:
            tls = ssl.create_default_context(cafile=os.fspath(ca))
        login = Login(
            servers=[each.strip() for each in servers],
            token=token,
            creds=None if creds is None else os.fspath(creds),
            user=user,
            password=password,
            nkey=nkey,
            tls=tls,
            inbox_prefix=inbox_prefix,
            name=name,
        )
        return cls(login, timeout=timeout, idle=idle)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """As `async with` does. Raises Unreachable, Unauthorized."""
        await self.wire.open(min(self.timeout, 5.0))

    async def close(self) -> None:
        """Turns go on without us; what is being asked is not waited for."""
        for task in tuple(self._asking):
            task.cancel()
        if self._asking:
            await asyncio.wait(self._asking, timeout=1)
        await self.wire.close()

    # ------------------------------------------------------------ asking

    def ask(
        self,
        content: str | None = None,
        *,
        conversation: str | None = None,
        turn_id: str | None = None,
        messages: Messages | None = None,
        history: HistoryMode | Literal["append", "replace", "none"] = HistoryMode.APPEND,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        seed: int | None = None,
        reasoning_effort: str | None = None,
        on_busy: OnBusy | Literal["queue", "interrupt", "reject"] = OnBusy.QUEUE,
        heard_ms: int | None = None,
        speech: SpeechOptions | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Turn:
        """Asks, at once, and returns the turn: to be iterated, or awaited for its `text()`.

        `content` is what the user says, or `messages` is; both ids are made up where none is given.
        The same `turn_id` is never answered twice: asked again it is the same turn.
        `speech=False` is text only; else `voice`, `model`, `language`, `speed`, `format` …
        `on_busy`: while a turn of the conversation is under way this one waits (`queue`), stops it
        (`interrupt`; `heard_ms`: how much of its voice was heard), or fails with `Busy` (`reject`).

        Raises:
            InvalidRequest: an id, or an option of `speech`, is none.
        What the services refuse is raised where the turn is awaited.

        >>> async for event in parley.ask("Hello!", conversation="doc-ask"):
        ...     if isinstance(event, Text):
        ...         print(event.text, end="")
        You said: Hello!
        """
        request = _understood(
            {
                "conversation_id": None if conversation is None else _id(conversation),
                "turn_id": turn_id,
                "content": content,
                "messages": None if messages is None else [_plain(each) for each in messages],
                "history": history,
                "system": system,
                "model": model,
                "temperature": temperature,
                "top_p": top_p,
                "max_tokens": max_tokens,
                "stop": None if stop is None else list(stop),
                "seed": seed,
                "reasoning_effort": reasoning_effort,
                "on_busy": on_busy,
                "heard_ms": heard_ms,
                "speech": _plain(speech),
                "metadata": dict(metadata or {}),
            },
            ChatRequest,
        )
        fresh = turn_id is None
        request = msgspec.structs.replace(
            request,
            conversation_id=conversation or uuid.uuid4().hex,
            turn_id=turn_id or uuid.uuid4().hex,
        )
        asking = self._start(self._ask(request, fresh=fresh))
        return Turn(self, str(request.conversation_id), str(request.turn_id), asking=asking)

    def _start(self, work: Coroutine[Any, Any, tuple[Asked, Follower]]) -> _Asking:
        task = asyncio.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    async def _ask(self, request: ChatRequest, *, fresh: bool) -> tuple[Asked, Follower]:
        """Listens first: what comes between is not missed."""
        conversation_id, turn_id = str(request.conversation_id), str(request.turn_id)
        channel = await self.channels.of(conversation_id)
        starts = channel.known if fresh else (0, 0)
        follower = self.follower(channel, turn_id, starts=starts, fresh=fresh)
        answer = await self.wire.ask(
            of_conversation(CHAT_ASK, conversation_id),
            request,
            headers={MSG_ID: turn_id},
            seconds=self.timeout,
            again=_may_be_there,
        )
        asked = _read(answer, Asked)
        if asked.state is AskState.QUEUED:
            follower.postpone()
        return asked, follower

    def follower(
        self,
        channel: Channel,
        turn_id: str | None,
        *,
        starts: tuple[int, int] = (0, 0),
        fresh: bool = False,
        after: Position | None = None,
        only_voice: bool = False,
    ) -> Follower:
        return Follower(
            channel, turn_id, text=not only_voice, starts=starts, fresh=fresh, after=after
        )

    # ------------------------------------------------------------ following

    def follow(self, conversation: str, turn_id: str, *, after: Position | None = None) -> Turn:
        """A turn that somebody asked for, from its beginning, whether it runs or has ended; or from
        behind what is known of it (`Turn.position`).

        Raises:
            InvalidRequest: an id is none.
        What an iteration raises is told at `Turn.events`.

        >>> asked = await parley.ask("Hello!", speech=False)
        >>> turn = parley.follow(asked.conversation_id, asked.turn_id)
        >>> await turn.text()
        'You said: Hello!'
        """
        return Turn(self, _id(conversation), _id(turn_id), after=after)

    async def tail(
        self, conversation: str, *, past: bool = False, idle: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """Everything that is said in a conversation from now on, turn by turn in order; with `past`
        also what is kept of it. It does not end.

        Raises:
            DeadlineExceeded: nothing came for `idle` seconds; without it, it waits for ever.
            Unauthorized, Unreachable.

        >>> asked = await parley.ask("Hello!", speech=False)
        >>> async for event in parley.tail(asked.conversation_id, past=True):
        ...     if isinstance(event, Done):
        ...         print(event.text)
        ...         break
        You said: Hello!
        """
        channel = await self.channels.of(_id(conversation))
        reader = self.follower(channel, None)
        if not past:
            await reader.skip(self.timeout)
        async for event in reader.events(float("inf") if idle is None else idle):
            yield event

    async def listen(self) -> AsyncGenerator[Event]:
        """Every event of every conversation, as it comes, without end; for logins that are trusted.

        What comes while NATS is away, or faster than it is read (1,024 events), is not heard:
        `tail` is for what must be whole.

        Raises:
            Unauthorized: the login may not hear everything.

        >>> turn = parley.ask("Hello!")
        >>> async for event in parley.listen():
        ...     if isinstance(event, Stored) and event.turn_id == turn.turn_id:
        ...         print(event.finish.value)
        ...         break
        complete
        """
        heard: asyncio.Queue[Event] = asyncio.Queue(1024)

        def take(event: Event | Later | None) -> None:
            if event is not None and not isinstance(event, Later):
                with contextlib.suppress(asyncio.QueueFull):
                    heard.put_nowait(event)

        ears = [
            await self.wire.listen(CHAT_DELTA, lambda msg: take(text_event(msg.data))),
            await self.wire.listen(
                TTS_AUDIO, lambda msg: take(voice_event(msg.headers or {}, msg.data))
            ),
        ]
        try:
            while True:
                event: Event | None = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        event = await heard.get()
                if event is not None:
                    yield event
                elif any(each.denied for each in ears):
                    raise Unauthorized("this login may not hear every conversation: name one")
        finally:
            for each in ears:
                await self.wire.forget(each)

    # ------------------------------------------------------------ speaking

    def say(
        self,
        text: str,
        *,
        conversation: str | None = None,
        turn_id: str | None = None,
        speech: Speech | Mapping[str, Any] | None = None,
    ) -> Turn:
        """Has a text spoken, without a model and without a history; for logins that are trusted.

        Raises:
            InvalidRequest: an id, or an option of `speech`, is none.

        >>> turn = parley.say("Hello!", speech={"format": "wav"})
        >>> (await turn.save("said.wav")).name
        'said.wav'
        """
        request = _understood(
            {
                "conversation_id": None if conversation is None else _id(conversation),
                "turn_id": turn_id,
                "speech": _plain(speech) or {},
                "text": text,
            },
            SpeechRequest,
        )
        fresh = turn_id is None
        conversation_id, turn_id = conversation or uuid.uuid4().hex, turn_id or uuid.uuid4().hex
        request = msgspec.structs.replace(request, conversation_id=conversation_id, turn_id=turn_id)
        asking = self._start(self._say(request, fresh=fresh))
        return Turn(self, conversation_id, turn_id, asking=asking, text=text, only_voice=True)

    async def _say(self, request: SpeechRequest, *, fresh: bool) -> tuple[Asked, Follower]:
        conversation_id, turn_id = str(request.conversation_id), str(request.turn_id)
        channel = await self.channels.of(conversation_id)
        starts = channel.known if fresh else (0, 0)
        follower = self.follower(channel, turn_id, starts=starts, fresh=fresh, only_voice=True)
        await self.wire.ask(
            tts_request(conversation_id),
            request,
            headers={MSG_ID: turn_id},
            seconds=self.timeout,
            again=_may_be_there,
        )
        return Asked(conversation_id, turn_id, AskState.QUEUED), follower

    # ------------------------------------------------------------ conversations

    async def cancel(
        self, conversation: str, turn_id: str | None = None, *, heard_ms: int | None = None
    ) -> None:
        """Stops a turn, or whichever is under way; see `Turn.cancel`.

        Raises:
            Unauthorized, Unreachable.

        >>> await parley.cancel("doc-cancel")
        """
        request = CancelRequest(_id(conversation), turn_id, heard_ms)
        await self._request(CHAT_CANCEL, conversation, request, dict[str, Any])

    async def history(
        self, conversation: str, *, limit: int = 200
    ) -> AsyncGenerator[History, None]:
        """What was said, page by page: the newest first, and the messages of each oldest first.

        A page has `limit` messages at most (1,000 at the very most, and fewer where they are long).
        The first one tells the turn that is under way, too. An unknown conversation has one page,
        without messages.

        Raises:
            Unauthorized, Unreachable.

        >>> turn = parley.ask("Hello!", speech=False)
        >>> text = await turn.text()
        >>> async for page in parley.history(turn.conversation_id):
        ...     print([message.content for message in page.messages])
        ['Hello!', 'You said: Hello!']
        """
        before: str | None = None
        while True:
            request = HistoryRequest(_id(conversation), limit, before)
            page = await self._request(HISTORY_GET, conversation, request, History)
            yield page
            before = page.before
            if before is None:
                return

    async def delete(self, conversation: str) -> None:
        """Erases a conversation everywhere; what runs is stopped. It may be repeated.

        Raises:
            StorageUnavailable: its voices are still there.
            Unauthorized, Unreachable.

        >>> await parley.delete("doc-delete")
        """
        request = DeleteRequest(_id(conversation))
        await self._request(HISTORY_DELETE, conversation, request, Deleted, patience=DELETE_SECONDS)

    async def link(self, conversation: str, turn_id: str) -> Link:
        """Where the stored voice of a turn can be had just now; see `Turn.link`.

        >>> await parley.link("doc-link", "nobody")
        Traceback (most recent call last):
        parley.errors.NotFound: there is no stored voice of this turn
        """
        return await self._request(TTS_LINK, conversation, LinkRequest(_id(turn_id)), Link)

    async def _request(
        self,
        subject: str,
        conversation: str,
        body: object,
        kind: type[T],
        *,
        patience: float | None = None,
    ) -> T:
        named = of_conversation(subject, _id(conversation))
        answer = await self.wire.ask(named, body, seconds=self.timeout, patience=patience)
        return _read(answer, kind)


def _may_be_there(error: ParleyError) -> bool:
    """The stream may have it, or not; asking again with the same id is harmless."""
    return isinstance(error, StorageUnavailable | DeadlineExceeded)


def _id(text: str) -> str:
    if not is_id(text):
        raise InvalidRequest(f"{text!r} is no id: {ID_RULE}")
    return text


def _plain(value: object) -> object:
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value


def _understood(fields: Mapping[str, Any], kind: type[T]) -> T:
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(str(exc)) from None


def _read(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.MsgspecError as exc:
        raise Internal(f"an answer that cannot be read: {exc}") from exc
