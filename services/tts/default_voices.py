"""Noun: the voice of each model, for a request or a setting that names a model and no voice."""

from __future__ import annotations

from typing import Final

# By how a model's name begins. A model knows no other model's voices.
_VOICES: Final = {
    "hexgrad/Kokoro": "af_heart",
    "canopylabs/orpheus": "tara",
}


def default_voice(model: str) -> str:
    """Empty where none is known: then none is sent, and the provider chooses."""
    return next((voice for name, voice in _VOICES.items() if model.startswith(name)), "")
