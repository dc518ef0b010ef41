from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.tts import record
from services.tts.record import SpeechRecord
from shared.contract import AudioFailed, Code, Error, Finish, Stored
from shared.errors import Superseded, WrittenByNewer

FAILED = AudioFailed("c", "t", 1, error=Error(Code.INTERNAL, "a bug", retryable=False))
STORED = Stored(
    "c",
    "t",
    1,
    bucket="b",
    key="c/t/1.wav",
    url="http://store/c/t/1.wav",
    content_type="audio/wav",
    bytes=44,
    sha256="0" * 64,
    duration_ms=0,
    captions_key="c/t/1.vtt",
    pieces=1,
    characters=3,
    finish=Finish.COMPLETE,
)


def begun(times: int = 1) -> SpeechRecord:
    found = SpeechRecord()
    for n in range(1, times + 1):
        found = record.begin(found, execution=f"w{n}", since=f"day {n}", request=7)
    return found


def test_a_voice_that_is_new_begins_with_attempt_1() -> None:
    assert not SpeechRecord().begun
    found = begun()
    assert found.begun
    assert (found.attempt, found.executions, found.execution) == (1, 1, "w1")


def test_another_execution_takes_it_over_and_looks_back_as_far_as_the_first() -> None:
    found = begun(2)
    assert (found.attempt, found.executions, found.execution) == (2, 2, "w2")
    assert found.since == "day 1"


@pytest.mark.parametrize("end", [STORED, FAILED])
def test_what_has_ended_is_not_begun_again(end: Stored | AudioFailed) -> None:
    ended = record.ended(begun(), "w1", end)
    assert ended.end == end
    assert record.begin(ended, execution="w2", since="", request=7) is ended


def test_an_execution_handed_back_in_good_order_does_not_count() -> None:
    found = record.handed_back(begun(5), "w5")
    assert found.executions == 4
    assert found.attempt == 5  # its events are there all the same


def test_a_cancel_is_kept_for_whoever_takes_the_voice_up_next() -> None:
    found = record.cancelled(begun())
    assert found.cancelled
    assert record.begin(found, execution="w2", since="", request=7).cancelled


@pytest.mark.parametrize(
    "found",
    [record.cancelled(begun()), record.ended(begun(), "w1", STORED)],
    ids=["cancelled", "ended"],
)
def test_where_there_is_nothing_to_cancel_nothing_is_saved(found: SpeechRecord) -> None:
    assert record.cancelled(found) is found


def test_the_next_attempt_counts_up_and_stays_with_its_execution() -> None:
    found = record.next_attempt(begun(), "w1")
    assert (found.attempt, found.executions, found.execution) == (2, 1, "w1")


def test_only_who_owns_it_may_change_it() -> None:
    found = begun(2)
    for change in (record.next_attempt, record.handed_back, record.owned):
        with pytest.raises(Superseded):
            change(found, "w1")
    with pytest.raises(Superseded):
        record.ended(found, "w1", STORED)


def test_nothing_follows_the_end() -> None:
    ended = record.ended(begun(), "w1", STORED)
    with pytest.raises(Superseded):
        record.ended(ended, "w1", FAILED)
    with pytest.raises(Superseded):
        record.next_attempt(ended, "w1")


@pytest.mark.parametrize(
    "found",
    [
        SpeechRecord(),
        replace(begun(), cancelled=True),
        record.ended(begun(), "w1", STORED),
        record.ended(begun(), "w1", FAILED),
    ],
)
def test_it_is_read_as_it_was_written(found: SpeechRecord) -> None:
    assert record.decode(record.encode(found)) == found


def test_what_is_not_there_is_a_new_one() -> None:
    assert record.decode(None) == SpeechRecord()


def test_a_record_of_a_newer_version_is_understood() -> None:
    assert record.decode(b'{"version": 2, "attempt": 3, "mood": "calm"}').attempt == 3


def test_another_message_of_the_same_turn_does_not_take_the_voice() -> None:
    with pytest.raises(record.Repeated) as told:
        record.begin(begun(), execution="w2", since="", request=8)
    assert told.value.request == 7
    taken = record.begin(begun(), execution="w2", since="", request=8, gone=7)
    assert (taken.execution, taken.request) == ("w2", 8)


def test_a_voice_of_which_nobody_noted_the_message_is_taken_over() -> None:
    taken = record.begin(replace(begun(), request=0), execution="w2", since="", request=8)
    assert (taken.execution, taken.request) == ("w2", 8)


def test_a_record_of_a_newer_version_is_not_rewritten() -> None:
    newer = record.decode(b'{"version": 2, "attempt": 3, "mood": "calm"}')
    changed = record.begin(newer, execution="w1", since="now", request=7)
    with pytest.raises(
        WrittenByNewer, match="speech record has version 2, and this worker knows 1"
    ):
        record.encode(changed)


def test_it_says_since_when_nothing_could_be_stored_and_since_when_that_was_refused() -> None:
    away = record.not_stored(SpeechRecord(), since="1", refused=False)
    assert (away.away_since, away.refused_since) == ("1", "")
    refused = record.not_stored(away, since="2", refused=True)
    assert (refused.away_since, refused.refused_since) == ("1", "2")
    assert record.not_stored(refused, since="3", refused=True) == refused
    assert record.not_stored(refused, since="4", refused=False) == away
