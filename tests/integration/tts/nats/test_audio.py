"""The events of one turn's voice as they stand in the stream, and their replay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from prometheus_client import REGISTRY

from services.tts.nats.audio import KEEPS_UP, MAX_CHUNK, NatsAudio
from services.tts.ports import VoiceParams
from services.tts.text.segments import Piece
from shared.contract import PCM_CONTENT_TYPE, AudioFailed, Code, Error, Word
from shared.errors import Superseded
from shared.nats.connection import Connection
from tests.integration.harness import Lease, held

pytestmark = pytest.mark.timeout(120)

PARAMS = VoiceParams(model="m", voice="v")
LONG_AGO = "2020-01-01T00:00:00Z"


def voice_of(connection: Connection, turn_id: str = "t", lease: Lease | None = None) -> NatsAudio:
    return NatsAudio(connection, "c", turn_id, lease or Lease(), {"traceparent": "x"})


def piece(index: int) -> Piece:
    text = f"Piece {index}."
    return Piece(index=index, text=text, start=index * 10, end=index * 10 + len(text))


def pcm(index: int, count: int = 5_000) -> bytes:
    return bytes([index, 1]) * count


async def speak(audio: NatsAudio, *pieces: int, attempt: int = 1, last_done: bool = True) -> None:
    await audio.started(attempt, PARAMS)
    for index in pieces:
        await audio.piece(piece(index))
        await audio.chunk(index, pcm(index))
        if last_done or index != pieces[-1]:
            await audio.piece_done(index, 5_000, [Word("Piece", 0, 100)])
    await audio.drained()


async def test_each_start_names_what_the_request_may_have_misspelled(
    connection: Connection,
) -> None:
    audio = NatsAudio(connection, "c", "t", Lease(), {}, warnings=["`voce`: did you mean `voice`?"])
    await audio.started(1, PARAMS)
    await audio.started(2, PARAMS)
    await audio.drained()
    told = [msgspec.json.decode(message.data) for message in await held(connection, "TTS_AUDIO")]
    assert [each["warnings"] for each in told] == [["`voce`: did you mean `voice`?"]] * 2


async def test_a_start_has_no_warnings_where_there_are_none(connection: Connection) -> None:
    audio = voice_of(connection)
    await audio.started(1, PARAMS)
    await audio.drained()
    (told,) = await held(connection, "TTS_AUDIO")
    assert "warnings" not in msgspec.json.decode(told.data)


async def test_a_listener_gets_events_and_sound_with_their_headers(connection: Connection) -> None:
    await speak(voice_of(connection), 0)
    messages = await held(connection, "TTS_AUDIO")
    assert [m.subject for m in messages] == ["tts.audio.c"] * 4
    kinds = [m.headers["Parley-Type"] for m in messages]
    assert kinds == ["started", "piece", "chunk", "piece_done"]
    for message in messages:
        assert message.headers["Parley-Conversation"] == "c"
        assert message.headers["Parley-Turn"] == "t"
        assert message.headers["Parley-Attempt"] == "1"
        assert message.headers["traceparent"] == "x"
    sound = messages[2]
    assert sound.data == pcm(0)
    assert sound.headers["Parley-Seq"] == "0"
    assert sound.headers["Parley-Piece"] == "0"
    assert sound.headers["Content-Type"] == PCM_CONTENT_TYPE
    assert msgspec.json.decode(messages[1].data)["chars"] == [0, 8]
    assert msgspec.json.decode(messages[3].data)["samples"] == 5_000


async def test_much_sound_is_cut_into_small_chunks_of_whole_samples(connection: Connection) -> None:
    audio = voice_of(connection)
    sound = bytes(range(256)) * 1_500  # 384,000 bytes
    await audio.started(1, PARAMS)
    await audio.chunk(0, sound)
    await audio.chunk(1, sound[:100])
    await audio.chunk(1, b"")
    await audio.drained()
    chunks = [m for m in await held(connection, "TTS_AUDIO") if m.headers["Parley-Type"] == "chunk"]
    assert MAX_CHUNK <= 32 * 1024
    assert all(len(m.data) <= MAX_CHUNK and len(m.data) % 2 == 0 and m.data for m in chunks)
    assert b"".join(m.data for m in chunks[:-1]) == sound
    assert [m.headers["Parley-Seq"] for m in chunks] == [str(n) for n in range(len(chunks))]


async def test_a_chunk_that_is_offered_stands_in_its_place_like_any_other(
    connection: Connection,
) -> None:
    audio = voice_of(connection)
    await audio.started(1, PARAMS)
    await audio.piece(piece(0))
    assert audio.offer(0, pcm(0, 100))
    await audio.chunk(0, pcm(1, 100))
    assert audio.offer(0, pcm(2, 100))
    assert audio.offer(1, pcm(3, 100))
    await audio.started(2, PARAMS)
    assert audio.offer(0, pcm(4, 100))
    await audio.drained()
    chunks = [m for m in await held(connection, "TTS_AUDIO") if m.headers["Parley-Type"] == "chunk"]
    assert [m.data for m in chunks] == [pcm(n, 100) for n in range(5)]
    told = [
        tuple(m.headers[f"Parley-{name}"] for name in ("Attempt", "Seq", "Piece")) for m in chunks
    ]
    assert told == [
        ("1", "0", "0"),
        ("1", "1", "0"),
        ("1", "2", "0"),
        ("1", "3", "1"),
        ("2", "0", "0"),
    ]
    assert len({m.headers["Nats-Msg-Id"] for m in chunks}) == 5
    assert {m.headers["Content-Type"] for m in chunks} == {PCM_CONTENT_TYPE}


async def test_an_offer_is_declined_where_a_chunk_would_wait_or_be_cut(
    connection: Connection,
) -> None:
    lease = Lease()
    audio = voice_of(connection, lease=lease)
    await audio.started(1, PARAMS)
    assert not audio.offer(0, bytes(MAX_CHUNK + 2))
    taken = 0
    while audio.offer(0, pcm(0, 10)):  # nobody reads acks meanwhile
        taken += 1
    assert 0 < taken <= KEEPS_UP
    await audio.drained()
    lease.fresh = False
    assert not audio.offer(0, pcm(0, 10))


async def test_what_was_published_is_replayed(connection: Connection) -> None:
    await speak(voice_of(connection), 0, 1, 2)
    replay = await voice_of(connection).replay(LONG_AGO)
    assert [(p.index, sound) for p, sound in replay.in_order()] == [(n, pcm(n)) for n in range(3)]
    assert (replay.attempt, replay.end) == (1, None)
    assert replay.submitted == {"m": 24}


async def test_what_stands_in_order_is_intact(connection: Connection) -> None:
    audio = voice_of(connection)
    await speak(audio, 0, 1, 2, last_done=False)
    assert await audio.intact(LONG_AGO) == 2
    await audio.started(2, PARAMS)
    await audio.chunk(2, pcm(2))
    await audio.piece(piece(2))
    await audio.piece_done(2, 5_000, [])
    await audio.drained()
    assert await audio.intact(LONG_AGO) == 2


async def test_a_voice_is_begun_where_the_conversation_has_older_ones(
    connection: Connection,
) -> None:
    await speak(voice_of(connection, "other"), 0)
    assert await voice_of(connection).intact("2999-01-01T00:00:00.000Z") == 0


async def test_nothing_is_replayed_of_a_voice_that_was_not_begun(connection: Connection) -> None:
    await speak(voice_of(connection, "other"), 0, 1)
    replay = await voice_of(connection).replay(LONG_AGO)
    assert (list(replay.in_order()), replay.attempt) == ([], 0)


async def test_what_a_replaced_worker_still_said_is_not_replayed(connection: Connection) -> None:
    first, second = voice_of(connection), voice_of(connection)
    await speak(first, 0, 1, last_done=False)
    await second.started(2, PARAMS)
    await second.piece(piece(1))
    # Thawed again, the first one says what it had on its lips.
    await first.chunk(1, b"\x07\x07" * 100)
    await first.piece_done(1, 5_100, [])
    await first.piece(piece(2))
    await first.drained()
    await second.chunk(1, pcm(1))
    await second.piece_done(1, 5_000, [])
    await second.drained()
    replay = await voice_of(connection).replay(LONG_AGO)
    assert [(p.index, sound) for p, sound in replay.in_order()] == [(0, pcm(0)), (1, pcm(1))]
    assert replay.attempt == 2


async def test_the_end_is_replayed_and_told_once(connection: Connection) -> None:
    error = Error(Code.INTERNAL, "why", retryable=False)
    audio = voice_of(connection)
    await speak(audio, 0)
    for attempt in (1, 2):
        await voice_of(connection).end(AudioFailed("c", "t", attempt, error=error))
    replay = await audio.replay(LONG_AGO)
    assert replay.end == AudioFailed("c", "t", 1, error=error)
    kinds = [m.headers["Parley-Type"] for m in await held(connection, "TTS_AUDIO")]
    assert kinds.count("failed") == 1


async def test_long_voices_are_replayed_whole(connection: Connection) -> None:
    audio = voice_of(connection)
    await audio.started(1, PARAMS)
    for index in range(30):
        await audio.piece(piece(index))
        await audio.chunk(index, pcm(index, 120_000))  # 5 s each
        await audio.piece_done(index, 120_000, [])
    await audio.drained()
    replay = await audio.replay(LONG_AGO)
    assert [sound for _, sound in replay.in_order()] == [pcm(n, 120_000) for n in range(30)]


async def test_who_has_been_replaced_ends_nothing(connection: Connection) -> None:
    lease = Lease()
    audio = voice_of(connection, lease=lease)
    await speak(audio, 0)
    before = await held(connection, "TTS_AUDIO")
    lease.fresh, lease.superseded = False, True
    with pytest.raises(Superseded):
        await audio.piece_done(0, 5_000, [])
    with pytest.raises(Superseded):
        await audio.end(
            AudioFailed("c", "t", 1, error=Error(Code.INTERNAL, "why", retryable=False))
        )
    assert await held(connection, "TTS_AUDIO") == before


def observed(name: str, what: str = "count") -> float:
    return REGISTRY.get_sample_value(f"parley_{name}_seconds_{what}") or 0.0


async def test_the_first_sound_and_the_silence_between_pieces_are_counted(
    connection: Connection,
) -> None:
    asked = datetime.now(UTC) - timedelta(seconds=7)
    audio = NatsAudio(connection, "c", "t", Lease(), {}, asked_at=asked)
    sounds, waited = observed("first_sound"), observed("first_sound", "sum")
    gaps = observed("piece_gap")
    await speak(audio, 0, 1)
    await audio.drained()

    assert observed("first_sound") - sounds == 1
    assert observed("first_sound", "sum") - waited >= 7
    assert observed("piece_gap") - gaps == 1


async def test_sound_that_another_worker_has_made_before_is_not_the_first(
    connection: Connection,
) -> None:
    await speak(voice_of(connection), 0)
    audio = NatsAudio(connection, "c", "t", Lease(), {}, asked_at=datetime.now(UTC))
    await audio.replay(LONG_AGO)
    before = observed("first_sound")
    await speak(audio, 1, attempt=2)

    assert observed("first_sound") == before
