"""The events of one turn's voice on `tts.audio.<c>`, pipelined, their acks checked."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from services.tts.audio import pcm
from services.tts.playback import Playback
from services.tts.process.metrics import AUDIO_SECONDS, FIRST_SOUND, PIECE_GAP
from services.tts.resume import MemorySpool, NoSpool, Replay
from shared.contract import (
    H_ATTEMPT,
    H_CONVERSATION,
    H_PIECE,
    H_SEQ,
    H_TURN,
    H_TYPE,
    MSG_ID,
    PCM_CONTENT_TYPE,
    TTS_AUDIO_STREAM,
    AudioEvent,
    AudioFailed,
    AudioStarted,
    Kind,
    PieceDone,
    Stored,
    encode,
    tts_audio,
)
from shared.contract import Piece as PieceEvent
from shared.errors import NatsError, Unsendable
from shared.nats.connection import Connection
from shared.nats.publish import Fence, PublishWindow, publish
from shared.nats.read import newest_since, read_back
from shared.nats.wire import Block, block_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.tts.ports import VoiceParams
    from services.tts.resume import ReplaySpool
    from services.tts.text.segments import Piece
    from shared.contract import Word

MAX_CHUNK: Final = 32 * 1024  # bytes, 0.7 s: far below what NATS takes, and soon heard
# Publishes un-acked before further audio is joined: one or two while the server keeps up.
KEEPS_UP: Final = 8


class NatsAudio:
    """Publish for one turn; `fence` tells whether the voice is still ours."""

    def __init__(
        self,
        connection: Connection,
        conversation_id: str,
        turn_id: str,
        fence: Fence,
        trace: dict[str, str],
        spool: ReplaySpool | None = None,
        *,
        warnings: Sequence[str] = (),
        asked_at: datetime | None = None,
    ) -> None:
        """`spool` keeps the audio of a replay; in memory without one.

        `warnings` are told with each `started`. `asked_at`: when the stream took the request, from
        which the first sound is counted.
        """
        self._connection, self._fence, self._spool = connection, fence, spool
        self._warnings = list(warnings) or UNSET
        self._window = PublishWindow(connection, fence)
        self._subject = tts_audio(conversation_id)
        self._conversation_id, self._turn_id = conversation_id, turn_id
        self._ids = {H_CONVERSATION: conversation_id, H_TURN: turn_id, **trace}
        self._attempt, self._seq, self._number = 0, 0, 0
        self._blocks: dict[Kind, Block] = {}  # headers of this attempt's events
        self._unique = ""  # what their ids begin with
        self._chunk_block = b""  # headers that all chunks of a piece have
        self._chunk_block_of = (0, 0)  # its attempt and piece
        self._uncounted = 0  # bytes of audio
        self._asked_at, self._playback = asked_at, Playback()

    def _headers(self, kind: Kind, unique: str) -> dict[str, str]:
        return {
            MSG_ID: f"{self._conversation_id}.{self._turn_id}.{unique}",
            H_TYPE: kind.value,
            H_ATTEMPT: str(self._attempt),
            **self._ids,
        }

    async def _send(self, kind: Kind, event: AudioEvent) -> None:
        self._number += 1
        if kind not in self._blocks:
            headers = self._headers(kind, "")
            self._unique = headers.pop(MSG_ID)
            self._blocks[kind] = Block(MSG_ID, headers)
        block = self._blocks[kind].of(f"{self._unique}{self._attempt}.e{self._number}")
        await self._window.ready()
        self._window.put(self._subject, encode(event), block)

    async def started(self, attempt: int, params: VoiceParams) -> None:
        self._window.close()  # all of it is acked
        self._window = PublishWindow(self._connection, self._fence)
        self._attempt, self._seq, self._number = attempt, 0, 0
        self._blocks.clear()
        await self._send(
            Kind.STARTED,
            AudioStarted(
                self._conversation_id,
                self._turn_id,
                attempt,
                model=params.model,
                voice=params.voice,
                warnings=self._warnings,
            ),
        )

    async def piece(self, piece: Piece) -> None:
        await self._send(
            Kind.PIECE,
            PieceEvent(
                self._conversation_id,
                self._turn_id,
                self._attempt,
                index=piece.index,
                text=piece.text,
                chars=(piece.start, piece.end),
            ),
        )

    async def chunk(self, index: int, audio: bytes) -> None:
        self._uncounted += len(audio)
        for part in pcm.parts(audio, MAX_CHUNK):
            await self._window.ready()
            self._put(index, part)

    def offer(self, index: int, audio: bytes) -> bool:
        window = self._window
        if len(audio) > MAX_CHUNK or window.unacked >= KEEPS_UP or not window.is_ready:
            return False
        try:
            self._put(index, audio)
        except Unsendable:
            return False
        self._uncounted += len(audio)
        return True

    def _put(self, index: int, audio: bytes) -> None:
        self._window.put(self._subject, audio, self._block_of_chunk(index))
        self._seq += 1

    def _block_of_chunk(self, index: int) -> bytes:
        """The headers of the next chunk: only two of them are its own."""
        if self._chunk_block_of != (self._attempt, index) or not self._chunk_block:
            self._sounds()
            headers = self._headers(Kind.CHUNK, "")
            unique = headers.pop(MSG_ID)
            headers[H_PIECE] = str(index)
            headers["Content-Type"] = PCM_CONTENT_TYPE
            own = f"{H_SEQ}: %d\r\n{MSG_ID}: {unique}{self._attempt}.c%d\r\n\r\n"
            fixed = block_of(headers).replace(b"%", b"%%").removesuffix(b"\r\n")
            self._chunk_block_of = self._attempt, index
            self._chunk_block = fixed + own.encode()
        return self._chunk_block % (self._seq, self._seq)

    def _sounds(self) -> None:
        """The first chunk of a piece goes out."""
        gap = self._playback.sounds(time.monotonic())
        if gap is not None:
            PIECE_GAP.observe(gap)
        elif self._asked_at is not None:
            waited = (datetime.now(UTC) - self._asked_at).total_seconds()
            FIRST_SOUND.observe(max(0.0, waited))  # by another machine's clock

    def _count(self) -> None:
        """Once a piece: a counter takes as long as the rest of a chunk."""
        AUDIO_SECONDS.inc(pcm.seconds(self._uncounted))
        self._uncounted = 0

    async def piece_done(self, index: int, samples: int, words: Sequence[Word]) -> None:
        self._count()
        self._playback.lasts(index, pcm.seconds(samples * pcm.SAMPLE_WIDTH))
        await self._send(
            Kind.PIECE_DONE,
            PieceDone(
                self._conversation_id,
                self._turn_id,
                self._attempt,
                index=index,
                samples=samples,
                words=list(words),
            ),
        )

    async def drained(self) -> None:
        await self._window.drained()

    async def end(self, event: Stored | AudioFailed) -> None:
        if not self._fence.fresh:
            await self._fence.verify()
        self._attempt = event.attempt
        kind = Kind.STORED if isinstance(event, Stored) else Kind.FAILED
        await publish(self._connection, self._subject, encode(event), self._headers(kind, "end"))

    async def replay(self, since: str) -> Replay:
        spool = MemorySpool() if self._spool is None else self._spool
        found = await self._connection.persist(lambda: self._replayed(since, spool))
        if found.intact:  # another worker was heard before
            self._asked_at = None
        return found

    async def intact(self, since: str) -> int:
        replay = await self._connection.persist(lambda: self._replayed(since, NoSpool()))
        return replay.intact

    async def _replayed(self, since: str, spool: ReplaySpool) -> Replay:
        """Not without what was acked: whoever gives the past out may lag behind the leader."""
        replay = Replay(spool)
        stream = self._connection, TTS_AUDIO_STREAM, self._subject
        newest, reached = await newest_since(*stream, since), 0
        async for message in read_back(*stream, since=since):
            reached = message.sequence
            if message.headers.get(H_TURN) == self._turn_id:
                replay.add(message.headers, message.data)
        if reached < newest:
            raise NatsError(f"{self._subject}: a replica lags behind")
        return replay

    def close(self) -> None:
        """Nothing more is sent, whatever is un-acked."""
        self._count()
        self._window.close()
