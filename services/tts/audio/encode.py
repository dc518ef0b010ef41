"""The object that a turn's audio becomes where its samples stay as they are, perhaps with a header.

All others are pyav_encode.py's.
"""

from __future__ import annotations

from typing import IO, Final

from services.tts.audio import pcm
from shared.contract import AudioFormat

RAW: Final = frozenset({AudioFormat.WAV, AudioFormat.PCM})  # the samples, as they are


def duration_of(size: int, format: AudioFormat) -> int | None:  # noqa: A002  its name in the contract
    """Milliseconds of an object of so many bytes; None where only its samples tell."""
    if format is AudioFormat.WAV:
        return pcm.milliseconds(max(0, size - pcm.WAV_HEADER_BYTES))
    return pcm.milliseconds(size) if format is AudioFormat.PCM else None


class Raw:
    """Such an object, read as a file is; no copy of the samples is made."""

    def __init__(self, audio: IO[bytes], samples: int, format: AudioFormat) -> None:  # noqa: A002  its name in the contract
        """`audio` stays the caller's, who closes it, and does nothing else with it meanwhile."""
        size = samples * pcm.SAMPLE_WIDTH
        self._header = pcm.wav_header(size) if format is AudioFormat.WAV else b""
        self._audio = audio
        self._at_start = True

    def seek(self, place: int) -> None:
        """To the start, which is the only place that anybody wants."""
        assert place == 0
        self._at_start = True

    def read(self, size: int) -> bytes:
        """The next `size` bytes at most, at least as many as a header has; empty at the end."""
        if not self._at_start:
            return self._audio.read(size)
        self._at_start = False
        self._audio.seek(0)
        return self._header + self._audio.read(size - len(self._header))
