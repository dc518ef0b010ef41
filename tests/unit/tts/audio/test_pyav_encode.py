from __future__ import annotations

import io
import math
import re
import subprocess
import sys
import tempfile
from array import array
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import av
import pytest

from services.tts.audio import pcm
from services.tts.audio.pyav_encode import encode
from services.tts.ports import Label
from shared.contract import SAMPLE_RATE, AudioFormat

CODED = [AudioFormat.FLAC, AudioFormat.MP3, AudioFormat.OPUS, AudioFormat.AAC]
EXACT = [AudioFormat.FLAC, AudioFormat.MP3, AudioFormat.OPUS]
# An AAC coder looks a block ahead, and ADTS cannot say how much of the last one counts.
AAC_BLOCK = 1024
TEXT = "Grüße aus der Küche: 你好!\nEine zweite Zeile."


def label(form: AudioFormat, text: str = TEXT) -> Label:
    return Label(
        conversation_id="c",
        turn_id="t",
        attempt=1,
        model="m",
        voice="v",
        text=text,
        format=form,
    )


@cache
def tone(samples: int, hertz: float = 220) -> bytes:
    """A tone that swells, so that a shift in time shows."""
    step = 2 * math.pi * hertz / SAMPLE_RATE
    return array(
        "h", (int(9000 * math.sin(i * step) * abs(math.sin(i / 9000))) for i in range(samples))
    ).tobytes()


def made(form: AudioFormat, audio: bytes, text: str = TEXT) -> bytes:
    target = io.BytesIO()
    encode(io.BytesIO(audio), target, label(form, text))
    return target.getvalue()


def opened(data: bytes) -> av.container.InputContainer:
    return av.open(io.BytesIO(data), "r")


def decoded(data: bytes) -> bytes:
    """As a player hears it, at our rate."""
    heard = bytearray()
    with opened(data) as container:
        player = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for frame in [*container.decode(audio=0), None]:
            for part in player.resample(frame):
                heard += bytes(part.planes[0])[: part.samples * pcm.SAMPLE_WIDTH]
    return bytes(heard)


def likeness(one: bytes, other: bytes) -> float:
    """1 where both sound the same at the same time."""
    a, b = array("h", one), array("h", other)
    product = sum(x * y for x, y in zip(a, b, strict=False))
    return product / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def tags(form: AudioFormat, data: bytes) -> dict[str, str]:
    with opened(data) as container:
        return container.streams[0].metadata if form is AudioFormat.OPUS else container.metadata


@pytest.mark.parametrize("samples", [240, 4607, 24_000, 80_001])
@pytest.mark.parametrize("form", EXACT)
def test_a_player_hears_as_many_samples_as_there_were(form: AudioFormat, samples: int) -> None:
    heard = decoded(made(form, tone(samples)))
    # Opus is made and heard at 48 kHz: the way back may cost a sample at each end.
    slack = 2 if form is AudioFormat.OPUS else 0
    assert abs(pcm.samples(len(heard)) - samples) <= slack


@pytest.mark.parametrize("samples", [240, 24_000, 80_001])
def test_aac_is_longer_by_less_than_three_blocks(samples: int) -> None:
    heard = pcm.samples(len(decoded(made(AudioFormat.AAC, tone(samples)))))
    assert samples <= heard < samples + 3 * AAC_BLOCK


def test_flac_loses_nothing() -> None:
    audio = tone(80_001)
    assert decoded(made(AudioFormat.FLAC, audio)) == audio


@pytest.mark.parametrize("form", EXACT)
def test_what_is_heard_sounds_the_same_at_the_same_time(form: AudioFormat) -> None:
    audio = tone(48_000)
    assert likeness(audio, decoded(made(form, audio))) > 0.98


def test_aac_sounds_the_same_a_block_later() -> None:
    audio = tone(48_000)
    heard = decoded(made(AudioFormat.AAC, audio))[AAC_BLOCK * pcm.SAMPLE_WIDTH :]
    assert likeness(audio, heard) > 0.98


@pytest.mark.parametrize("form", CODED)
def test_the_file_itself_tells_its_length(form: AudioFormat) -> None:
    with opened(made(form, tone(120_000))) as container:
        assert container.duration is not None
        # Opus counts its pre-skip in; ADTS has to be judged by its size.
        slack = {AudioFormat.OPUS: 0.0066, AudioFormat.AAC: 0.5}.get(form, 0.0001)
        assert container.duration / av.time_base == pytest.approx(5.0, abs=slack)


