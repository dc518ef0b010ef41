"""What is said of a text, however it comes."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.text.markdown import MarkdownReader
from services.tts.text.runs import Run
from tests.unit.tts.text.texts import (
    calls,
    check_said,
    chunks,
    held_back,
    in_parts,
    said_of,
    shown_texts,
    text_of,
    unhurried,
)

CASES = {
    # plain text of many scripts stays as it is
    "english": ("Hello, world. How are you?", "Hello, world. How are you?"),
    "german": ("Grüße aus Köln, z. B. für Jürgen!", "Grüße aus Köln, z. B. für Jürgen!"),
    "french": ("L’été, c’est « beau » : oui !", "L’été, c’est « beau » : oui !"),
    "spanish": ("¡Hola! ¿Qué tal, señor?", "¡Hola! ¿Qué tal, señor?"),
    "chinese": ("你好！今天天气很好，对吗？", "你好！今天天气很好，对吗？"),
    "japanese": ("「はい」と、彼は言った。", "「はい」と、彼は言った。"),
    "hindi": ("नमस्ते। आप कैसे हैं?", "नमस्ते। आप कैसे हैं?"),
    "arabic": ("مرحبا، كيف حالك؟ أنا بخير.", "مرحبا، كيف حالك؟ أنا بخير."),
    "persian keeps its zero-width non-joiner": ("می\u200cخواهم", "می\u200cخواهم"),
    "devanagari keeps its joiner": ("क्\u200dष", "क्\u200dष"),
    "korean": ("안녕하세요. 반갑습니다!", "안녕하세요. 반갑습니다!"),
    # nothing to say
    "empty": ("", ""),
    "only markers": ("**", ""),
    "only emoji": ("🎉🎉", ""),
}


@pytest.mark.parametrize(("written", "said"), CASES.values(), ids=CASES.keys())
def test_plain_text_stays_as_it_is(written: str, said: str) -> None:
    check_said(written, said)


def test_a_range_points_at_what_is_shown() -> None:
    written = "Hi **bold** &amp; [link](https://x.org) www.a.org/b!!! end"
    shown = {run.text.strip(): written[run.start : run.end].strip() for run in said_of(written)}

    assert shown["bold"] == "bold"
    assert shown["&"] == "&amp;"
    assert shown["link"] == "link"
    assert shown["a.org"] == "a.org"
    assert shown["!"] == "!!!"


@pytest.mark.parametrize(
    "word", ["Hello", " world", "grün", "你好", "नमस्ते", "مرحبا", "that's", "the", "hello", "wow"]
)
def test_a_plain_word_is_not_held_back(word: str) -> None:
    reader = MarkdownReader()
    reader.feed("Say ")
    assert text_of(reader.feed(word)) == word.lstrip()


@pytest.mark.parametrize(
    ("written", "at_once"),
    [
        ("[the text of a link", "the text of a link"),
        ("**bold and", "bold and"),
        ("`code and", "code and"),
        ("a *b", "a b"),
        ("Sure! ", "Sure! "),
        ("done. ", "done. "),
        ("$5 for", "$5 for"),
        ("- item", "item"),
        ("# Title", "Title"),
        ("| cell", "cell"),
    ],
)
def test_a_marker_does_not_hold_back_the_words_behind_it(written: str, at_once: str) -> None:
    assert text_of(MarkdownReader().feed(written)) == at_once


@pytest.mark.parametrize(
    "opening",
    ["[", "![", "](", "[a](", "[^", "[1", "*", "**", "_", "~~", "`", "<", "<a href=", "<!--", "&",
     "&#", "$", "$5", "\\", "\\ti", "https://", "www.", "http", "|", "#", "- ", "---", "1", "{"],
)  # fmt: skip
def test_what_never_completes_holds_back_a_bounded_text(opening: str) -> None:
    reader = MarkdownReader()
    reader.feed("a " + opening)
    for _ in range(1200):
        reader.feed("word ")
    assert text_of(reader.feed("last")) in {"last", "d last"}
    assert len(reader._ahead.text) < 20


def test_an_endless_destination_is_left_out_without_being_kept() -> None:
    reader = MarkdownReader()
    runs = reader.feed("![picture](data:image/png;base64,")
    for _ in range(10_000):
        runs += reader.feed("iVBORw0KGgo")
        assert len(reader._ahead.text) < 1200
    runs += reader.feed(") after ") + reader.finish()
    assert "iVBOR" not in text_of(runs)
    assert text_of(runs).startswith("picture")
    assert text_of(runs).endswith("after ")


def test_what_is_not_a_link_loses_no_word() -> None:
    words = "[a](b c, and more (of it) <not a tag and [this too](also not"
    said = text_of(said_of(words))
    assert all(word in said for word in re.findall(r"[a-z]+", words))


def characters(runs: list[Run]) -> list[tuple[str, int, int]]:
    """Each character with the range it stands for: where runs begin and end does not matter."""
    said: list[tuple[str, int, int]] = []
    for text, start, end in runs:
        if len(text) == end - start:
            said += [(char, start + i, start + i + 1) for i, char in enumerate(text)]
        else:
            said += [(char, start, end) for char in text]
    return said


@unhurried
@given(in_parts(), st.sampled_from(["skip", "announce"]))
def test_how_a_text_is_split_makes_no_difference(parts: list[str], code_blocks: str) -> None:
    text = "".join(parts)
    whole = characters(said_of(text, code_blocks=code_blocks))
    assert characters(said_of(*parts, code_blocks=code_blocks)) == whole
    assert characters(said_of(*text, code_blocks=code_blocks)) == whole


@unhurried
@given(in_parts())
def test_ranges_ascend_and_lie_in_the_text(parts: list[str]) -> None:
    length = len("".join(parts))
    runs = said_of(*parts)
    assert all(0 <= run.start < run.end <= length and run.text for run in runs)
    assert all(left.end <= right.start for left, right in pairwise(runs))


@unhurried
@given(shown_texts)
def test_spaces_are_single_and_breaks_stand_alone(text: str) -> None:
    said = text_of(said_of(re.sub(r"[`\\&‼⁉]", "", text)))  # said verbatim
    assert not said.startswith((" ", "\n"))
    for double in ("  ", "\n\n", "\n ", "!!", "??", "……", "\r", "\t", "\u200b", "👍", "\ufe0f"):
        assert double not in said


@unhurried
@given(shown_texts)
def test_a_look_ahead_ends_whatever_was_begun(text: str) -> None:
    reader = MarkdownReader()
    reader.feed(text)
    for part in chunks(" and so on" * 150, 50):
        reader.feed(part)
    assert held_back(reader) < 20


# Of two letters at least: "[x]" is a task that is done.
WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=8)
MARKED = [
    "{}", "*{}*", "**{}**", "***{}***", "_{}_", "__{}__", "**_{}_**", "~~{}~~", "`{}`", "``{}``",
    "[{}](https://x.org/a_b)", '[{}](/x "T (u)")', "[{}](<a b>)", "[**{}**](/x)", "[{}][ref]",
    "![{}](a.png)", "[![{}](a.png)](/x)", "{}[^1]", "{}[1]", "{}[2](https://x.org)", "{}🎉",
    "👍🏽{}", "<b>{}</b>", '<a href="/x">{}</a>', "{}<br>", "{}<br/>", "<!-- c -->{}", "&#160;{}",
    "{}\u200b",
]  # fmt: skip
LINES = ["{}", "# {}", "## {} ##", "- {}", "  * {}", "> {}", "> - {}", "- [x] {}", "| {} |"]
UNSAID = [
    "",
    "---",
    "```py\nx = 1\n```",
    "~~~\nx\n~~~",
    "[r]: https://x.org",
    "|---|:-:|",
    "===",
    "🎉",
]


@st.composite
def marked_up(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A text full of markup, and its words."""
    lines: list[str] = []
    words: list[str] = []
    for _ in range(draw(st.integers(1, 6))):
        said = draw(st.lists(WORD, min_size=1, max_size=5))
        marked = [draw(st.sampled_from(MARKED)).format(word) for word in said]
        lines.append(draw(st.sampled_from(LINES)).format(" ".join(marked)))
        lines.append(draw(st.sampled_from(UNSAID)))
        words += said
    return "\n".join(lines), words


