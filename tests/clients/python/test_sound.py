"""The sound of a turn, as it is kept and as it is played."""

from __future__ import annotations

import io
import wave

from parley.contract import AudioStarted, Piece, PieceDone
from parley.events import Chunk, VoiceEvent
from parley.sound import Heard, Sound, wav


def piece(attempt: int, index: int) -> Piece:
    return Piece("c", "t", attempt, index=index, text="x", chars=(0, 1))


def chunk(attempt: int, seq: int, index: int, pcm: bytes) -> Chunk:
    return Chunk("c", "t", attempt, seq, index, pcm)


def done(attempt: int, index: int, samples: int) -> PieceDone:
    return PieceDone("c", "t", attempt, index=index, samples=samples)


def started(attempt: int) -> AudioStarted:
    return AudioStarted("c", "t", attempt, model="m", voice="v")


TWICE: list[VoiceEvent] = [
    started(1),
    piece(1, 0),
    chunk(1, 0, 0, b"aa"),
    done(1, 0, 1),
    piece(1, 1),
    chunk(1, 1, 1, b"bbcc"),
    started(2),
    piece(2, 1),
    chunk(2, 0, 1, b"bb"),
    chunk(2, 1, 1, b"ccdd"),
    done(2, 1, 3),
]


def test_the_sound_is_what_was_said_last_of_each_piece() -> None:
    sound = Sound()
    for event in TWICE:
        sound.add(event)

    assert sound.pcm == b"aabbccdd"
    assert sound.seconds == 4 / 24_000


def test_a_piece_that_is_not_done_is_no_part_of_the_sound() -> None:
    sound = Sound()
    for event in TWICE[:6]:
        sound.add(event)

    assert sound.pcm == b"aa"


def test_nothing_is_played_twice() -> None:
    heard = Heard()

    assert b"".join(heard.add(event) for event in TWICE) == b"aabbccdd"


def test_a_wav_file_says_how_it_is_played() -> None:
    with wave.open(io.BytesIO(wav(b"\1\0\2\0"))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.readframes(9) == b"\1\0\2\0"
