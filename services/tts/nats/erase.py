"""Erases the voice of a conversation: objects, events, requests, records; the records last."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from services.tts import record
from shared.contract import (
    SPEECH_BUCKET,
    TTS_AUDIO_STREAM,
    TTS_REQUESTS_STREAM,
    tts_audio,
    tts_request,
)
from shared.nats.connection import Connection
from shared.nats.documents import Bucket
from shared.nats.read import purge
from shared.process.clock import SystemClock
from shared.retry import wait_until

if TYPE_CHECKING:
    from services.tts.minio.store import MinioStore

log = logging.getLogger(__name__)

STOP_SECONDS: Final = 5.0  # for voices under way, which were told to stop


async def erase_voice(connection: Connection, store: MinioStore, conversation_id: str) -> None:
    """Raises StorageUnavailable, NatsError: the records are left; it can be asked again."""
    await purge(connection, TTS_REQUESTS_STREAM, tts_request(conversation_id))
    await wait_until(
        lambda: _is_silent(connection, conversation_id), STOP_SECONDS, clock=SystemClock()
    )
    objects = await store.erase(conversation_id)
    await purge(connection, TTS_AUDIO_STREAM, tts_audio(conversation_id))
    await Bucket(connection, SPEECH_BUCKET).erase(f"{conversation_id}.*")
    log.info("tts.voice_erased", extra={"conversation": conversation_id, "objects": objects})


async def _is_silent(connection: Connection, conversation_id: str) -> bool:
    async for _, data in Bucket(connection, SPEECH_BUCKET).entries(f"{conversation_id}.*"):
        if record.decode(data).end is None:
            return False
    return True