def test_the_head_of_each_format_names_the_length() -> None:
    audio = tone(120_000)
    flac = made(AudioFormat.FLAC, audio)
    assert int.from_bytes(flac[21:26]) & 0xF_FFFF_FFFF == 120_000  # STREAMINFO, total samples
    assert any(flac[26:42])  # and their MD5
    mp3 = made(AudioFormat.MP3, audio)
    assert b"Info" in mp3[:2000]  # Xing's header for a constant bit rate
    opus = made(AudioFormat.OPUS, audio)
    head = opus.index(b"OpusHead")
    assert int.from_bytes(opus[head + 10 : head + 12], "little") == 312  # pre-skip, at 48 kHz
    assert int.from_bytes(opus[head + 12 : head + 16], "little") == SAMPLE_RATE


@pytest.mark.parametrize("form", EXACT)
def test_a_player_may_jump_into_it(form: AudioFormat) -> None:
    with opened(made(form, tone(480_000))) as container:
        container.seek(15 * av.time_base)
        frame = next(container.decode(audio=0))
        assert frame.time is not None
        assert 13 < frame.time <= 15.1


@pytest.mark.parametrize("form", EXACT)
def test_it_carries_its_title_and_its_text(form: AudioFormat) -> None:
    found = tags(form, made(form, tone(2400)))
    assert found["title"] == "Grüße aus der Küche: 你好! Eine zweite Zeile."
    assert found["comment"] == TEXT


@pytest.mark.parametrize("form", EXACT)
def test_a_long_text_is_cut_and_hostile_characters_are_left_out(form: AudioFormat) -> None:
    found = tags(form, made(form, tone(2400), "a\0b\ud83d " + "語" * 20_000))
    assert found["title"] == "ab " + "語" * 76 + "…"
    assert found["comment"] == "ab " + "語" * 5460  # 16 kB, whole characters


@pytest.mark.parametrize("form", CODED)
@pytest.mark.parametrize("text", ["", " \n\0"])
def test_a_text_of_nothing_is_no_tag(form: AudioFormat, text: str) -> None:
    found = tags(form, made(form, tone(2400), text))
    assert "title" not in found
    assert "comment" not in found


@pytest.mark.parametrize("form", CODED)
def test_the_same_recording_is_the_same_object(form: AudioFormat) -> None:
    assert made(form, tone(30_000)) == made(form, tone(30_000))


@pytest.mark.parametrize("form", CODED)
def test_no_version_of_the_coder_is_in_it(form: AudioFormat) -> None:
    assert re.search(rb"Lav[cf]\d|libopus \d", made(form, tone(30_000))) is None


def test_several_at_once_do_not_disturb_each_other() -> None:
    jobs = [(form, tone(24_000, hertz)) for form in CODED for hertz in (200, 300, 400)]
    alone = [made(*job) for job in jobs]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda job: made(*job), jobs)) == alone


@pytest.mark.parametrize("form", CODED)
def test_it_reads_block_by_block_and_leaves_both_files_open(form: AudioFormat) -> None:
    class Source(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert size > 0
            self.largest = max(self.largest, size)
            return super().read(size)

    source, target = Source(tone(240_000)), io.BytesIO()
    encode(source, target, label(form))
    assert source.largest <= 65_536
    assert not source.closed
    assert target.getvalue() == made(form, tone(240_000))


_LONG = """
import resource, sys, tempfile
from shared.contract import AudioFormat
from services.tts.audio.pyav_encode import encode
from services.tts.ports import Label

label = Label(conversation_id="c", turn_id="t", attempt=1, model="m", voice="v",
              text="words " * 8000, format=AudioFormat(sys.argv[1]))
minute = bytes(range(0, 250, 5)) * 57_600

def peak(minutes):
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        for _ in range(minutes):
            source.write(minute)
        source.seek(0)
        encode(source, target, label)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

print(-peak(1) + peak(int(sys.argv[2])))
"""


@pytest.mark.parametrize(("form", "minutes"), [(AudioFormat.FLAC, 20), (AudioFormat.AAC, 4)])
def test_a_long_recording_takes_no_memory(form: AudioFormat, minutes: int) -> None:
    grown = subprocess.run(
        [sys.executable, "-c", _LONG, form.value, str(minutes)],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[4],
        timeout=60,
    ).stdout
    assert int(grown) < 4_000  # kB; the limit for 20 minutes is 30 MB


def test_a_file_on_disk_is_written_as_well() -> None:
    with tempfile.TemporaryFile() as target:
        encode(io.BytesIO(tone(24_000)), target, label(AudioFormat.FLAC))
        target.seek(0)
        assert target.read() == made(AudioFormat.FLAC, tone(24_000))
