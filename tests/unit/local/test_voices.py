"""The voices: text to samples."""

from __future__ import annotations

import numpy as np
import pytest

from local.voices import SAMPLE_RATE, audible, computable, resampled, spoken_texts


@pytest.mark.parametrize("text", ["a", "Hello, world.", "naïve 😀 日本語\n\t", "x" * 20_000])
@pytest.mark.parametrize("speed", [0.25, 1.0, 1.1, 4.0])
def test_the_text_can_be_read_from_the_samples_alone(text: str, speed: float) -> None:
    pcm = computable(text, "af_heart", speed, char_samples=64)
    assert spoken_texts(pcm) == [text]


def test_a_character_takes_fifty_milliseconds_and_speed_shortens_it() -> None:
    assert len(computable("abcd")) == 4 * 1200 * 2
    assert len(computable("abcd", speed=2.0)) == 4 * 600 * 2


def test_voices_differ_and_the_same_call_gives_the_same_bytes() -> None:
    assert computable("abc", "tara") == computable("abc", "tara")
    assert computable("abc", "tara") != computable("abc", "leo")


def test_texts_said_one_after_the_other_are_told_apart() -> None:
    texts = ["One.", "Two.", "x", "x", "Three."]
    assert spoken_texts(b"".join(computable(text) for text in texts)) == texts
    assert spoken_texts(b"") == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pcm: pcm[2:],  # a sample is missing at the start
        lambda pcm: pcm[:-2],  # or at the end
        lambda pcm: pcm[:-1],  # or half of one
        lambda pcm: pcm[: 1200 * 2] + pcm[1202 * 2 :],  # or in the middle
        lambda pcm: pcm[: 2400 * 2] + pcm[1200 * 2 :],  # a character comes twice
        lambda pcm: pcm[: 1200 * 2] + pcm[2400 * 2 :],  # or not at all
        lambda pcm: pcm + bytes(200),  # something else follows
    ],
)
def test_what_is_missing_doubled_or_foreign_is_found(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(ValueError, match=r"sample|bytes"):
        spoken_texts(spoil(computable("Hello")))


def test_the_audible_voice_speaks_longer_texts_longer_and_faster_ones_shorter() -> None:
    short = audible("Hello.")
    long = audible("Hello there, this is a longer sentence that takes some time.")
    fast = audible("Hello there, this is a longer sentence that takes some time.", speed=2.0)
    assert 0.2 < len(short) / 2 / SAMPLE_RATE < 2
    assert len(long) > 2 * len(short)
    assert len(fast) < 0.7 * len(long)
    assert np.abs(np.frombuffer(long, dtype="<i2")).max() > 1000


def test_the_audible_voice_knows_voices_and_languages() -> None:
    text = "Guten Tag, wie geht es Ihnen?"
    sounds = {
        audible(text, "af_heart"),
        audible(text, "am_adam"),
        audible(text, "bf_emma"),
        audible(text, "af_heart", language="de"),
    }
    assert len(sounds) == 4
    assert audible(text, "af_heart", language="no-such-language")


def test_another_rate_keeps_the_duration() -> None:
    pcm = computable("Hello")
    assert len(resampled(pcm, 16_000)) == len(pcm) * 2 // 3
    assert resampled(pcm, SAMPLE_RATE) == pcm
