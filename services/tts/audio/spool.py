"""Audio in memory, and on disk beyond a few megabytes: an article of 20 minutes is 58 MB."""

from __future__ import annotations

import io
import tempfile
from typing import IO, Final

from services.tts.audio import pcm

MAX_IN_MEMORY: Final = 8 * 1024 * 1024  # nearly three minutes


def spooled_file(max_in_memory: int = MAX_IN_MEMORY) -> IO[bytes]:
    """A file without a name that is gone when it is closed."""
    return tempfile.SpooledTemporaryFile(max_in_memory)


class Spool:
    """The PCM of one turn, from its start to its end. Close it when the turn is over."""

    def __init__(self, max_in_memory: int = MAX_IN_MEMORY) -> None:
        self._max_in_memory = max_in_memory
        # Not a list of what came: so many small pieces that live for a turn leave holes in memory.
        self._memory: io.BytesIO | None = io.BytesIO()  # until it is too long for that
        self._file: IO[bytes] = self._memory
        self._bytes = 0

    @property
    def samples(self) -> int:
        return pcm.samples(self._bytes)

    def append(self, audio: bytes) -> None:
        self._file.seek(self._bytes)  # somebody may have read
        self._file.write(audio)
        self._bytes += len(audio)
        if self._memory is not None and self._bytes > self._max_in_memory:
            self._move_to_disk(self._memory)

    def _move_to_disk(self, memory: io.BytesIO) -> None:
        self._file, self._memory = tempfile.TemporaryFile(), None  # noqa: SIM115  lives as we do
        with memory.getbuffer() as whole:  # as it lies there, not a copy
            self._file.write(whole)
        memory.close()

    def cut(self, samples: int) -> None:
        """Forgets everything after so many samples."""
        self._bytes = min(self._bytes, samples * pcm.SAMPLE_WIDTH)
        self._file.truncate(self._bytes)

    def read(self, start: int, samples: int) -> bytes:
        """The PCM of so many samples from `start` on."""
        self._file.seek(start * pcm.SAMPLE_WIDTH)
        return self._file.read(samples * pcm.SAMPLE_WIDTH)

    def open(self) -> IO[bytes]:
        """The PCM from its start; the file is the spool's own."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


class ReplaySpool:
    """The audio of a replay, to be read in any order. Close it when the turn is over."""

    def __init__(self, max_in_memory: int = MAX_IN_MEMORY) -> None:
        self._file = spooled_file(max_in_memory)
        self._parts: list[tuple[int, int]] = []  # where each begins, bytes
        self._end = 0

    def put(self, audio: bytes) -> int:
        """Returns the part's number."""
        self._file.seek(self._end)
        self._file.write(audio)
        self._parts.append((self._end, len(audio)))
        self._end += len(audio)
        return len(self._parts) - 1

    def get(self, number: int) -> bytes:
        start, size = self._parts[number]
        self._file.seek(start)
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
