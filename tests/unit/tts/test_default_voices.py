from __future__ import annotations

import pytest

from services.tts.default_voices import default_voice


@pytest.mark.parametrize(
    ("model", "voice"),
    [
        ("hexgrad/Kokoro-82M", "af_heart"),
        ("canopylabs/orpheus-3b-0.1-ft", "tara"),
        ("cartesia/sonic-2", ""),
        ("some/model", ""),
    ],
)
def test_a_model_has_a_voice_of_its_own_or_none_is_known(model: str, voice: str) -> None:
    assert default_voice(model) == voice
