"""The object that a turn's audio becomes."""

from __future__ import annotations

import shutil
import tempfile
from typing import IO, TYPE_CHECKING

from services.tts.audio import pcm
from services.tts.audio.spool import MAX_IN_MEMORY
from shared.contract import AudioFormat

if TYPE_CHECKING:
    from services.tts.ports import Label


def encoded(audio: IO[bytes], samples: int, label: Label) -> IO[bytes]:
    """A file of `samples` of PCM in the label's format, at its start; for a thread."""
    target: IO[bytes] = tempfile.SpooledTemporaryFile(MAX_IN_MEMORY)  # noqa: SIM115  the caller's
    if label.format is AudioFormat.WAV:
        target.write(pcm.wav_header(samples * pcm.SAMPLE_WIDTH))
    if label.format in {AudioFormat.WAV, AudioFormat.PCM}:
        shutil.copyfileobj(audio, target, 1 << 20)
    else:
        from services.tts.audio.pyav_encode import encode  # noqa: PLC0415  40 MB that WAV never needs

        encode(audio, target, label)
    target.seek(0)
    return target
