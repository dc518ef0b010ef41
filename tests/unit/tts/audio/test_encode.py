from __future__ import annotations

import io
from typing import IO

import pytest

from services.tts.audio import pcm
from services.tts.audio.encode import RAW, encode, raw
from services.tts.ports import Label
from shared.contract import AudioFormat

AUDIO = bytes(range(256)) * 8_000  # more than is copied at once


def label(form: AudioFormat) -> Label:
    return Label(
        conversation_id="c",
        turn_id="t",
        attempt=1,
        model="m",
        voice="v",
        text="Hello",
        format=form,
    )


def coder(audio: IO[bytes], target: IO[bytes], label: Label) -> None:
    target.write(f"{label.format.value}: {len(audio.read())}".encode())


def made(form: AudioFormat) -> bytes:
    """What is read from the target as it was left."""
    target = io.BytesIO()
    encode(io.BytesIO(AUDIO), target, pcm.samples(len(AUDIO)), label(form), coder=coder)
    return target.read()


@pytest.mark.parametrize("form", sorted(RAW))
def test_samples_that_stay_as_they_are_make_the_same_object_at_once(form: AudioFormat) -> None:
    assert raw(AUDIO, form) == made(form)


def test_wav_is_a_header_and_the_samples() -> None:
    assert made(AudioFormat.WAV) == pcm.wav_header(len(AUDIO)) + AUDIO


def test_pcm_is_the_samples() -> None:
    assert made(AudioFormat.PCM) == AUDIO


@pytest.mark.parametrize(
    "form", [each for each in AudioFormat if each not in {AudioFormat.WAV, AudioFormat.PCM}]
)
def test_all_others_are_what_a_coder_makes_of_them(form: AudioFormat) -> None:
    assert made(form) == f"{form.value}: {len(AUDIO)}".encode()
