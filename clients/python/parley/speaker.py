"""Where a voice is played: the sound card, or whatever takes samples."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Protocol

from parley.contract import SAMPLE_RATE, SAMPLE_WIDTH
from parley.errors import ParleyError

_SLICE = 4_800 * SAMPLE_WIDTH  # a fifth of a second: a stop is heard at once


class Speaker(Protocol):
    """Takes samples: 16 bit little-endian, mono, 24,000 a second."""

    @property
    def heard_ms(self) -> int:
        """So much of what was written has been heard, in milliseconds."""
        ...

    async def write(self, pcm: bytes) -> None:
        """Returns when there is room for more."""
        ...

    async def drain(self) -> None:
        """Returns when all that was written has been heard."""
        ...

    def stop(self) -> None:
        """Silence, at once."""
        ...


class NoSpeaker(ParleyError):
    """This machine cannot play: `sounddevice` is not installed (extra `play`), or no sound card."""


class SoundCard:
    """The machine's own, by `sounddevice`: `pip install parley[play]`."""

    def __init__(self) -> None:
        """Raises NoSpeaker."""
        try:
            sounddevice: Any = importlib.import_module("sounddevice")  # an extra
        except (ImportError, OSError) as exc:
            raise NoSpeaker(f"`sounddevice` is needed to play: {exc}") from exc
        try:
            self._stream: Any = sounddevice.RawOutputStream(
                samplerate=SAMPLE_RATE, channels=1, dtype="int16"
            )
            self._stream.start()
        except sounddevice.PortAudioError as exc:
            raise NoSpeaker(f"no sound card takes 24 kHz, mono: {exc}") from exc
        self._written = 0
        self._stopped = False

    @property
    def heard_ms(self) -> int:
        """What was written, without what still waits in the card."""
        waiting = 0.0 if self._stopped else float(self._stream.latency)
        return max(0, int((self._written / SAMPLE_RATE - waiting) * 1000))

    async def write(self, pcm: bytes) -> None:
        for at in range(0, len(pcm), _SLICE):
            if self._stopped:
                return
            part = pcm[at : at + _SLICE]
            await asyncio.to_thread(self._stream.write, part)
            self._written += len(part) // SAMPLE_WIDTH

    async def drain(self) -> None:
        if not self._stopped:
            await asyncio.to_thread(self._stream.stop)
            self._stopped = True

    def stop(self) -> None:
        if not self._stopped:
            self._written = self.heard_ms * SAMPLE_RATE // 1000
            self._stopped = True
            self._stream.abort()
