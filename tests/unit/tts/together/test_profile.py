"""What is learned of a provider."""

from __future__ import annotations

import pytest

from services.tts.together.profile import (
    FORGET_AFTER,
    FORGET_SECONDS,
    MAX_PROFILES,
    SILENCE_PROVEN_BY,
    SINGLE_PROVEN_BY,
    Dones,
    Position,
    Profile,
    Profiles,
)


def test_the_first_piece_of_a_context_stands_apart() -> None:
    assert [Position.of(piece) for piece in (0, 1, 2, 9)] == [
        Position.FIRST,
        Position.FIRST,
        Position.LATER,
        Position.LATER,
    ]


def test_one_item_a_commit_is_believed_after_some_proofs() -> None:
    profile = Profile()
    profile.single[False] = SINGLE_PROVEN_BY
    assert profile.one_item(compound=False)
    assert not profile.one_item(compound=True)  # short texts prove nothing of long ones
    profile.single[True] = SINGLE_PROVEN_BY
    assert profile.one_item(compound=True)
    profile.several = True
    assert not profile.one_item(compound=False)


def test_a_later_piece_may_fail_once_to_find_out_whether_it_has_a_done() -> None:
    profile = Profile()
    assert not profile.expects_done(Position.FIRST)
    profile.dones[Position.FIRST].note(came=True, now=0.0)
    assert profile.expects_done(Position.FIRST)
    assert profile.expects_done(Position.LATER)
    profile.dones[Position.LATER].note(came=False, now=0.0)
    assert not profile.expects_done(Position.LATER)


@pytest.mark.parametrize(("seconds", "forgotten"), [(FORGET_SECONDS, True), (1.0, False)])
def test_a_habit_is_forgotten_after_many_misses_over_a_long_time(
    seconds: float, forgotten: bool
) -> None:
    dones = Dones()
    dones.note(came=True, now=0.0)
    for number in range(FORGET_AFTER):
        dones.note(came=False, now=seconds * number / (FORGET_AFTER - 1))
    assert (dones.came == 0) is forgotten


def test_silence_is_proven_by_pieces_without_a_done() -> None:
    profile = Profile()
    assert not profile.silence_proven
    profile.dones[Position.FIRST].missed = SILENCE_PROVEN_BY
    assert profile.silence_proven


def test_the_longest_wait_for_audio_is_forgotten_slowly() -> None:
    profile = Profile()
    profile.note_first_audio(2.0)
    profile.note_first_audio(0.5)
    assert profile.first_audio == pytest.approx(1.8)


def test_a_model_whose_audio_once_came_without_its_context_is_not_told_apart() -> None:
    profile = Profile()
    assert not profile.tells_apart
    profile.named = True
    assert profile.tells_apart
    profile.unnamed = True
    assert not profile.tells_apart


def test_each_model_has_its_own_profile() -> None:
    profiles = Profiles(max_contexts=7)
    profile = profiles.of("a")
    assert profile.max_contexts == 7
    assert profiles.of("a") is profile
    assert profiles.of("b") is not profile


def test_profiles_are_bounded_and_those_in_use_stay() -> None:
    profiles = Profiles(max_contexts=7)
    kept = profiles.of("kept")
    for number in range(2 * MAX_PROFILES):
        profiles.of(f"model {number}")
        assert profiles.of("kept") is kept
    assert len(profiles) == MAX_PROFILES
