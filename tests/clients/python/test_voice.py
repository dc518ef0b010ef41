"""A voice's timeline gives each event once, in order, whatever comes and however often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from parley.contract import (
    AudioFailed,
    AudioStarted,
    Code,
    Error,
    Finish,
    Piece,
    PieceDone,
    Stored,
)
from parley.events import Chunk, VoiceEvent
from parley.sound import Sound
from parley.voice import VoiceTimeline

C, T = "c", "t"


def started(attempt: int) -> AudioStarted:
    return AudioStarted(C, T, attempt, model="m", voice="v")


def piece(attempt: int, index: int) -> Piece:
    return Piece(C, T, attempt, index=index, text=f"piece {index}", chars=(index, index + 1))


def chunk(attempt: int, seq: int, index: int) -> Chunk:
    return Chunk(C, T, attempt, seq, index, pcm=bytes([attempt, index]) * (seq + 1))


def done(attempt: int, index: int, *chunks: Chunk) -> PieceDone:
    return PieceDone(C, T, attempt, index=index, samples=sum(len(c.pcm) // 2 for c in chunks))


def stored(attempt: int, pieces: int) -> Stored:
    return Stored(
        *(C, T, attempt),
        bucket="b",
        key="k",
        url=None,
        content_type="audio/wav",
        bytes=0,
        sha256="",
        duration_ms=0,
        captions_key=None,
        pieces=pieces,
        characters=0,
        finish=Finish.COMPLETE,
    )


def failed(attempt: int) -> AudioFailed:
    return AudioFailed(C, T, attempt, error=Error(Code.INTERNAL, "no", retryable=False))


def spoken(attempt: int, sizes: list[int], first: int = 0) -> list[VoiceEvent]:
    """An attempt that says pieces of so many chunks, from the first one on."""
    events: list[VoiceEvent] = [started(attempt)]
    seq = 0
    for index, size in enumerate(sizes, first):
        chunks = [chunk(attempt, seq + n, index) for n in range(size)]
        seq += size
        events += [piece(attempt, index), *chunks, done(attempt, index, *chunks)]
    return events


def given_out(*events: VoiceEvent, kept: bool = False) -> list[VoiceEvent]:
    timeline = VoiceTimeline()
    return [ready for event in events for ready in timeline.add(event, kept=kept)]


def test_what_comes_in_order_is_given_out_at_once() -> None:
    events = [*spoken(1, [2, 0, 1]), stored(1, 3)]

    assert given_out(*events) == events
    assert given_out(*events, kept=True) == events


def test_what_is_missing_holds_back_what_comes_after_it() -> None:
    timeline = VoiceTimeline()
    events = spoken(1, [2, 1])
    missing = events.pop(1)

    assert [r for e in events for r in timeline.add(e)] == [events[0]]
    assert timeline.gap
    assert timeline.add(missing) == [missing, *events[1:]]
    assert not timeline.gap


def test_a_piece_is_done_when_all_its_samples_came() -> None:
    timeline = VoiceTimeline()
    *before, last, end = spoken(1, [3])
    for event in before:
        timeline.add(event)

    assert timeline.add(end) == []
    assert timeline.gap
    assert timeline.add(last) == [last, end]


def test_a_voice_is_stored_when_all_its_pieces_are_done() -> None:
    timeline = VoiceTimeline()
    end = stored(1, 2)
    events = spoken(1, [1, 1])
    for event in events[:4]:
        timeline.add(event)

    assert timeline.add(end) == []
    assert timeline.gap
    assert [r for e in events[4:] for r in timeline.add(e)] == [*events[4:], end]
    assert timeline.ended


def test_a_cancelled_voice_ends_within_a_piece() -> None:
    events = [*spoken(1, [1, 2])[:-1], stored(1, 1)]

    assert given_out(*events) == events


def test_a_higher_attempt_says_again_what_was_not_done() -> None:
    first, again = spoken(1, [2, 2])[:6], spoken(2, [3, 1], first=1)
    events = [*first, *again, stored(2, 3)]

    assert given_out(*events, kept=True) == events


def test_a_higher_attempt_that_comes_live_waits_until_the_stream_tells_it() -> None:
    timeline = VoiceTimeline()
    first, again = spoken(1, [1, 1]), spoken(2, [1], first=1)
    for event in first[:-2]:  # what was done next is missed
        timeline.add(event)

    assert [r for e in again for r in timeline.add(e)] == []
    assert timeline.gap
    stream = [*first, *again, stored(2, 2)]
    assert [r for e in stream for r in timeline.add(e, kept=True)] == stream[len(first) - 2 :]


def test_a_piece_that_was_done_may_be_announced_anew() -> None:
    events = [*spoken(1, [1, 1, 1]), *spoken(2, [2], first=1), stored(2, 2)]

    assert given_out(*events, kept=True) == events


def test_a_leftover_of_a_lower_attempt_is_dropped() -> None:
    old, new = spoken(1, [2]), spoken(2, [2])

    stream = [*old[:2], *new[:2], *old[2:], *new[2:], stored(2, 1)]

    assert given_out(*stream, kept=True) == [*old[:2], *new, stored(2, 1)]


def test_nothing_follows_the_end() -> None:
    events = [*spoken(1, [1]), stored(1, 1)]

    assert given_out(*events, *spoken(2, [1]), failed(2)) == events


def test_a_failure_that_comes_live_waits_until_the_stream_tells_it() -> None:
    timeline = VoiceTimeline()
    events = spoken(1, [1])
    for event in events:
        timeline.add(event)

    assert timeline.add(failed(1)) == []
    assert timeline.gap
    assert [r for e in [*events, failed(1)] for r in timeline.add(e, kept=True)] == [failed(1)]
    assert timeline.ended


def test_a_failure_may_be_all_that_there_is_of_a_voice() -> None:
    assert given_out(failed(1), kept=True) == [failed(1)]


def test_a_stream_that_has_lost_the_beginning_is_told_apart() -> None:
    timeline = VoiceTimeline()
    for event in [*spoken(1, [1, 1])[4:], stored(1, 2)]:
        timeline.add(event, kept=True)

    assert timeline.lost
    assert not timeline.ended


@given(st.data())
def test_any_order_with_any_repeats_gives_the_same(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 4), max_size=6))
    events = [*spoken(1, sizes), stored(1, len(sizes))]
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=20))
    shuffled = data.draw(st.permutations([*events, *repeats]))

    assert given_out(*shuffled) == events


@given(st.data())
def test_what_is_lost_live_is_made_whole_by_the_stream(data: st.DataObject) -> None:
    first = spoken(1, data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)))
    cut = data.draw(st.integers(1, len(first)))
    whole = sum(isinstance(event, PieceDone) for event in first[:cut])
    again = spoken(2, data.draw(st.lists(st.integers(0, 3), max_size=4)), first=whole)
    pieces = whole + sum(isinstance(event, PieceDone) for event in again)
    stream = [*first[:cut], *again, stored(2, pieces)]
    live = [e for e in stream if data.draw(st.booleans())]
    looks = data.draw(st.lists(st.integers(0, len(live)), max_size=3))

    timeline, given_out = VoiceTimeline(), list[VoiceEvent]()
    for at, event in enumerate(live):
        given_out += timeline.add(event)
        if at in looks:  # what the stream has by then
            for kept in stream[: stream.index(event) + 1]:
                given_out += timeline.add(kept, kept=True)
    for kept in stream:
        given_out += timeline.add(kept, kept=True)

    assert timeline.ended
    assert len(given_out) == len({id(e) for e in given_out})
    sound, wanted = Sound(), Sound()
    for event in given_out:
        sound.add(event)
    for event in stream:
        wanted.add(event)
    assert sound.pcm == wanted.pcm
