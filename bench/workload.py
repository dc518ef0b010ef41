"""What is asked and answered: the same for every program that is measured."""

from __future__ import annotations

from typing import Any, Final

QUESTION: Final = "Tell me about the sea."

# Six sentences, 60 tokens as the emulator cuts them; the first has 12, of which a listener who need
# not wait for whole sentences waits for five.
REPLY: Final = (
    "Nobody has ever counted all the fish that live down there. "
    "It is salty because all the rivers carry salt down. "
    "Light stops at about two hundred metres. "
    "Below that some fish make their own light. "
    "We know the moon better than we know its floor. "
    "Most of it was never seen by us."
)
TOKENS: Final = 60
LONG_REPLY: Final = " ".join([REPLY] * 4)
SHORT_REPLY: Final = "Yes, of course."
SAMPLES_A_SECOND: Final = 24_000

FIRST_TOKEN_MS: Final = 120.0


def chat(**more: Any) -> dict[str, Any]:
    """40 tokens a second, the pace of a large model."""
    return {
        "replies": [REPLY],
        "first_token_ms": FIRST_TOKEN_MS,
        "tokens_per_second": 40.0,
        "wire_times": True,
        **more,
    }


def speech(seconds: float = 4.0) -> dict[str, Any]:
    """So many seconds of audio for the whole reply, in frames of 100 ms, made 20 times faster."""
    return {
        "char_samples": round(seconds * SAMPLES_A_SECOND / len(REPLY)),
        "first_audio_ms": 80.0,
        "realtime_factor": 20.0,
        "delta_ms": 100.0,
        "wire_times": True,
    }
