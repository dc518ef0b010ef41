"""A voice that a test can compute, and read again: text to PCM, s16le, mono, 24 kHz."""

from __future__ import annotations

import zlib

import numpy as np

SAMPLE_RATE = 24_000
CHAR_SAMPLES = 1200  # 50 ms a character is about how fast people speak

# No character's block can hold these two in a row elsewhere: all other values are below 16,384.
MARK = (0x7A5A, -0x7A5A)
_HEADER = 8
_LOW = 0x3FFF  # 14 bits to a sample


def computable(
    text: str, voice: str = "", speed: float = 1.0, *, char_samples: int = CHAR_SAMPLES
) -> bytes:
    """The samples of a text as a pure function of what is said, by whom, and how fast.

    Each character becomes a block of `max(16, round(char_samples / speed))` samples:

        0, 1   the mark 31322, -31322
        2      the character's index in the text, modulo 16384
        3, 4   its code point: the low 14 bits, then the rest
        5      crc32 of the voice's name in UTF-8, low 14 bits
        6      the number of samples in the block
        7      the sum of samples 2 to 6, low 14 bits
        8 …    a constant: (code point + index) modulo 200, minus 100

    so that `spoken_texts` finds in samples alone which texts they say, and a test that knows the
    text can ask for exactly these bytes. Samples are 16 bit, little endian.
    """
    size = max(16, round(char_samples / speed))
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
    index = np.arange(len(codes), dtype=np.int64)
    blocks = np.empty((len(codes), size), dtype="<i2")
    blocks[:, 0], blocks[:, 1] = MARK
    header = np.empty((len(codes), 5), dtype=np.int64)
    header[:, 0] = index & _LOW
    header[:, 1] = codes & _LOW
    header[:, 2] = codes >> 14
    header[:, 3] = zlib.crc32(voice.encode()) & _LOW
    header[:, 4] = size & _LOW
    blocks[:, 2:7] = header
    blocks[:, 7] = header.sum(axis=1) & _LOW
    blocks[:, _HEADER:] = (((codes + index) % 200) - 100)[:, None]
    return blocks.tobytes()


def spoken_texts(pcm: bytes) -> list[str]:
    """The texts that samples of the computable voice say, one for each time it began anew.

    Raises: ValueError, naming the sample, where something is missing, doubled or foreign.
    """
    if len(pcm) % 2:
        raise ValueError(f"{len(pcm)} bytes: not whole samples")
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.int64)
    texts: list[list[str]] = []
    at = expected = 0
    while at < len(samples):
        block = samples[at : at + _HEADER]
        if len(block) < _HEADER or tuple(block[:2]) != MARK or sum(block[2:7]) & _LOW != block[7]:
            raise ValueError(f"sample {at}: no character begins here")
        index, low, high, _, size = (int(value) for value in block[2:7])
        code = low | high << 14
        tone = samples[at + _HEADER : at + size]
        if len(tone) != size - _HEADER or np.any(tone != tone[0]):
            raise ValueError(f"sample {at}: the character {chr(code)!r} is not whole")
        if index == 0 and expected & _LOW != 0:
            expected = 0
        if index != expected & _LOW:
            raise ValueError(f"sample {at}: character {index} where {expected} should be")
        if expected == 0:
            texts.append([])
        texts[-1].append(chr(code))
        at += size
        expected += 1
    return ["".join(text) for text in texts]


def resampled(pcm: bytes, rate: int) -> bytes:
    """24 kHz to another rate, by straight lines: for the models that honour `sample_rate`."""
    if rate == SAMPLE_RATE or not pcm:
        return pcm
    samples = np.frombuffer(pcm, dtype="<i2")
    wanted = np.arange(len(samples) * rate // SAMPLE_RATE) * (SAMPLE_RATE / rate)
    new = np.interp(wanted, np.arange(len(samples)), samples)
    return bytes(np.rint(new).astype("<i2").tobytes())
