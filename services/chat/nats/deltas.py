"""The events of one turn on `chat.delta.<c>`, pipelined, their acks checked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from services.chat.ports import Told
from shared.contract import (
    CHAT_DELTAS_STREAM,
    H_ATTEMPT,
    H_CONVERSATION,
    H_TURN,
    H_TYPE,
    MSG_ID,
    AudioFailed,
    DeltaEvent,
    Done,
    Failed,
    Kind,
    SpeechRequest,
    Started,
    Text,
    chat_delta,
    encode,
    tts_audio,
    tts_request,
)
from shared.errors import Busy, Full
from shared.nats.connection import Connection
from shared.nats.follow import decode_delta
from shared.nats.publish import Fence, PublishWindow, publish
from shared.nats.read import read_back
from shared.nats.wire import Block
from shared.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.chat.turn import Turn
    from shared.contract import Delta

# Publishes un-acked before further text is joined: one or two are on their way while the server
# keeps up, also at 200 tokens a second over a few milliseconds of network.
KEEPS_UP: Final = 8


class NatsDeltas:
    """Publish for one turn; `fence` tells whether the turn is still ours."""

    def __init__(
        self,
        connection: Connection,
        conversation_id: str,
        turn_id: str,
        fence: Fence,
        trace: dict[str, str],
    ) -> None:
        self._connection = connection
        self._window = PublishWindow(connection, fence)
        self._voices = PublishWindow(connection, fence)  # whose trouble is not that of the text
        self._fence = fence
        self._subject = chat_delta(conversation_id)
        self._conversation_id, self._turn_id = conversation_id, turn_id
        self._headers = {H_CONVERSATION: conversation_id, H_TURN: turn_id, **trace}
        self._block = Block(MSG_ID, self._headers)
        self._lock = asyncio.Lock()  # numbers and order belong together
        self._flush: asyncio.Task[None] | None = None

    def _unique(self, event: DeltaEvent) -> str:
        return f"{self._conversation_id}.{self._turn_id}.{event.attempt}.{event.seq}"

    async def started(self, event: Started) -> int:
        self.close()
        self._window = PublishWindow(self._connection, self._fence)
        self._voices = PublishWindow(self._connection, self._fence)
        if not self._fence.fresh:
            await self._fence.verify()
        headers = {MSG_ID: self._unique(event), **self._headers}
        ack = await publish(self._connection, self._subject, encode(event), headers)
        return ack.seq

    async def voice(self, request: SpeechRequest) -> None:
        headers = {MSG_ID: f"{self._conversation_id}.{self._turn_id}.voice", **self._headers}
        await self._voices.send(tts_request(self._conversation_id), encode(request), headers)

    def text_at_once(self, turn: Turn) -> bool:
        window = self._window
        while turn.waits:
            if window.unacked >= KEEPS_UP or self._lock.locked() or not window.is_ready:
                return False
            if (event := turn.take()) is not None:
                self._put(event)
        return True

    def _put(self, event: DeltaEvent) -> None:
        self._window.put(self._subject, encode(event), self._block.of(self._unique(event)))

    async def text(self, turn: Turn) -> None:
        await self._window.resend()
        if self._window.unacked >= KEEPS_UP or not self._window.open:
            self._window.when_idle(lambda: self._flush_soon(turn))
            return
        await self._send_waiting(turn)

    def _flush_soon(self, turn: Turn) -> None:
        self._window.when_idle(None)
        self._flush = asyncio.create_task(self._send_waiting(turn))

    async def _send_waiting(self, turn: Turn) -> None:
        async with self._lock:
            while turn.waits:
                await self._window.ready()
                if (event := turn.take()) is not None:
                    self._put(event)

    async def drained(self, turn: Turn) -> None:
        self._window.when_idle(None)
        if self._flush is not None:
            await self._flush
        await self._send_waiting(turn)
        await self._window.drained()
        await self._voice_drained(turn.attempt)

    async def _voice_drained(self, attempt: int) -> None:
        try:
            await self._voices.drained()
        except Full as exc:
            await self._fail_voice(attempt, exc)

    async def _fail_voice(self, attempt: int, why: Full) -> None:
        """The text goes on without it: nobody else would tell that it was never asked for."""
        error = Busy(f"too many voices wait to be spoken: {why}")
        ids = self._conversation_id, self._turn_id
        headers = {
            MSG_ID: f"{self._conversation_id}.{self._turn_id}.end",  # as whoever speaks it has it
            H_TYPE: Kind.FAILED.value,
            H_ATTEMPT: str(attempt),
            **self._headers,
        }
        event = AudioFailed(*ids, attempt, error=error.as_error())
        await publish(self._connection, tts_audio(self._conversation_id), encode(event), headers)
        self._voices.close()
        self._voices = PublishWindow(self._connection, self._fence)

    async def end(self, event: Done | Failed) -> None:
        await self._window.drained()
        await self._voice_drained(event.attempt)
        if not self._fence.fresh:
            await self._fence.verify()
        unique = f"{self._conversation_id}.{self._turn_id}.end"
        await publish(
            self._connection, self._subject, encode(event), {MSG_ID: unique, **self._headers}
        )

    async def said(self, turn_id: str, since: int) -> str:
        timeline: Timeline[Delta] = Timeline()
        said: list[str] = []
        async for event in self._events(turn_id, since):
            for ready in timeline.add(event.attempt, event.seq, event):
                if isinstance(ready, Started):
                    said.clear()
                elif isinstance(ready, Text):
                    said.append(ready.text)
        return "".join(said)

    async def told(self, turn_id: str, since: str) -> Told:
        attempt, ended = 0, False
        async for event in self._events(turn_id, 1, since):
            attempt = max(attempt, event.attempt)
            ended = ended or isinstance(event, Done | Failed)
        return Told(attempt, ended)

    async def ended(self, turn_id: str, since: int) -> bool:
        async for event in self._events(turn_id, since):
            if isinstance(event, Done | Failed):
                return True
        return False

    async def _events(
        self, turn_id: str, start: int, since: str | None = None
    ) -> AsyncIterator[Delta]:
        async for message in read_back(
            self._connection, CHAT_DELTAS_STREAM, self._subject, start, since=since
        ):
            event = decode_delta(message.data)
            if event is not None and event.turn_id == turn_id:
                yield event

    def close(self) -> None:
        """Nothing more is sent, whatever is un-acked."""
        self._window.when_idle(None)
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._window.close()
        self._voices.close()
