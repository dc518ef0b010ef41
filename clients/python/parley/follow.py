"""Follows turns: live by subscription, the past by replay, joined without a gap.

What comes live waits in a queue that is bounded. What is missing, because the queue was full, the
connection was lost, or a message overtook another, is read back from the stream, page by page, as
the reader takes it.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from parley.contract import (
    CHAT_DELTA,
    H_TURN,
    TTS_AUDIO,
    Done,
    Failed,
    Replayed,
    Started,
    of_conversation,
)
from parley.errors import NotFound, Unauthorized
from parley.events import Chunk, Later, is_text, text_event, voice_event
from parley.timeline import Timeline
from parley.voice import VoiceTimeline
from parley.wire import NotNow, late

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from nats.aio.msg import Msg

    from parley.events import Event, TextEvent, VoiceEvent
    from parley.wire import Heard, Wire

GAP_SECONDS: Final = 0.05  # what overtook the store is there after this long
MAX_GAP_SECONDS: Final = 2.0
QUIET_SECONDS: Final = 2.0  # a look at the stream when nothing has come for so long; then longer
MAX_QUIET_SECONDS: Final = 15.0
# What has come and was not yet taken; what is more is read back.
MAX_LIVE_EVENTS: Final = 1_024
MAX_LIVE_BYTES: Final = 4 * 1024 * 1024
MAX_CHANNELS: Final = 64  # conversations that are listened to while nobody reads
MAX_TURNS: Final = 256  # of a conversation that are followed at once


class Position(Struct, frozen=True):
    """How far a reader has come: so many events of each attempt. It may be kept as JSON, and
    `follow` goes on from there.

    >>> Position(text_attempt=1, text_events=3).text_events
    3
    """

    text_attempt: int = 0
    text_events: int = 0
    voice_attempt: int = 0
    voice_events: int = 0

    def after(self, event: Event) -> Position:
        """Where a reader is that was given that event next."""
        if is_text(event):
            same = event.attempt == self.text_attempt
            count = self.text_events + 1 if same else 1
            return Position(event.attempt, count, self.voice_attempt, self.voice_events)
        same = event.attempt == self.voice_attempt
        count = self.voice_events + 1 if same else 1
        return Position(self.text_attempt, self.text_events, event.attempt, count)

    def has(self, event: Event, reached: Position) -> bool:
        """Whether a reader that is here was given the event; `reached`: where it leads to."""
        if is_text(event):
            told = (reached.text_attempt, reached.text_events)
            return told <= (self.text_attempt, self.text_events)
        told = (reached.voice_attempt, reached.voice_events)
        return told <= (self.voice_attempt, self.voice_events)


@dataclass(slots=True)
class _Turn:
    """What is known of one turn."""

    text: Timeline[TextEvent | Later] = field(default_factory=Timeline["TextEvent | Later"])
    voice: VoiceTimeline = field(default_factory=VoiceTimeline)
    text_ended: bool = False
    lost: bool = False
    voiced: bool | None = None  # whether there is, or will be, a voice; None: not yet known
    reached: Position = field(default_factory=Position)

    def add_text(self, event: TextEvent | Later, *, kept: bool) -> list[Event]:
        if self.text_ended:
            return []
        ready: list[Event] = []
        for each in self.text.add(event.attempt, event.seq, event):
            if isinstance(each, Later):
                continue
            ready.append(each)
            if isinstance(each, Started):
                self.voiced = each.speech is not False
            self.text_ended |= isinstance(each, Done | Failed)
        if kept and isinstance(event, Done | Failed) and event.attempt == self.text.attempt:
            self.lost |= not self.text_ended
        return ready

    def add_voice(self, event: VoiceEvent, *, kept: bool) -> list[Event]:
        self.voiced = True
        ready: list[Event] = list(self.voice.add(event, kept=kept))
        self.lost |= self.voice.lost
        return ready

    @property
    def ended(self) -> bool:
        return self.text_ended and (not self.voiced or self.voice.ended)


@dataclass(slots=True)
class _Half:
    """Text or voice: what was read back of it, and when it is looked at again."""

    what: Replayed
    sequence: int = 0  # of the newest event that was read back
    read: bool = False  # to the end of what was there
    missed: bool = False  # the queue was full: what comes live is of no use before the next look
    due: float = 0.0  # time of the next look
    pause: float = QUIET_SECONDS
    gap_pause: float = GAP_SECONDS
    retry_pause: float = GAP_SECONDS

    def heard(self, now: float) -> None:
        self.pause, self.gap_pause = QUIET_SECONDS, GAP_SECONDS
        self.due = now + self.pause

    def looked(self, now: float, *, gap: bool) -> None:
        self.retry_pause = GAP_SECONDS
        if gap:
            self.due = now + self.gap_pause
            self.gap_pause = min(self.gap_pause * 2, MAX_GAP_SECONDS)
        else:
            self.due = now + self.pause
            self.pause = min(self.pause * 2, MAX_QUIET_SECONDS)

    def failed(self, now: float) -> None:
        self.due = now + self.retry_pause
        self.retry_pause = min(self.retry_pause * 2, MAX_GAP_SECONDS)


class Follower:
    """The events of one turn, or of all of a conversation, each once, in order, to one reader.

    `starts`: stream sequences of text and voice behind which everything is.
    """

    def __init__(
        self,
        channel: Channel,
        turn_id: str | None,
        *,
        text: bool = True,
        voice: bool = True,
        starts: tuple[int, int] = (0, 0),
        fresh: bool = False,
        after: Position | None = None,
    ) -> None:
        """`fresh`: nothing of it is in the stream yet. `after`: what was given out before is not
        given out again."""
        self._channel, self._turn_id, self._after = channel, turn_id, after
        self.starts = starts
        self._turns: OrderedDict[str, _Turn] = OrderedDict()
        due = time.monotonic() + QUIET_SECONDS if fresh else 0.0
        self._halves: dict[Replayed, _Half] = {}
        if text:
            self._halves[Replayed.DELTA] = _Half(Replayed.DELTA, starts[0], due=due)
        if voice:
            self._halves[Replayed.AUDIO] = _Half(Replayed.AUDIO, starts[1], due=due)
        self._live: deque[tuple[Replayed, Event | Later]] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self.position = after or Position()
        channel.add(self)

    @property
    def turn_id(self) -> str | None:
        return self._turn_id

    # ------------------------------------------------------------ what comes live

    def hear(self, what: Replayed, event: Event | Later) -> None:
        half = self._halves.get(what)
        if half is None or half.missed:
            return
        size = len(event.pcm) if isinstance(event, Chunk) else 0
        if len(self._live) >= MAX_LIVE_EVENTS or self._bytes + size > MAX_LIVE_BYTES:
            half.missed, half.due = True, 0.0
        else:
            self._live.append((what, event))
            self._bytes += size
        self._wake.set()

    def reconnected(self) -> None:
        """What passed meanwhile is read back; or there is no connection, and will be none."""
        for half in self._halves.values():
            half.due = 0.0
        self._wake.set()

    # ------------------------------------------------------------ what is given out

    async def events(self, idle: float) -> AsyncGenerator[Event, None]:
        """Ends with the end of the turn; of a conversation, never.

        Raises:
            DeadlineExceeded: nothing came for `idle` seconds.
            NotFound: a part of the turn is no longer kept.
            Unreachable: NATS was away for so long.
            Unauthorized: this login may not hear the conversation.
        """
        heard = time.monotonic()
        try:
            while not self._over():
                ready = self._next_live()
                if ready is None and (half := self._due()) is not None:
                    ready = await self._look(half)
                if ready is None:
                    await self._wait(heard + idle, idle)
                    continue
                for event in ready:
                    yield event
                    heard = time.monotonic()
        finally:
            self._close()

    def _close(self) -> None:
        """Nothing more is taken down."""
        self._channel.remove(self)
        self._live.clear()

    def postpone(self) -> None:
        """Nothing of it is kept yet: the first look is due when nothing comes live."""
        for half in self._halves.values():
            half.due = time.monotonic() + QUIET_SECONDS

    async def skip(self, seconds: float) -> None:
        """Reads what is kept, and gives out none of it. Raises Unreachable, Unauthorized."""
        until = time.monotonic() + seconds
        while (half := next((h for h in self._halves.values() if not h.read), None)) is not None:
            await self._look(half)
            if not half.read and half.due > 0:
                await self._wait(until, seconds)

    def _over(self) -> bool:
        if self._turn_id is None:
            return False
        turn = self._turns.get(self._turn_id)
        if turn is None:
            return False
        if turn.lost:
            raise NotFound("a part of this turn is no longer kept; the history has its text")
        if Replayed.AUDIO not in self._halves:
            return turn.text_ended
        return turn.voice.ended if Replayed.DELTA not in self._halves else turn.ended

    def _next_live(self) -> list[Event] | None:
        """None when nothing waits."""
        if not self._live:
            return None
        what, event = self._live.popleft()
        self._bytes -= len(event.pcm) if isinstance(event, Chunk) else 0
        half = self._halves[what]
        ready = self._add(event, kept=False)
        now = time.monotonic()
        if ready:
            half.heard(now)
        if self._gap(what):
            half.due = min(half.due, now + half.gap_pause)
        return ready

    async def _look(self, half: _Half) -> list[Event] | None:
        """Reads back a page; None when nothing was there."""
        wire = self._channel.wire
        half.missed = False
        try:
            page = await wire.replay(
                self._channel.conversation_id, half.what, half.sequence + 1, self._turn_id
            )
        except NotNow:
            half.failed(time.monotonic())
            return None
        ready: list[Event] = []
        for answer in page.events:
            event = (
                text_event(answer.data)
                if half.what is Replayed.DELTA
                else voice_event(answer.headers, answer.data)
            )
            if event is not None:
                ready += self._add(event, kept=True)
        half.sequence = max(half.sequence, page.sequence, page.following - 1)
        self._channel.read(half.what, half.sequence)
        now = time.monotonic()
        if page.following:
            half.due = 0.0
        elif not half.missed:
            half.read = True
            if ready:
                half.heard(now)
            half.looked(now, gap=self._gap(half.what))
        return ready or None

    def _add(self, event: Event | Later, *, kept: bool) -> list[Event]:
        turn = self._turn(event.turn_id)
        if turn is None:
            return []
        if isinstance(event, Later) or is_text(event):
            ready = turn.add_text(event, kept=kept)
        else:
            ready = turn.add_voice(event, kept=kept)  # type: ignore[arg-type]
        return [each for each in ready if self._is_new(turn, each)]

    def _is_new(self, turn: _Turn, event: Event) -> bool:
        turn.reached = turn.reached.after(event)
        if self._after is not None and self._after.has(event, turn.reached):
            return False
        self.position = turn.reached
        return True

    def _turn(self, turn_id: str) -> _Turn | None:
        if self._turn_id not in {None, turn_id}:
            return None
        turn = self._turns.get(turn_id)
        if turn is None:
            turn = self._turns[turn_id] = _Turn()
            if len(self._turns) > MAX_TURNS:
                self._turns.popitem(last=False)
        return turn

    # ------------------------------------------------------------ waiting

    def _gap(self, what: Replayed) -> bool:
        if what is Replayed.DELTA:
            return any(turn.text.gap for turn in self._turns.values() if not turn.text_ended)
        return any(turn.voice.gap for turn in self._turns.values())

    def _due(self) -> _Half | None:
        now = time.monotonic()
        return next((h for h in self._open() if h.due <= now), None)

    def _open(self) -> list[_Half]:
        """The halves of which more is to come."""
        turn = self._turns.get(self._turn_id or "")
        if turn is None:
            return list(self._halves.values())
        silent = turn.voice.ended or turn.voiced is False
        ended = {Replayed.DELTA: turn.text_ended, Replayed.AUDIO: silent}
        return [half for what, half in self._halves.items() if not ended[what]]

    async def _wait(self, until: float, idle: float) -> None:
        """Until something comes, or is due. Raises when it is too late."""
        if self._channel.denied:
            raise Unauthorized(f"this login may not hear {self._channel.conversation_id}")
        now, away = time.monotonic(), self._channel.wire.away()
        if away is not None and (self._channel.wire.closed or isinstance(away, Unauthorized)):
            raise away
        if now >= until:
            raise away or late("the turn", idle)
        due = min((half.due for half in self._open()), default=until)
        try:
            async with asyncio.timeout(max(min(due, until) - now, 0)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()


class Channel:
    """What is heard of one conversation, handed to those who follow it."""

    def __init__(self, wire: Wire, conversation_id: str) -> None:
        self.wire, self.conversation_id = wire, conversation_id
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        self._heard: list[Heard] = []
        self._opening = asyncio.Lock()
        self._known = {Replayed.DELTA: 0, Replayed.AUDIO: 0}

    async def open(self) -> None:
        async with self._opening:
            if self._heard:
                return
            c = self.conversation_id
            # Before anything is asked on the same connection: the server has it first.
            self._heard = [
                await self.wire.listen(of_conversation(CHAT_DELTA, c), self._on_delta),
                await self.wire.listen(of_conversation(TTS_AUDIO, c), self._on_audio),
            ]
            self.wire.listeners.add(self._on_reconnect)

    async def close(self) -> None:
        self.wire.listeners.discard(self._on_reconnect)
        heard, self._heard = self._heard, []
        for each in heard:
            await self.wire.forget(each)

    @property
    def denied(self) -> bool:
        return any(each.denied for each in self._heard)

    @property
    def idle(self) -> bool:
        return not self._followers and not self._opening.locked()

    def add(self, follower: Follower) -> None:
        self._followers.add(follower)

    def remove(self, follower: Follower) -> None:
        self._followers.discard(follower)

    def read(self, what: Replayed, sequence: int) -> None:
        """So much was read back: a turn that is asked later lies behind it."""
        self._known[what] = max(self._known[what], sequence)

    @property
    def known(self) -> tuple[int, int]:
        return self._known[Replayed.DELTA], self._known[Replayed.AUDIO]

    def _on_reconnect(self) -> None:
        for follower in self._followers:
            follower.reconnected()

    def _on_delta(self, msg: Msg) -> None:
        wanted = self._wanted(msg)
        event = text_event(msg.data) if wanted else None
        if event is not None:
            for follower in wanted:
                if follower.turn_id in {None, event.turn_id}:
                    follower.hear(Replayed.DELTA, event)

    def _on_audio(self, msg: Msg) -> None:
        wanted = self._wanted(msg)
        event = voice_event(msg.headers or {}, msg.data) if wanted else None
        if event is not None:
            for follower in wanted:
                follower.hear(Replayed.AUDIO, event)

    def _wanted(self, msg: Msg) -> list[Follower]:
        turn_id = (msg.headers or {}).get(H_TURN)
        return [f for f in self._followers if turn_id is None or f.turn_id in {None, turn_id}]


class Channels:
    """The conversations that are listened to; those that nobody reads any more, for a while."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._open: OrderedDict[str, Channel] = OrderedDict()

    async def of(self, conversation_id: str) -> Channel:
        channel = self._open.get(conversation_id)
        if channel is None:
            await self._tidy()
            channel = self._open.setdefault(conversation_id, Channel(self._wire, conversation_id))
        self._open.move_to_end(conversation_id)
        await channel.open()
        return channel

    async def _tidy(self) -> None:
        """Makes room for one more."""
        idle = [channel for channel in self._open.values() if channel.idle]
        for channel in idle[: max(0, len(self._open) + 1 - MAX_CHANNELS)]:
            del self._open[channel.conversation_id]
            await channel.close()
