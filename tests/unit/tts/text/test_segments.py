"""What is said in one breath, in many languages, however the text comes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.text.markdown import MarkdownReader
from services.tts.text.runs import Run
from services.tts.text.segments import Segmenter
from tests.unit.tts.text.texts import (
    ANSWERS,
    calls,
    chunks,
    cut,
    held_back,
    in_parts,
    run_of,
    said_of,
    shown_texts,
    speak,
    speakable,
    text_of,
    texts,
    unhurried,
)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Sure! I can help you with that.", "Sure!"),
        ("Hi. How are you?", "Hi."),
        ("Of course, I can help you with that.", "Of course,"),
        ("Well, I can help you with that today.", "Well, I can help you with"),
        ("I think that you should really go home.", "I think that you should"),
        ("Supercalifragilisticexpialidocious is a word", "Supercalifragilisticexpialidocious"),
        ("The temperature of 25 °C is fine today", "The temperature of 25 °C"),
        ("You should go and see Dr. Smith today", "You should go and see Dr. Smith"),
        ("It will be there around 5 p.m. today or so", "It will be there around 5 p.m. today"),
        ("The number of them is 1 000 000 today", "The number of them is 1 000 000 today"),
        ("Everything about Python 3.11 is new here", "Everything about Python 3.11 is"),
        ("Python (a very popular language) is", "Python (a very popular language)"),
        ("Everything (a very popular word) is fine", "Everything"),
        ("Here are the steps:\n1. Go", "Here are the steps:"),
        ("Getting started\nInstall it.", "Getting started"),
        ("I know this—believe me, I do.", "I know this—"),
        ("I know this - believe me, I do.", "I know this -"),
        ("A well-known problem of mine is that", "A well-known problem of"),
        ("It costs 1,000 or 2,000 dollars each", "It costs 1,000 or 2,000 dollars"),
        ("On May 5, 2026, we went to the sea", "On May 5, 2026,"),
        ("Natürlich, das mache ich sehr gerne.", "Natürlich,"),
        ("Die Hauptstadt von Frankreich ist Paris.", "Die Hauptstadt von Frankreich"),
        ("Bien sûr, je peux vous aider.", "Bien sûr,"),
        ("Voulez-vous que je vienne ? Oui.", "Voulez-vous que je vienne ?"),
        ("La capital de Francia es París, sí.", "La capital de Francia es"),
        ("当然可以，我来帮你。", "当然可以，"),
        ("好的，我来帮你解决这个问题吧朋友。", "好的，我来帮你解决这个问题吧"),
        ("机器学习是人工智能的一个重要分支它使", "机器学习是人工智能的一个重要分"),
        ("東京は日本の首都であり世界最大の都市圏です。", "東京は日本の首都であり"),
        ("भारत की राजधानी नई दिल्ली है और यह", "भारत की राजधानी नई दिल्ली"),
        ("بالتأكيد، يمكنني مساعدتك.", "بالتأكيد،"),
        ("عاصمة فرنسا هي مدينة باريس الجميلة جدا", "عاصمة فرنسا هي مدينة باريس"),
    ],
)
def test_the_first_piece_is_early(text: str, first: str) -> None:
    segmenter = Segmenter()
    said = [piece for char in text for piece in segmenter.feed(run_of(char))] + segmenter.finish()
    assert said[0].text == first
    assert cut(text)[0].text == first


@pytest.mark.parametrize(
    ("text", "proof"),
    [
        ("Sure! ", 1),
        ("It is so. ", 1),
        ("It is so?\n", 1),
        ("A heading\n", 1),
        ("好的。", 0),
        ("真的吗？", 0),
        ("「はい。」そ", 1),
        ("ठीक है।", 0),
        ("حقا؟", 0),
        ("Of course, ", 1),
        ("当然可以，", 0),
        ("Come at 5 p.m. T", 2),
        ("I have 5. Y", 2),
        ("So be it… W", 2),
        ('He said "Stop!" T', 2),
        ("The capital of France is P", 2),
    ],
)
def test_a_piece_comes_with_the_character_that_proves_its_end(text: str, proof: int) -> None:
    """`proof` characters stand behind the piece when it comes; one less does not prove it."""
    segmenter = Segmenter()
    early = [piece for char in text[:-1] for piece in segmenter.feed(run_of(char))]
    assert early == []
    [piece] = segmenter.feed(run_of(text[-1]))
    assert piece.text == text[: len(text) - proof].strip()


def test_a_piece_comes_through_both_with_no_further_character() -> None:
    reader, segmenter = MarkdownReader(), Segmenter()
    written = "**Sure!** "
    said = [segmenter.feed(reader.feed(char)) for char in written]
    assert [len(now) for now in said] == [0] * (len(written) - 1) + [1]


def test_a_long_sentence_is_cut_at_its_clauses() -> None:
    text = (
        "Yes. When the weather is fine and everybody has gone home for the day, we walk along the"
        " river until we reach the old mill, which has not been in use for more than a"
        " hundred years."
    )
    assert texts(cut(text)) == [
        "Yes.",
        "When the weather is fine and everybody has gone home for the day,",
        (
            "we walk along the river until we reach the old mill, which has not been in use for"
            " more than a hundred years."
        ),
    ]


@pytest.mark.parametrize("limit", [1, 2, 7, 24, 40, 100, 250])
@pytest.mark.parametrize(
    "text",
    ["x" * 1000, "word " * 200, "好" * 500, "क्षि" * 200, "a(" * 300, ". " * 300 + "x", "1. " * 200],
)
def test_no_piece_is_over_the_limit(text: str, limit: int) -> None:
    pieces = cut(text, max_chars=limit)
    assert all(0 < len(piece.text) <= limit for piece in pieces)
    assert speakable("".join(texts(pieces))) == speakable(text)
    assert cut(*text, max_chars=limit) == pieces


def test_a_word_over_the_limit_is_cut_hard_but_not_inside_a_letter() -> None:
    pieces = cut("e\u0301" * 300, max_chars=101)
    assert all(piece.text[0] == "e" for piece in pieces)
    assert len(pieces[0].text) == 100


@pytest.mark.parametrize("text", ["", " ", "\n\n", "…", "—", "!?", '"', "。", "- ", "(", "»"])
def test_what_cannot_be_said_is_no_piece(text: str) -> None:
    assert cut(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("真的？！好。", ["真的？", "好。"]),
        ("Yes.\n—\nNo.", ["Yes.", "No."]),
        ("One.\n\n\nTwo.", ["One.", "Two."]),
        ("… so it goes.", ["so it goes."]),
        (".NET is fine.", [".NET is fine."]),
        ("-5 is less.", ["-5 is less."]),
        ("Yes! – he said.", ["Yes!", "he said."]),
        ("€5? Yes.", ["€5?", "Yes."]),
    ],
)
def test_punctuation_alone_goes_to_a_neighbour(text: str, expected: list[str]) -> None:
    assert texts(cut(text)) == expected
    assert texts(cut(*text)) == expected


def test_ranges_are_those_of_the_shown_text() -> None:
    shown = "**Sure!** See [the docs](https://x.org/a). It's &lt;5 🎉 euros.\n\n## End"
    pieces = speak(*shown)
    assert [shown[piece.start : piece.end] for piece in pieces] == [
        "Sure!",
        "See [the docs](https://x.org/a).",
        "It's &lt;5 🎉 euros.",
        "End",
    ]
    assert [piece.index for piece in pieces] == [0, 1, 2, 3]


def test_the_range_of_what_was_left_out_belongs_to_the_next_piece() -> None:
    shown = "好？！好。"
    assert [(piece.start, piece.end) for piece in cut(shown)] == [(0, 2), (2, 5)]


def test_a_run_in_two_pieces_does_not_give_a_range_twice() -> None:
    segmenter = Segmenter()
    said = segmenter.feed([Run("First sentence. Second sentence. ", 5, 8), *run_of("Third.", 8)])
    said += segmenter.finish()
    assert [(piece.start, piece.end) for piece in said] == [(5, 8), (8, 8), (8, 14)]


@pytest.mark.parametrize("option", ["max_chars", "first_chars", "min_chars"])
def test_a_length_below_one_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Segmenter(**{option: 0})


@unhurried
@given(in_parts())
def test_how_a_text_is_split_makes_no_difference(parts: list[str]) -> None:
    text = "".join(parts)
    whole = speak(text)
    assert speak(*parts) == whole
    assert speak(*text) == whole


LENGTHS = st.integers(1, 300)


@unhurried
@given(in_parts(), LENGTHS, LENGTHS, LENGTHS)
def test_nor_does_it_with_other_lengths(
    parts: list[str], max_chars: int, first_chars: int, min_chars: int
) -> None:
    options = {"max_chars": max_chars, "first_chars": first_chars, "min_chars": min_chars}
    pieces = cut(*parts, **options)
    assert cut("".join(parts), **options) == pieces
    assert all(0 < len(piece.text) <= max_chars for piece in pieces)


@unhurried
@given(in_parts())
def test_ranges_ascend_and_every_character_is_said_once_and_in_order(parts: list[str]) -> None:
    text = "".join(parts)
    pieces = speak(*parts)

    assert speakable("".join(texts(pieces))) == speakable(text_of(said_of(text)))
    assert [piece.index for piece in pieces] == list(range(len(pieces)))
    assert all(0 <= piece.start < piece.end <= len(text) for piece in pieces)
    assert all(left.end <= right.start for left, right in pairwise(pieces))
    assert all(piece.text == piece.text.strip() and "\n" not in piece.text for piece in pieces)


@unhurried
@given(shown_texts, LENGTHS)
def test_no_more_is_held_back_than_a_piece_and_a_look_ahead(text: str, max_chars: int) -> None:
    segmenter = Segmenter(max_chars=max_chars)
    segmenter.feed(run_of(text))
    assert held_back(segmenter) <= max_chars + 20


@pytest.mark.parametrize(
    "name", ["german", "french", "spanish", "hindi", "arabic", "no punctuation"]
)
def test_the_pieces_joined_are_the_text_up_to_white_space(name: str) -> None:
    text = ANSWERS[name]
    assert "".join("".join(texts(cut(text))).split()) == "".join(text.split())


def test_a_markdown_answer_sounds_like_a_person_reading() -> None:
    assert texts(speak(ANSWERS["markdown"])) == [
        "Sure!",
        "Here's how gradient descent works,",
        "step by step.",
        "The idea",
        "It's an algorithm that finds a minimum of a function, e.g. of an error.",
        "First, you pick a starting point; then you compute the gradient.",
        "See the docs for more.",
        "1. Initialize the parameters (e.g. w = 0.01).",
        "2. Compute the gradient — the direction of steepest ascent.",
        "3. Repeat until it converges!",
        '"All models are wrong." — Box',
        "Name, Value",
        "rate, 0.01",
        "steps, 1,000",
        "Done",
        "Not done :tada:",
        "That's it.",
        "Any questions?",
    ]


def test_what_was_left_out_leaves_no_space_before_a_comma_or_a_full_stop() -> None:
    assert texts(speak("Hi 👋, Bob 🙂. Bye 👋!")) == ["Hi, Bob.", "Bye !"]


def test_code_is_left_out_and_its_neighbours_stay_apart() -> None:
    assert texts(speak(ANSWERS["code"])) == [
        "You can do it like this:",
        "Then run python main.py.",
        'It prints "Hello World!" and exits.',
        "Use Python 3.11 or later, i.e. not 2.7.",
    ]


def work(text: str, size: int) -> int:
    return calls(lambda: speak(*chunks(text, size)))


HOSTILE = ["word ", "x", ". ", "a. ", "(", '"', "«! ", "好", "。", "1. ", "Dr. ", "5 ", "U. ", "\n"]
HOSTILE += [", ", "— ", "e\u0301", "( ", "「", "。」"]


@pytest.mark.parametrize("scrap", HOSTILE)
@pytest.mark.parametrize("size", [5, 1_000_000])
def test_work_grows_with_the_text_and_no_faster(scrap: str, size: int) -> None:
    short, long = (scrap * 1_000)[:1_000], (scrap * 4_000)[:4_000]
    assert work(long, size) < 4.6 * work(short, size) + 500


@pytest.mark.parametrize("scrap", HOSTILE)
def test_what_is_held_back_is_bounded(scrap: str) -> None:
    segmenter = Segmenter()
    for start in range(0, 20_000, 20):
        segmenter.feed(run_of((scrap * 20)[:20], start))
        assert len(segmenter._ahead.text) < 320
        assert len(segmenter._ranges) == len(segmenter._ahead.text)
