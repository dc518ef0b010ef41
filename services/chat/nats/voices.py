"""The voices of a conversation, by what the speech workers' queue and stream hold of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from services.chat.request import turn_id_of
from shared.contract import (
    H_TURN,
    H_TYPE,
    SPEECH_BUCKET,
    TTS_AUDIO_STREAM,
    TTS_ERASE,
    TTS_REQUESTS_STREAM,
    UNREADABLE,
    Error,
    Finish,
    Kind,
    Stored,
    of_conversation,
    tts_audio,
    tts_request,
)
from shared.errors import NatsError, NoStream, StorageUnavailable
from shared.nats.documents import Bucket
from shared.nats.read import last, read_back

if TYPE_CHECKING:
    from shared.nats.connection import Connection

MOMENT: Final = timedelta(seconds=5)

ERASE_SECONDS: Final = 9.0  # a voice that a frozen worker holds is another's after a lease
ASK_AGAIN_SECONDS: Final = 2.0


class _Answer(msgspec.Struct):
    error: Error | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_stored = msgspec.json.Decoder(Stored).decode


def _stored(data: bytes) -> Stored | None:
    """None for what is none, whatever a stranger's header says."""
    try:
        return _decode_stored(data)
    except UNREADABLE:
        return None


@dataclass(frozen=True, slots=True)
class NatsVoices:
    """Implements Voices; raises NatsError."""

    connection: Connection

    async def under_way(self, conversation_id: str) -> list[str]:
        """A request to speak stays in its queue until the voice has ended, and a moment longer."""
        subject = tts_request(conversation_id)
        stored = read_back(self.connection, TTS_REQUESTS_STREAM, subject)
        turns = [turn_id_of(m.data, m.headers, m.sequence, prefix="v") async for m in stored]
        over = await self._ended_last(conversation_id) if turns else None
        return [turn_id for turn_id in turns if turn_id != over]

    async def _ended_last(self, conversation_id: str) -> str | None:
        """The turn whose voice was heard to its end, where nothing was said since."""
        found = await last(self.connection, TTS_AUDIO_STREAM, tts_audio(conversation_id))
        if found is None or found.headers.get(H_TYPE) != Kind.STORED:
            return None
        stored = _stored(found.data)
        if stored is None or stored.finish is Finish.CANCELLED:
            return None
        return stored.turn_id

    async def just_stopped(self, conversation_id: str) -> str | None:
        since = (datetime.now(UTC) - MOMENT).isoformat()
        subject = tts_audio(conversation_id)
        found = None
        async for message in read_back(self.connection, TTS_AUDIO_STREAM, subject, since=since):
            if message.headers.get(H_TYPE) == Kind.STORED:
                stored = _stored(message.data)
                is_stopped = stored is not None and stored.finish is Finish.CANCELLED
                found = message.headers.get(H_TURN) if is_stopped else None
        return found

    async def erase(self, conversation_id: str) -> None:
        """Asks again while nobody answers: a queue group picks any member, a frozen one too."""
        asking: set[asyncio.Task[None]] = set()
        try:
            async with asyncio.timeout(ERASE_SECONDS):
                while True:
                    asking.add(asyncio.create_task(self._ask_to_erase(conversation_id)))
                    done, _ = await asyncio.wait(
                        asking, timeout=ASK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        return task.result()
        except TimeoutError:
            raise StorageUnavailable("the voice could not be erased in time; ask again") from None
        finally:
            for task in asking:
                task.cancel()

    async def _ask_to_erase(self, conversation_id: str) -> None:
        subject = of_conversation(TTS_ERASE, conversation_id)
        try:
            answer = await self.connection.request(subject, seconds=ERASE_SECONDS)
        except NoStream:  # no speech worker listens
            if await self._has_any(conversation_id):
                raise StorageUnavailable("nobody can erase the voice now; ask again") from None
            return
        except NatsError as exc:
            raise StorageUnavailable(f"the voice could not be erased: {exc}") from exc
        refused = _decode_answer(answer.data).error
        if refused is not None:
            raise StorageUnavailable(refused.message)

    async def _has_any(self, conversation_id: str) -> bool:
        if await last(self.connection, TTS_AUDIO_STREAM, tts_audio(conversation_id)) is not None:
            return True
        try:
            async for _ in Bucket(self.connection, SPEECH_BUCKET).entries(f"{conversation_id}.*"):
                return True
        except NoStream:
            pass  # none ever was here
        return False
