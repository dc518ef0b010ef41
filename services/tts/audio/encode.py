"""The object that a turn's audio becomes: a header and samples, or what a coder makes of them."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final

from services.tts.audio import pcm
from shared.contract import AudioFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.tts.ports import Label

RAW: Final = frozenset({AudioFormat.WAV, AudioFormat.PCM})  # the samples, as they are
_BLOCK: Final = 1 << 20  # bytes copied at once


def duration_of(size: int, format: AudioFormat) -> int | None:  # noqa: A002  its name in the contract
    """Milliseconds of an object of so many bytes; None where only its samples tell."""
    if format is AudioFormat.WAV:
        return pcm.milliseconds(max(0, size - pcm.WAV_HEADER_BYTES))
    return pcm.milliseconds(size) if format is AudioFormat.PCM else None


def raw(audio: bytes, format: AudioFormat) -> bytes:  # noqa: A002  its name in the contract
    """The object of samples that stay as they are."""
    return pcm.wav_header(len(audio)) + audio if format is AudioFormat.WAV else audio


def encode(
    audio: IO[bytes],
    target: IO[bytes],
    samples: int,
    label: Label,
    *,
    coder: Callable[[IO[bytes], IO[bytes], Label], None],
) -> None:
    """Writes `samples` of PCM in the label's format, and leaves `target` at its start.

    `coder` does it for formats that are more than the samples; blocking, for a thread.
    """
    if label.format is AudioFormat.WAV:
        target.write(pcm.wav_header(samples * pcm.SAMPLE_WIDTH))
    if label.format in RAW:
        while block := audio.read(_BLOCK):
            target.write(block)
    else:
        coder(audio, target, label)
    target.seek(0)
