from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import permutations

from services.tts.audio.spool import ReplaySpool as OnDisk
from services.tts.resume import DonePiece, MemorySpool, Replay, ReplaySpool
from shared.contract import (
    H_ATTEMPT,
    H_PIECE,
    H_SEQ,
    H_TYPE,
    AudioFailed,
    AudioStarted,
    Code,
    Error,
    Kind,
    Piece,
    PieceDone,
    Word,
    encode,
)

Event = tuple[dict[str, str], bytes]
FIRST, SECOND = b"aaaabb", b"cc"


def headers(kind: Kind, attempt: int, **more: int) -> dict[str, str]:
    return {
        H_TYPE: kind.value,
        H_ATTEMPT: str(attempt),
        **{name: str(value) for name, value in more.items()},
    }


def started(attempt: int, model: str = "m") -> Event:
    event = AudioStarted("c", "t", attempt, model=model, voice="v")
    return headers(Kind.STARTED, attempt), encode(event)


def announced(attempt: int, index: int, text: str = "four") -> Event:
    event = Piece("c", "t", attempt, index=index, text=text, chars=(index, index + 4))
    return headers(Kind.PIECE, attempt), encode(event)


def chunk(attempt: int, index: int, seq: int, audio: bytes) -> Event:
    return headers(Kind.CHUNK, attempt, **{H_PIECE: index, H_SEQ: seq}), audio


def done(attempt: int, index: int, samples: int, *words: Word) -> Event:
    event = PieceDone("c", "t", attempt, index=index, samples=samples, words=list(words))
    return headers(Kind.PIECE_DONE, attempt), encode(event)


def failed() -> Event:
    error = Error(Code.INTERNAL, "", retryable=False)
    return {H_TYPE: Kind.FAILED.value}, encode(AudioFailed("c", "t", 1, error=error))


def replayed(*events: Event, spool: ReplaySpool | None = None) -> Replay:
    found = Replay(MemorySpool() if spool is None else spool)
    for event in events:
        found.add(*event)
    return found


def audio(found: Replay) -> list[bytes]:
    return [audio for _, audio in found.in_order()]


def first(attempt: int = 1) -> list[Event]:
    return [
        announced(attempt, 0),
        chunk(attempt, 0, 0, FIRST[:4]),
        chunk(attempt, 0, 1, FIRST[4:]),
        done(attempt, 0, 3),
    ]


def second(attempt: int = 1, seq: int = 2) -> list[Event]:
    return [announced(attempt, 1), chunk(attempt, 1, seq, SECOND), done(attempt, 1, 1)]


def test_nothing_was_said_of_a_turn_without_events() -> None:
    found = replayed()
    assert (list(found.in_order()), found.characters, found.attempt, found.end) == ([], 0, 0, None)


def test_a_piece_is_done_with_its_announcement_its_chunks_and_its_end() -> None:
    word = Word("four", 0, 1)
    events = [started(1), *first()[:-1], done(1, 0, 3, word)]
    assert list(replayed(*events).in_order()) == [(DonePiece(0, "four", 0, 4, 3, [word]), FIRST)]
    for missing in range(1, len(events)):
        assert list(replayed(*events[:missing], *events[missing + 1 :]).in_order()) == []


def test_pieces_behind_one_that_is_missing_do_not_count() -> None:
    assert audio(replayed(started(1), *first()[:-1], *second())) == []
    assert audio(replayed(started(1), *first(), *second())) == [FIRST, SECOND]


def test_a_piece_without_sound_may_be_done() -> None:
    assert audio(replayed(started(1), announced(1, 0), done(1, 0, 0), *second(seq=0))) == [
        b"",
        SECOND,
    ]


@given(permutations([started(1), *first(), *second()] * 2))
def test_the_order_within_an_attempt_and_repeats_make_no_difference(events: list[Event]) -> None:
    found = replayed(*events)
    assert audio(found) == [FIRST, SECOND]
    assert found.characters == 8


def test_pieces_done_stay_done_over_attempts() -> None:
    found = replayed(
        started(1), *first(), *second()[:-1], started(2), *second(2, seq=0), started(3, "n")
    )
    assert audio(found) == [FIRST, SECOND]
    assert found.attempt == 3


def test_what_was_begun_in_an_earlier_attempt_does_not_complete_a_later_one() -> None:
    begun = [announced(1, 0), chunk(1, 0, 0, FIRST[:4])]
    rest = [chunk(2, 0, 1, FIRST[4:]), done(2, 0, 3)]
    assert audio(replayed(started(1), *begun, started(2), *rest)) == []
    assert audio(replayed(started(1), *begun, started(2), announced(2, 0), *rest)) == []


