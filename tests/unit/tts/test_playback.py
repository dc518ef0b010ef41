"""Who plays a voice as it comes hears silence where a piece comes late, and only there."""

from __future__ import annotations

from services.tts.playback import Playback


def test_the_first_sound_has_nothing_before_it() -> None:
    assert Playback().sounds(100.0) is None


def test_a_piece_that_comes_while_the_last_one_is_played_leaves_no_silence() -> None:
    playback = Playback()
    playback.sounds(100.0)
    playback.lasts(0, 2.0)

    assert playback.sounds(100.5) == 0.0


def test_a_piece_that_comes_later_leaves_as_much_as_it_is_late() -> None:
    playback = Playback()
    playback.sounds(100.0)
    playback.lasts(0, 2.0)

    assert playback.sounds(102.5) == 0.5
    playback.lasts(1, 1.0)
    assert playback.sounds(103.75) == 0.25  # what was late is played from when it came


def test_a_piece_that_is_told_again_is_not_played_again() -> None:
    playback = Playback()
    playback.sounds(100.0)
    playback.lasts(0, 2.0)
    playback.sounds(101.0)
    playback.lasts(0, 2.0)
    playback.lasts(1, 1.0)

    assert playback.sounds(104.0) == 1.0


def test_what_makes_no_sound_takes_no_time() -> None:
    playback = Playback()
    playback.lasts(0, 0.0)

    assert playback.sounds(100.0) is None
