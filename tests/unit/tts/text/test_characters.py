"""Which characters have a sound."""

from __future__ import annotations

import re
import sys

import pytest

from services.tts.text.characters import BREAKS, PICTURE, SILENT, SPACES, SPEAKABLE, WIDE


@pytest.mark.parametrize("char", ["👍", "🇩", "☀", "★", "│", "⏰", "ℹ"])
def test_a_picture_is_silent(char: str) -> None:
    assert PICTURE.match(char)
    assert SILENT.fullmatch(char)


@pytest.mark.parametrize(
    "char", ["\u200b", "\ufeff", "\x00", "\r", "\ud83d", "\ue000", "\ufe0f", "\u200d"]
)
def test_what_has_no_width_is_silent_and_no_picture(char: str) -> None:
    assert SILENT.fullmatch(char)
    assert not PICTURE.match(char)


@pytest.mark.parametrize("char", "aé好ひ한ش5©®™°→⇒♭♮♯№%")
def test_signs_that_can_be_said_stay(char: str) -> None:
    assert not SILENT.fullmatch(char)


def test_spaces_and_breaks_are_not_silent() -> None:
    spaces, breaks = re.compile(f"[{SPACES}]"), re.compile(f"[{BREAKS}]")
    for char in map(chr, range(sys.maxunicode + 1)):
        assert (spaces.match(char), breaks.match(char), SILENT.match(char)).count(None) >= 1


@pytest.mark.parametrize("text", ["a", "好", "5", "%", "€"])
def test_speakable(text: str) -> None:
    assert SPEAKABLE.search(text)


@pytest.mark.parametrize("text", ["", "…", "—", "!?", "_", "。", "「"])
def test_not_speakable_alone(text: str) -> None:
    assert not SPEAKABLE.search(text)


def test_wide_characters_are_those_of_east_asia() -> None:
    assert WIDE.findall("a好ひ한，。é") == list("好ひ한，。")