@pytest.mark.parametrize("late", [*first(), started(1, "old"), *second()])
def test_leftovers_of_a_replaced_worker_are_ignored(late: Event) -> None:
    events = [started(1), announced(1, 0), started(2), *first(2), *second(2)]
    for at in range(3, len(events) + 1):
        found = replayed(*events[:at], late, *events[at:])
        assert audio(found) == [FIRST, SECOND]
        assert found.attempt == 2
        assert found.submitted == {"m": 12}


def test_a_leftover_end_of_a_piece_does_not_make_it_done() -> None:
    """A listener who saw the higher attempt has dropped it."""
    assert audio(replayed(started(1), *first()[:-1], started(2), first()[-1])) == []


def test_announced_again_what_was_said_under_this_index_and_after_it_does_not_count() -> None:
    events = [started(1), *first(), *second(), started(2), announced(2, 0, "anew")]
    assert audio(replayed(*events)) == []
    events += [chunk(2, 0, 0, b"zz"), done(2, 0, 1)]
    assert audio(replayed(*events)) == [b"zz"]
    assert audio(replayed(*events, started(3))) == [b"zz"]


def test_the_higher_attempt_may_show_before_its_started() -> None:
    piece, *rest = second(2, seq=0)
    assert audio(replayed(started(1), *first(), piece, started(2), *rest)) == [FIRST, SECOND]


def test_characters_count_once_for_each_time_they_were_submitted() -> None:
    found = replayed(
        started(1, "dear"),
        announced(1, 0, "four"),
        announced(1, 0, "four"),
        started(2, "cheap"),
        announced(2, 0, "four"),
        announced(2, 1, "three"),
    )
    assert found.submitted == {"dear": 4, "cheap": 9}
    assert found.characters == 13


def test_the_end_counts_whatever_attempt_it_names() -> None:
    assert replayed(started(1), started(2), failed()).end is not None


@pytest.mark.parametrize(
    "garbled",
    [
        ({}, b""),
        ({H_TYPE: "tune"}, b"{}"),
        *[
            ({H_TYPE: kind.value, H_ATTEMPT: attempt}, data)
            for kind in Kind
            for attempt in ("2", "", "x", "-1", "9" * 5000, "²")
            for data in (b"", b"\xff", b"[" * 100_000, b"{}", b'{"index": -1}', b"null")
        ],
        ({H_TYPE: "chunk", H_ATTEMPT: "1", H_PIECE: "x", H_SEQ: "0"}, b"xx"),
        ({H_TYPE: "chunk", H_ATTEMPT: "1", H_PIECE: "0"}, b"xx"),
        ({H_TYPE: "chunk", H_ATTEMPT: "1", H_PIECE: "0", H_SEQ: "-3"}, b"xx"),
        announced(1, -1),
    ],
)
def test_what_cannot_be_read_counts_as_lost(garbled: Event) -> None:
    events = [started(1), *first(), *second()]
    for at in range(len(events) + 1):
        found = replayed(*events[:at], garbled, *events[at:])
        assert audio(found) == [FIRST, SECOND]
        assert found.end is None


def test_half_a_sample_is_no_whole_piece() -> None:
    assert audio(replayed(started(1), announced(1, 0), chunk(1, 0, 0, b"abc"), done(1, 0, 1))) == []


def test_a_repeat_takes_no_room_and_a_spool_on_disk_does_as_well() -> None:
    events = [*first(), *first(), *second()]
    in_memory, on_disk = MemorySpool(), OnDisk()
    wanted = list(replayed(*events, spool=in_memory).in_order())
    assert list(replayed(*events, spool=on_disk).in_order()) == wanted
    assert [audio for _, audio in wanted] == [FIRST, SECOND]
    assert len(in_memory) == 3
    on_disk.close()


def test_pieces_that_stand_in_order_are_intact() -> None:
    assert replayed(started(1), *first(), *second()).intact == 2


def test_a_chunk_that_was_overtaken_tears_its_piece() -> None:
    one, two, three, four = first()
    found = replayed(started(1), one, three, two, four, *second())
    assert found.intact == 0
    assert audio(found) == [FIRST, SECOND]  # the audio is all there, for whoever can sort it
    assert replayed(started(1), one, two, four, three, *second()).intact == 0
    assert replayed(started(1), two, one, three, four).intact == 0


def test_a_piece_that_was_told_again_is_intact() -> None:
    one, two, three, four = first()
    found = replayed(started(1), one, three, two, four, started(2), *first(2), *second(2))
    assert found.intact == 2


def test_an_announcement_that_comes_late_tears_its_piece() -> None:
    one, two, three, four = first()
    five, *rest = second()
    assert replayed(started(1), two, three, four, one, *second()).intact == 0
    assert replayed(started(1), five, one, two, three, four, *rest).intact == 0


def test_an_end_that_comes_late_tears_nothing() -> None:
    *heard, end = first()
    found = replayed(started(1), *heard, *second(), end)
    assert found.intact == 2
    assert audio(found) == [FIRST, SECOND]
