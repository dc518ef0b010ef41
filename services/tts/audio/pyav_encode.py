"""PCM to FLAC, MP3, Opus and AAC, by FFmpeg's libraries in this process.

AAC is written as ADTS: that is what `audio/aac` and `.aac` name (AAC in MP4 would be `audio/mp4`).
ADTS has no header, so neither tags nor an exact length: players seek and show a duration by the
bit rate, which hardly varies, and hear up to 0.1 s of silence that the coder adds.
The others carry the title and the text, and their exact length: FLAC in STREAMINFO (FFmpeg writes
no seek table, players bisect), MP3 in its Xing header, Opus in its granule positions and pre-skip.
The text stands where FFmpeg puts a comment: DESCRIPTION in FLAC and Opus, TXXX:comment in MP3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Final

import av
from av.audio.stream import AudioStream
from av.codec.context import Flags

from services.tts.audio import pcm
from shared.contract import AudioFormat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from av.container import OutputContainer

    from services.tts.ports import Label

_BLOCK: Final = 48_000  # bytes fed to a coder at once: a second
_TITLE: Final = 80  # characters
_TEXT: Final = 16 * 1024  # bytes: what players read of a tag, and little beside the audio
# No date, no version, no random serial: the same recording is the same object, byte for byte.
_SAME_BYTES: Final = "+bitexact"


@dataclass(frozen=True, slots=True)
class _Coding:
    container: str
    codec: str
    bit_rate: int | None = None  # above it nobody hears a difference in one voice at 24 kHz
    options: Mapping[str, str] = field(default_factory=dict)


_CODINGS: Final = {
    AudioFormat.FLAC: _Coding("flac", "flac"),
    # ID3v2.3 is what every player reads; constant, so that players without Xing seek well too.
    AudioFormat.MP3: _Coding(
        "mp3", "libmp3lame", 64_000, {"id3v2_version": "3", "write_xing": "1"}
    ),
    AudioFormat.OPUS: _Coding("ogg", "libopus", 32_000),
    AudioFormat.AAC: _Coding("adts", "aac", 64_000),
}


def encode(audio: IO[bytes], target: IO[bytes], label: Label) -> None:
    """Reads PCM to its end and writes it in the label's format; both files stay open.

    `target` must be seekable: lengths are written into its head at last.
    """
    coding = _CODINGS[label.format]
    options = {"fflags": _SAME_BYTES, **coding.options}
    with av.open(target, "w", format=coding.container, options=options) as container:
        stream = container.add_stream(coding.codec, rate=pcm.SAMPLE_RATE)
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = "mono"
        stream.codec_context.flags |= Flags.bitexact
        if coding.bit_rate is not None:
            stream.codec_context.bit_rate = coding.bit_rate
        _tag(container, stream, label)
        for frame in _frames(audio):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _tag(container: OutputContainer, stream: AudioStream, label: Label) -> None:
    # FFmpeg writes the tags of an Ogg file from its stream, of the others from the file.
    tags = stream.metadata if label.format is AudioFormat.OPUS else container.metadata
    title, text = _title(label.text), _bounded(label.text)
    if title:
        tags["title"] = title
        tags["comment"] = text


def _title(text: str) -> str:
    words = " ".join(_printable(text[: 10 * _TITLE]).split())
    return words if len(words) <= _TITLE else words[: _TITLE - 1].rstrip() + "…"


def _bounded(text: str) -> str:
    return _printable(text).encode()[:_TEXT].decode(errors="ignore").strip()


def _printable(text: str) -> str:
    """Without what ends a C string, and without halves of characters."""
    return text.replace("\0", "").encode(errors="ignore").decode()


def _frames(audio: IO[bytes]) -> Iterator[av.AudioFrame]:
    position = 0
    while block := audio.read(_BLOCK):
        samples = pcm.samples(len(block))
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        frame.planes[0].update(block)
        frame.sample_rate = pcm.SAMPLE_RATE
        frame.time_base = Fraction(1, pcm.SAMPLE_RATE)
        frame.pts = position
        position += samples
        yield frame
