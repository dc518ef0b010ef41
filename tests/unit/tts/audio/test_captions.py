from __future__ import annotations

import re
from itertools import pairwise

import pytest

from services.tts.audio.captions import timestamp, webvtt
from services.tts.resume import DonePiece
from shared.contract import SAMPLE_RATE, Word

SECOND = SAMPLE_RATE


def piece(text: str, *words: Word, index: int = 0, samples: int = SECOND) -> DonePiece:
    return DonePiece(index, text, 0, len(text), samples, words)


def cue(text: str, *words: Word) -> str:
    """The only cue's text."""
    head, text = webvtt([piece(text, *words)]).removesuffix("\n").split(" --> 00:00:01.000\n")
    assert head == "WEBVTT\n\n1\n00:00:00.000"
    return text


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "00:00:00.000"),
        (59_999.6, "00:01:00.000"),
        (3_723_004, "01:02:03.004"),
        (360_000_000, "100:00:00.000"),
    ],
)
def test_a_timestamp_has_hours_and_thousandths(ms: float, shown: str) -> None:
    assert timestamp(ms) == shown


def test_each_piece_is_a_cue_that_begins_where_the_last_one_ended() -> None:
    pieces = [piece("Good morning.", samples=36_000), piece("All is well.", index=1)]
    assert webvtt(pieces) == (
        "WEBVTT\n"
        "\n"
        "1\n"
        "00:00:00.000 --> 00:00:01.500\n"
        "Good morning.\n"
        "\n"
        "2\n"
        "00:00:01.500 --> 00:00:02.500\n"
        "All is well.\n"
    )


def test_a_voice_without_pieces_is_an_empty_file() -> None:
    assert webvtt([]) == "WEBVTT\n"


@pytest.mark.parametrize("silent", [piece("…", samples=0), piece("…", samples=3), piece(" \n\t")])
def test_what_is_not_heard_or_says_nothing_is_no_cue(silent: DonePiece) -> None:
    shown = webvtt([silent, piece("Then this.", index=1)])
    assert shown.count("-->") == 1
    assert "2\n00:00:0" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("if a < b & b > c", "if a &lt; b &amp; b &gt; c"),
        ("x --> y", "x --&gt; y"),
        ("&lt;", "&amp;lt;"),
        ("one\n\ntwo\r\nthree\u2028four", "one two three four"),
        ("half \ud83d a character\0", "half a character"),
        ("العربية، من اليمين", "العربية، من اليمين"),
        ("你好，世界。", "你好，世界。"),
    ],
)
def test_a_text_can_neither_end_its_cue_nor_be_taken_for_markup(text: str, shown: str) -> None:
    assert cue(text) == shown


def test_words_are_marked_inside_the_text_as_it_is_written() -> None:
    words = (Word("Well", 0, 200), Word("said", 300, 500), Word("he", 500, 600))
    assert cue("“Well,” said <he>.", *words) == (
        "“Well,” <00:00:00.300>said &lt;<00:00:00.500>he&gt;."
    )


def test_words_of_a_language_without_spaces_stay_together() -> None:
    words = (Word("你好", 100, 400), Word("世界", 500, 900))
    assert cue("你好，世界。", *words) == "<00:00:00.100>你好，<00:00:00.500>世界。"


def test_marks_are_inside_their_cue_and_each_later_than_the_last() -> None:
    words = [
        Word("a", 0, 100),  # with the cue: no mark
        Word("b", 300, 400),
        Word("c", 300, 400),  # at once
        Word("d", 200, 300),  # back
        Word("e", 999, 1000),
        Word("f", 1000, 1100),  # behind it
        Word("g", -5, 0),
    ]
    shown = cue("a b c d e f g", *words)
    assert shown == "a <00:00:00.300>b c d <00:00:00.999>e f g"
    marks = re.findall(r"<([\d:.]+)>", shown)
    assert all(a < b for a, b in pairwise(marks))


@pytest.mark.parametrize("heard", ["kilometres", "", " ", "-->", "\0"])
def test_a_word_that_is_not_written_is_not_marked(heard: str) -> None:
    words = (Word("3", 100, 200), Word(heard, 200, 300), Word("more", 400, 500))
    assert cue("3 km more", *words) == "<00:00:00.100>3 km <00:00:00.400>more"


def test_a_word_is_not_looked_for_far_away() -> None:
    text = "One two three four five six seven eight nine ten and one"
    words = (Word("and", 100, 200), Word("two", 300, 400))
    assert cue(text, *words) == text.replace("two", "<00:00:00.300>two")
