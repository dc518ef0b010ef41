"""Text to sound, as a script wants it: with which voice, at which rate, in deltas of which size."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from local import voices
from local.together import espeak

if TYPE_CHECKING:
    from local.together.script import Speech
    from local.together.session import Session

_CACHE_BYTES = 64 * 1024 * 1024


class Synthesis:
    """Audio by text, voice and speed; each is made once as long as it is remembered."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._bytes = 0

    async def pcm(self, text: str, session: Session, settings: Speech) -> bytes:
        sound, samples = settings.sound, settings.char_samples
        key = (sound, samples, text, session.voice, session.speed, session.language, session.rate)
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        if sound == "audible":
            pcm = await asyncio.to_thread(
                espeak.audible, text, session.voice, session.speed, session.language
            )
        else:
            pcm = voices.computable(text, session.voice, session.speed, char_samples=samples)
        pcm = voices.resampled(pcm, session.rate)
        self._keep(key, pcm)
        return pcm

    def _keep(self, key: tuple[Any, ...], pcm: bytes) -> None:
        if key not in self._made:
            self._made[key] = pcm
            self._bytes += len(pcm)
        while self._bytes > _CACHE_BYTES:
            self._bytes -= len(self._made.popitem(last=False)[1])
