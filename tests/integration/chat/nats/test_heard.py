"""What was heard of a turn's voice, read back from the events of the voice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.chat.heard import heard_text
from services.chat.nats.heard import NatsHeard
from shared.contract import (
    H_ATTEMPT,
    H_PIECE,
    H_SEQ,
    H_TURN,
    H_TYPE,
    SAMPLE_RATE,
    SAMPLE_WIDTH,
    AudioEvent,
    AudioFailed,
    AudioStarted,
    Kind,
    Piece,
    PieceDone,
    Word,
    encode,
    tts_audio,
)
from shared.errors import Internal
from shared.nats.connection import Connection
from shared.nats.publish import publish

pytestmark = pytest.mark.timeout(120)

TEXT = "First comes this. Then that follows. And the rest."
PIECES = ((0, 17), (17, 36), (36, 50))


class Voice:
    """Publishes the events of a voice as a speech worker does."""

    def __init__(self, connection: Connection, turn_id: str = "t", attempt: int = 1) -> None:
        self.connection, self.turn_id, self.attempt = connection, turn_id, attempt

    async def _tell(self, kind: Kind, data: bytes, **more: str) -> None:
        headers = {H_TURN: self.turn_id, H_TYPE: kind.value, H_ATTEMPT: str(self.attempt)}
        await publish(self.connection, tts_audio("c"), data, headers | more)

    async def _event(self, kind: Kind, event: AudioEvent) -> None:
        await self._tell(kind, encode(event))

    async def started(self) -> None:
        await self._event(
            Kind.STARTED, AudioStarted("c", self.turn_id, self.attempt, model="m", voice="v")
        )

    async def failed(self) -> None:
        error = Internal("x").as_error()
        await self._event(Kind.FAILED, AudioFailed("c", self.turn_id, self.attempt, error=error))

    async def piece(self, index: int) -> None:
        start, end = PIECES[index]
        event = Piece(
            "c", self.turn_id, self.attempt, index=index, text=TEXT[start:end], chars=(start, end)
        )
        await self._event(Kind.PIECE, event)

    async def chunk(self, index: int, ms: int) -> None:
        silence = bytes(SAMPLE_RATE * ms // 1000 * SAMPLE_WIDTH)
        await self._tell(Kind.CHUNK, silence, **{H_PIECE: str(index), H_SEQ: "0"})

    async def piece_done(self, index: int, ms: int, *words: Word) -> None:
        samples = SAMPLE_RATE * ms // 1000
        event = PieceDone(
            "c", self.turn_id, self.attempt, index=index, samples=samples, words=list(words)
        )
        await self._event(Kind.PIECE_DONE, event)

    async def say(self, index: int, ms: int) -> None:
        await self.piece(index)
        await self.chunk(index, ms)
        await self.piece_done(index, ms)


async def heard(connection: Connection, ms: int, *, turn_id: str = "t", since: str = "") -> str:
    since = since or "2020-01-01T00:00:00Z"
    pieces = await NatsHeard(connection).pieces("c", turn_id, since)
    return heard_text(pieces or [], ms, TEXT)


async def test_nothing_was_said_so_nothing_was_heard(connection: Connection) -> None:
    assert await heard(connection, 10_000) == ""


async def test_a_voice_that_has_ended_without_a_piece_is_none(connection: Connection) -> None:
    voice, since = Voice(connection), "2020-01-01T00:00:00Z"
    await voice.started()
    assert await NatsHeard(connection).pieces("c", "t", since) == []
    await voice.failed()
    assert await NatsHeard(connection).pieces("c", "t", since) is None


async def test_a_voice_whose_beginning_is_no_longer_kept_is_none(connection: Connection) -> None:
    voice = Voice(connection)
    await voice.say(1, 1_000)
    await voice.say(2, 1_000)
    assert await NatsHeard(connection).pieces("c", "t", "2020-01-01T00:00:00Z") is None


async def test_whole_pieces_that_were_heard_are_kept(connection: Connection) -> None:
    voice = Voice(connection)
    await voice.started()
    for index in range(3):
        await voice.say(index, 1_000)
    assert await heard(connection, 0) == ""
    assert await heard(connection, 1_000) == "First comes this."
    assert await heard(connection, 2_000) == "First comes this. Then that follows."
    assert await heard(connection, 99_000) == TEXT


async def test_a_piece_is_cut_at_the_end_of_a_word(connection: Connection) -> None:
    voice = Voice(connection)
    await voice.say(0, 1_000)
    await voice.say(1, 1_000)
    assert await heard(connection, 1_500) == "First comes this. Then"


async def test_words_with_their_times_tell_exactly(connection: Connection) -> None:
    voice = Voice(connection)
    await voice.piece(0)
    await voice.chunk(0, 1_000)
    words = (Word("First", 0, 100), Word("comes", 100, 900), Word("this", 900, 1_000))
    await voice.piece_done(0, 1_000, *words)
    assert await heard(connection, 899) == "First"
    assert await heard(connection, 900) == "First comes"


async def test_of_a_piece_under_way_what_came_so_far_counts(connection: Connection) -> None:
    voice = Voice(connection)
    await voice.say(0, 1_700)
    await voice.piece(1)
    await voice.chunk(1, 800)
    found = await heard(connection, 1_700 + 800)
    assert found.startswith("First comes this. ")
    assert found != TEXT[:36]


async def test_another_turn_of_the_conversation_does_not_count(connection: Connection) -> None:
    await Voice(connection, "t").say(0, 1_000)
    await Voice(connection, "u").say(0, 1_000)
    await Voice(connection, "u").say(1, 1_000)
    assert await heard(connection, 99_000, turn_id="t") == "First comes this."


async def test_what_is_older_than_the_turn_is_not_read(connection: Connection) -> None:
    await Voice(connection).say(0, 1_000)
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert await heard(connection, 99_000, since=later.isoformat()) == ""


async def test_a_piece_that_is_spoken_again_counts_once(connection: Connection) -> None:
    first = Voice(connection)
    await first.started()
    await first.say(0, 1_000)
    await first.piece(1)
    await first.chunk(1, 700)
    second = Voice(connection, attempt=2)
    await second.started()
    await second.say(1, 1_000)
    await second.say(2, 1_000)
    assert await heard(connection, 2_000) == "First comes this. Then that follows."


async def test_leftovers_of_a_replaced_worker_do_not_count(connection: Connection) -> None:
    first, second = Voice(connection), Voice(connection, attempt=2)
    await first.started()
    await first.say(0, 1_000)
    await second.started()
    await second.say(1, 1_000)
    # The first one was frozen, and now says what it had on its lips.
    await first.piece(1)
    await first.chunk(1, 500)
    assert await heard(connection, 2_000) == "First comes this. Then that follows."
    await first.piece_done(1, 500)
    await second.say(2, 1_000)
    assert await heard(connection, 2_500) == "First comes this. Then that follows. And"


async def test_what_a_stranger_put_on_the_subject_is_passed_over(connection: Connection) -> None:
    voice = Voice(connection)
    await voice.say(0, 1_000)
    for kind in Kind:
        for data in (b"", b"\xff", b"{}", b'{"x":' + b"[" * 50_000):
            for number in ("", "x", "\u00b2", "9" * 5_000, "-1"):
                headers = {H_TURN: "t", H_TYPE: kind.value, H_ATTEMPT: number, H_PIECE: number}
                await publish(connection, tts_audio("c"), data, headers)
    await voice.say(1, 1_000)
    assert await heard(connection, 99_000) == "First comes this. Then that follows."
