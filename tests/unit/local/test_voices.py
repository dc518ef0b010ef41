"""The computable voice: text to samples, and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from local.voices import SAMPLE_RATE, computable, resampled, spoken_texts

texts = st.text(st.characters(codec="utf-8"), min_size=1)


@given(texts, st.text(st.characters(codec="utf-8")), st.floats(0.25, 4.0))
def test_the_text_can_be_read_from_the_samples_alone(text: str, voice: str, speed: float) -> None:
    assert spoken_texts(computable(text, voice, speed, char_samples=64)) == [text]


def test_a_text_longer_than_its_numbers_reach_can_be_read_as_well() -> None:
    assert spoken_texts(computable("x" * 20_000, char_samples=16)) == ["x" * 20_000]


def test_a_character_takes_fifty_milliseconds_and_speed_shortens_it() -> None:
    assert len(computable("abcd")) == 4 * 1200 * 2
    assert len(computable("abcd", speed=2.0)) == 4 * 600 * 2


def test_voices_differ_and_the_same_call_gives_the_same_bytes() -> None:
    assert computable("abc", "tara") == computable("abc", "tara")
    assert computable("abc", "tara") != computable("abc", "leo")


@given(st.lists(texts))
@example(["x", "x"])
def test_texts_said_one_after_the_other_are_told_apart(said: list[str]) -> None:
    assert spoken_texts(b"".join(computable(text, char_samples=48) for text in said)) == said


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


def test_another_rate_keeps_the_duration() -> None:
    pcm = computable("Hello")
    assert len(resampled(pcm, 16_000)) == len(pcm) * 2 // 3
    assert resampled(pcm, SAMPLE_RATE) == pcm