@unhurried
@given(marked_up())
def test_no_markup_leaks_and_no_word_is_lost(text_and_words: tuple[str, list[str]]) -> None:
    text, words = text_and_words
    assert text_of(said_of(text)).split() == words


def work(text: str, size: int) -> int:
    return calls(lambda: said_of(*chunks(text, size)))


HOSTILE = {
    "words": "hello world ",
    "brackets": "[[[[[((((",
    "stars": "*",
    "underscores": "_a",
    "half links": "[](aaa ",
    "nested destinations": "[](((",
    "half titles": '[](a "',
    "less than": "<",
    "half tags": "<a x=",
    "half comments": "<!--",
    "backticks": "`",
    "ampersands": "&a",
    "dollars": "$1",
    "dots": ".",
    "bars": "|",
    "hashes": "#",
    "schemes": "http",
    "hosts": "www.",
    "newlines": "\n>",
    "joiners": "👨‍",
    "long word": "x",
}


@pytest.mark.parametrize("scrap", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("size", [5, 1_000_000])
def test_work_grows_with_the_text_and_no_faster(scrap: str, size: int) -> None:
    short, long = (scrap * 1_000)[:1_000], (scrap * 4_000)[:4_000]
    assert work(long, size) < 4.4 * work(short, size) + 500
    assert work(long, size) < 60 * len(long)


@pytest.mark.parametrize("scrap", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_held_back_is_bounded(scrap: str) -> None:
    reader = MarkdownReader()
    for part in chunks((scrap * 30_000)[:30_000], 50):
        reader.feed(part)
        assert len(reader._ahead.text) < 1200
    reader.finish()
