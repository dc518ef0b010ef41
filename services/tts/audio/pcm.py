"""Raw audio, s16le mono 24 kHz: samples and seconds, odd splits, WAV headers."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shared import contract

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_RATE: Final = contract.SAMPLE_RATE
SAMPLE_WIDTH: Final = contract.SAMPLE_WIDTH  # bytes
BYTES_PER_SECOND: Final = SAMPLE_RATE * SAMPLE_WIDTH
WAV_HEADER_BYTES = 44

_RIFF_BYTES = 12  # "RIFF", size, "WAVE"
_CHUNK_BYTES = 8  # id, size
# A header with more than this before its "data" is none: better heard as noise than never.
_LONGEST_HEADER = 64 * 1024
# Sizes are 32 bits; a stream of unknown length is written as one that is as long as can be.
_LONGEST_WAV = 0xFFFFFFFF
_FORMAT_PCM, _FORMAT_EXTENSIBLE = 1, 0xFFFE


class ForeignFormat(ValueError):
    """A WAV header announces samples other than ours; heard as ours they would be noise."""


def samples(n_bytes: int) -> int:
    """Whole samples in so many bytes."""
    return n_bytes // SAMPLE_WIDTH


def seconds(n_bytes: int) -> float:
    return samples(n_bytes) / SAMPLE_RATE


def milliseconds(n_bytes: int) -> int:
    return round(samples(n_bytes) * 1000 / SAMPLE_RATE)


def n_bytes(duration: float) -> int:
    """The bytes of so many seconds, in whole samples."""
    return round(duration * SAMPLE_RATE) * SAMPLE_WIDTH


def parts(pcm: bytes, limit: int) -> Iterator[bytes]:
    """The same audio in parts of at most `limit` bytes, cut between samples."""
    step = limit // SAMPLE_WIDTH * SAMPLE_WIDTH
    if step <= 0:
        raise ValueError(f"no whole sample fits in {limit} bytes")
    if len(pcm) <= step:
        if pcm:
            yield pcm
        return
    view = memoryview(pcm)
    for start in range(0, len(pcm), step):
        yield bytes(view[start : start + step])


def wav_header(n_bytes: int) -> bytes:
    """What makes so many bytes of our audio a WAV file."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        min(n_bytes + WAV_HEADER_BYTES - _CHUNK_BYTES, _LONGEST_WAV),
        b"WAVE",
        b"fmt ",
        16,  # bytes of the format that follow
        _FORMAT_PCM,
        1,  # channel
        SAMPLE_RATE,
        BYTES_PER_SECOND,
        SAMPLE_WIDTH,
        SAMPLE_WIDTH * 8,
        b"data",
        min(n_bytes, _LONGEST_WAV),
    )


@dataclass(slots=True)
class WholeSamples:
    """A delta may end in the middle of a sample: its odd byte is kept for the next one."""

    _odd: bytes = b""

    @property
    def odd(self) -> bool:
        """True while half a sample is kept back."""
        return bool(self._odd)

    def feed(self, data: bytes) -> bytes:
        """All that is whole by now."""
        if self._odd:
            data = self._odd + data
            self._odd = b""
        if len(data) % SAMPLE_WIDTH:
            self._odd = data[-1:]
            data = data[:-1]
        return data


@dataclass(slots=True)
class Headerless:
    """Takes a WAV header off the start of a stream, however the stream is cut.

    Sizes in the header are not believed (streaming servers write 0 or 0xFFFFFFFF): audio is all
    that follows the head of the `data` chunk.
    """

    _held: bytes = b""
    _decided: bool = False

    def feed(self, data: bytes) -> bytes:
        """The audio in it, as far as it can be told from a header by now.

        Raises:
            ForeignFormat: a header announces other samples than ours.
        """
        if self._decided:
            return data
        self._held += data
        start = _audio_start(self._held)
        if start is None:
            return b""
        self._decided = True
        audio, self._held = self._held[start:], b""
        return audio

    def flush(self) -> bytes:
        """At the end of the stream: what was held back and is no header after all."""
        held, self._held = self._held, b""
        self._decided = True
        # From here on it was a header, cut off before its audio began.
        return b"" if len(held) >= _RIFF_BYTES else held


def _audio_start(held: bytes) -> int | None:
    """Where the audio begins in the first bytes of a stream; None while more is needed."""
    if not _may_be_riff(held):
        return 0
    at = _RIFF_BYTES
    while at + _CHUNK_BYTES <= len(held):
        name, size = struct.unpack_from("<4sI", held, at)
        at += _CHUNK_BYTES
        if name == b"data":
            return at
        if size > _LONGEST_HEADER:
            return 0
        if name == b"fmt " and at + size <= len(held):
            _check_format(held[at : at + size])
        at += size + size % 2  # chunks begin at even places
    return None if at <= _LONGEST_HEADER else 0


def _may_be_riff(held: bytes) -> bool:
    return b"RIFF".startswith(held[:4]) and b"WAVE".startswith(held[8:_RIFF_BYTES])


def _check_format(fmt: bytes) -> None:
    if len(fmt) < 16:
        return
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", fmt)
    if kind in {_FORMAT_PCM, _FORMAT_EXTENSIBLE} and (channels, rate, bits) == (1, SAMPLE_RATE, 16):
        return
    raise ForeignFormat(f"format {kind}, {channels} channels, {rate} Hz, {bits} bits")


@dataclass(slots=True)
class ItemAudio:
    """The samples of one item: no header, and never half a sample."""

    _headerless: Headerless = field(default_factory=Headerless)
    _whole: WholeSamples = field(default_factory=WholeSamples)

    @property
    def odd(self) -> bool:
        return self._whole.odd

    def feed(self, data: bytes) -> bytes:
        """Whole samples.

        Raises:
            ForeignFormat: a header announces other samples than ours.
        """
        return self._whole.feed(self._headerless.feed(data))

    def flush(self) -> bytes:
        """Whole samples that were still held back when the item ended."""
        return self._whole.feed(self._headerless.flush())
