"""The voice to listen to."""

from __future__ import annotations

import numpy as np

from local.together.espeak import audible
from local.voices import SAMPLE_RATE


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
