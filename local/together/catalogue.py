"""What the provider has on offer: models for text and speech, the voices of each.

Some of its names, so that a wrong one can be rehearsed; a script may name others, or none: any.
"""

from __future__ import annotations

import re
from typing import Final

CHAT_MODELS: Final = (
    "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
    "meta-llama/Meta-Llama-3.1-70B-Instruct-Turbo",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "openai/gpt-oss-120b",
    "openai/gpt-oss-20b",
    "deepseek-ai/DeepSeek-V3",
    "deepseek-ai/DeepSeek-R1",
    "Qwen/Qwen2.5-7B-Instruct-Turbo",
    "Qwen/Qwen2.5-72B-Instruct-Turbo",
    "moonshotai/Kimi-K2-Instruct",
)
_KOKORO: Final = """
    af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah
    af_sky am_adam am_echo am_eric am_fenrir am_liam am_michael am_onyx am_puck am_santa
    bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_george bm_lewis
    ef_dora em_alex em_santa ff_siwis hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola
    jf_alpha jf_gongitsune jf_nezumi jf_tebukuro jm_kumo pf_dora pm_alex pm_santa
    zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi zm_yunxia zm_yunyang
"""
_ORPHEUS: Final = "tara leah jess leo dan mia zac zoe"
# None: too many to list, any is taken.
VOICES: Final[dict[str, frozenset[str] | None]] = {
    "hexgrad/Kokoro-82M": frozenset(_KOKORO.split()),
    "canopylabs/orpheus-3b-0.1-ft": frozenset(
        ["tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe"]
    ),
    "cartesia/sonic": None,
    "cartesia/sonic-2": None,
    "cartesia/sonic-3": None,
}
SPEECH_MODELS: Final = tuple(VOICES)
_PART: Final = re.compile(r"(\w+)(?:\(\d+(?:\.\d+)?\))?")


def has_voice(model: str, voice: str) -> bool:
    """Whether the model speaks with that voice, or that blend of voices: `af_bella(2)+af_sky`."""
    known = VOICES.get(model)
    if known is None:
        return True
    parts = [_PART.fullmatch(part) for part in voice.split("+")]
    return all(part is not None and part[1] in known for part in parts)
