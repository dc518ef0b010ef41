"""Samples, odd splits, headers."""

from __future__ import annotations

import io
import struct
import wave

import pytest

from services.tts.audio import pcm

AUDIO = bytes(range(256)) * 4


def header(*, size: int = 0xFFFFFFFF, extra: bytes = b"", fmt: bytes | None = None) -> bytes:
    """As streaming servers write it: sizes that mean nothing, chunks that nobody asked for."""
    fmt = fmt or struct.pack("<HHIIHH", 1, 1, 24_000, 48_000, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", size)
        + b"WAVE"
        + b"fmt "
        + struct.pack("<I", len(fmt))
        + fmt
        + extra
        + b"data"
        + struct.pack("<I", size)
    )


def fed(stream: pcm.Headerless | pcm.ItemAudio, data: bytes, cuts: list[int]) -> bytes:
    out, start = b"", 0
    for end in [*cuts, len(data)]:
        out += stream.feed(data[start:end])
        start = end
    return out + stream.flush()


def test_bytes_samples_seconds_and_back() -> None:
    assert pcm.samples(48_001) == 24_000
    assert pcm.seconds(48_000) == 1.0
    assert pcm.milliseconds(2400) == 50
    assert pcm.n_bytes(0.5) == 24_000


def test_what_we_write_is_a_wav_file() -> None:
    with wave.open(io.BytesIO(pcm.wav_header(len(AUDIO)) + AUDIO)) as read:
        assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (24_000, 1, 2)
        assert read.readframes(10_000) == AUDIO
    assert len(pcm.wav_header(0)) == pcm.WAV_HEADER_BYTES


def test_more_than_a_wav_can_say_is_said_as_much_as_possible() -> None:
    assert pcm.wav_header(2**40)[-4:] == b"\xff\xff\xff\xff"


@pytest.mark.parametrize("limit", [2, 3, 7, 100, 1023, 1024, 1025])
def test_parts_are_whole_samples_and_nothing_is_lost(limit: int) -> None:
    parts = list(pcm.parts(AUDIO, limit))
    assert b"".join(parts) == AUDIO
    assert all(len(part) <= limit and len(part) % 2 == 0 for part in parts)


def test_parts_of_nothing_and_parts_too_small() -> None:
    assert list(pcm.parts(b"", 10)) == []
    with pytest.raises(ValueError, match="no whole sample"):
        list(pcm.parts(AUDIO, 1))


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1023])
def test_odd_splits_come_out_whole(step: int) -> None:
    whole = pcm.WholeSamples()
    out = [whole.feed(AUDIO[at : at + step]) for at in range(0, len(AUDIO), step)]
    assert all(len(part) % 2 == 0 for part in out)
    assert b"".join(out) == AUDIO
    assert not whole.odd


def test_half_a_sample_waits_for_its_other_half() -> None:
    whole = pcm.WholeSamples()
    assert whole.feed(b"abc") == b"ab"
    assert whole.odd
    assert whole.feed(b"") == b""
    assert whole.feed(b"d") == b"cd"


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_header_in_two_deltas_is_taken_off(cut: int) -> None:
    assert fed(pcm.Headerless(), header() + AUDIO, [cut]) == AUDIO


@pytest.mark.parametrize("size", [0, 36, 0x7FFFFFFF, 0xFFFFFFFF])
def test_the_sizes_in_a_header_are_not_believed(size: int) -> None:
    data = header(size=size) + AUDIO
    assert fed(pcm.Headerless(), data, list(range(1, len(data)))) == AUDIO


def test_chunks_before_the_data_are_skipped_odd_ones_with_their_padding() -> None:
    extra = b"LIST" + struct.pack("<I", 5) + b"Lavf5\0" + b"fact" + struct.pack("<I", 4) + b"abcd"
    assert fed(pcm.Headerless(), header(extra=extra) + AUDIO, [3, 50, 61]) == AUDIO


@pytest.mark.parametrize("start", [b"R", b"RI", b"RIFx", b"RIFF1234WAVX", b"\0\0", b"FFIR"])
def test_samples_that_look_a_little_like_a_header_stay(start: bytes) -> None:
    data = start + b"\1\0" * 20
    for cuts in ([], [1], list(range(1, len(data)))):
        assert fed(pcm.Headerless(), data, cuts) == data


@pytest.mark.parametrize("short", [b"", b"R", b"RIFF", b"RIFF12"])
def test_a_stream_that_ends_before_it_is_decided_was_samples(short: bytes) -> None:
    assert fed(pcm.Headerless(), short, []) == short


def test_a_header_without_any_audio_is_silence() -> None:
    assert fed(pcm.Headerless(), header(), []) == b""
    assert fed(pcm.Headerless(), header()[:30], []) == b""


def test_only_the_start_of_a_stream_has_a_header() -> None:
    assert fed(pcm.Headerless(), AUDIO + header() + AUDIO, [len(AUDIO)]) == AUDIO + header() + AUDIO


def test_a_chunk_of_impossible_length_means_that_it_is_no_header() -> None:
    data = b"RIFF1234WAVE" + b"xxxx" + b"\xff\xff\xff\x7f" + AUDIO
    assert fed(pcm.Headerless(), data, [14]) == data


@pytest.mark.parametrize(
    "fmt",
    [
        struct.pack("<HHIIHH", 1, 1, 44_100, 88_200, 2, 16),
        struct.pack("<HHIIHH", 1, 2, 24_000, 96_000, 4, 16),
        struct.pack("<HHIIHH", 3, 1, 24_000, 96_000, 4, 32),
        struct.pack("<HHIIHH", 7, 1, 24_000, 24_000, 1, 8),
    ],
)
def test_other_samples_than_ours_are_refused_by_name(fmt: bytes) -> None:
    with pytest.raises(pcm.ForeignFormat):
        pcm.Headerless().feed(header(fmt=fmt) + AUDIO)


def test_an_item_loses_its_header_and_keeps_whole_samples() -> None:
    data = header() + AUDIO
    for step in (1, 2, 3, 7, 43, 45):
        item = pcm.ItemAudio()
        out = [item.feed(data[at : at + step]) for at in range(0, len(data), step)]
        assert all(len(part) % 2 == 0 for part in out)
        assert b"".join(out) + item.flush() == AUDIO
