from __future__ import annotations

import io

import pytest

from services.tts.audio import pcm
from services.tts.audio.encode import RAW, Raw, duration_of
from shared.contract import AudioFormat

AUDIO = bytes(range(256)) * 8_000


def read(form: AudioFormat, block: int) -> bytes:
    """All of it, the second time that it is read."""
    body = Raw(io.BytesIO(AUDIO), pcm.samples(len(AUDIO)), form)
    for _ in range(2):
        body.seek(0)
        parts = list(iter(lambda: body.read(block), b""))
        assert max(map(len, parts)) <= block
    return b"".join(parts)


@pytest.mark.parametrize("block", [pcm.WAV_HEADER_BYTES, 1_000, 1 << 20, 1 << 30])
def test_wav_is_a_header_and_the_samples(block: int) -> None:
    assert read(AudioFormat.WAV, block) == pcm.wav_header(len(AUDIO)) + AUDIO


@pytest.mark.parametrize("block", [1, 1_000, 1 << 20, 1 << 30])
def test_pcm_is_the_samples(block: int) -> None:
    audio = AUDIO if block > 1 else AUDIO[:100]
    body = Raw(io.BytesIO(audio), pcm.samples(len(audio)), AudioFormat.PCM)
    assert b"".join(iter(lambda: body.read(block), b"")) == audio


@pytest.mark.parametrize("form", sorted(RAW))
def test_its_size_tells_how_long_it_is(form: AudioFormat) -> None:
    expected = pcm.milliseconds(len(AUDIO))
    assert duration_of(len(read(form, 1 << 20)), form) == expected
