"""A voice to listen to, by espeak-ng: text to PCM, s16le, mono, 24 kHz."""

from __future__ import annotations

import ctypes
import functools
import threading
import zlib
from typing import TYPE_CHECKING, Any

import espeakng_loader  # type: ignore[import-untyped]  # it has no types
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ESPEAK_RATE = 22_050
_RETRIEVAL, _CHARS_UTF8 = 1, 1
_RATE, _PITCH = 1, 3
_WORDS_PER_MINUTE = 175
_TAPS = 16
# 24000 / 22050 in lowest terms.
_UP, _DOWN = 160, 147
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
# espeak-ng has one state for the whole process.
_lock = threading.Lock()


class _Espeak:
    """The library, and what it has said so far."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        rate = self._library.espeak_Initialize(_RETRIEVAL, 0, data, 0)
        if rate != _ESPEAK_RATE:
            raise RuntimeError(f"espeak-ng answers {rate} where {_ESPEAK_RATE} Hz were expected")
        self._heard: list[bytes] = []
        # Kept, because the library holds only a pointer to it.
        self._callback = _Callback(self._on_samples)
        self._library.espeak_SetSynthCallback(self._callback)

    def _on_samples(self, samples: Any, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._heard.append(ctypes.string_at(samples, count * 2))
        return 0

    def say(self, text: str, name: str, pitch: int, rate: int) -> bytes:
        self._heard.clear()
        language, _, variant = name.partition("+")
        for attempt in (name, language.partition("-")[0] + "+" + variant, "en-us+" + variant):
            if self._library.espeak_SetVoiceByName(attempt.encode()) == 0:
                break
        self._library.espeak_SetParameter(_RATE, rate, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        data = text.encode()
        size = ctypes.c_size_t(len(data) + 1)
        self._library.espeak_Synth(data, size, 0, 1, 0, _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return b"".join(self._heard)


@functools.cache
def _espeak() -> _Espeak:
    return _Espeak()


def audible(text: str, voice: str = "", speed: float = 1.0, language: str = "en") -> bytes:
    """The text spoken by espeak-ng; blocks for some milliseconds, and may be called in any thread.

    Names in the manner of Kokoro are understood: the first letter is the accent, the second f or m.
    """
    name, pitch = _espeak_voice(voice, language)
    rate = round(min(max(_WORDS_PER_MINUTE * speed, 80), 450))
    # A null byte would end the text for the library.
    with _lock:
        raw = _espeak().say(text.replace("\0", " "), name, pitch, rate)
    return _resampled(np.frombuffer(raw, dtype="<i2"))


def _espeak_voice(voice: str, language: str) -> tuple[str, int]:
    number = zlib.crc32(voice.encode())
    male = voice[1:2] == "m"
    if language.lower() in {"", "en"}:
        language = "en-gb" if voice[:1] == "b" else "en-us"
    variant = f"m{1 + number % 4}" if male else f"f{1 + number % 4}"
    return f"{language.lower()}+{variant}", 45 + number % 15


@functools.cache
def _filters() -> NDArray[np.float64]:
    """One windowed sinc for each of the places where a new sample lies between two old ones."""
    ends = (np.arange(_UP) * _DOWN % _UP) / _UP
    x = np.arange(_TAPS)[None, :] - (_TAPS // 2 - 1) - ends[:, None]
    window = np.cos(np.pi * x / _TAPS) ** 2
    taps = np.sinc(x) * window
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), dtype=np.float64)


def _resampled(samples: NDArray[np.int16]) -> bytes:
    blocks = -(-len(samples) // _DOWN)
    if blocks == 0:
        return b""
    padded = np.zeros(blocks * _DOWN + _TAPS, dtype=np.float64)
    padded[_TAPS // 2 - 1 : _TAPS // 2 - 1 + len(samples)] = samples
    windows = np.lib.stride_tricks.sliding_window_view(padded, _TAPS)
    first = np.arange(blocks)[:, None] * _DOWN + np.arange(_UP)[None, :] * _DOWN // _UP
    out = np.einsum("bpt,pt->bp", windows[first], _filters()).reshape(-1)
    out = out[: len(samples) * _UP // _DOWN]
    return bytes(np.clip(np.rint(out), -32768, 32767).astype("<i2").tobytes())
