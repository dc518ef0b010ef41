"""What is said, what is dropped, and which range of the text it stands for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.tts.text.runs import Ranges, Run, RunWriter
from tests.unit.tts.text.texts import all_of


def writer(text: str) -> RunWriter:
    return RunWriter(all_of(text))


def test_a_run_knows_where_its_text_stands() -> None:
    out = writer("**bold** &amp;")
    out.drop(3)
    out.say_as_written(7)
    out.drop(9)
    out.keep()
    out.say("&", 15)
    assert out.take() == [Run("bold", 2, 6), Run(" ", 8, 9), Run("&", 9, 14)]
    assert out.take() == []


def test_spaces_are_said_once_and_never_first() -> None:
    out = writer(" a  b")
    out.space(2)
    out.keep()
    out.space(4)
    out.space(5)
    out.keep()
    assert out.take() == [Run("a", 1, 2), Run(" ", 2, 3), Run("b", 4, 5)]


def test_breaks_are_said_once_and_never_first() -> None:
    out = writer("\na\n\n")
    out.end_utterance(2)
    out.keep()
    out.end_utterance(4)
    out.end_utterance(5)
    assert out.take() == [Run("a", 1, 2), Run("\n", 2, 3)]


def test_what_is_postponed_is_said_only_before_more_of_the_line() -> None:
    out = writer("a|b|\n")
    out.keep()
    out.postpone(", ", 3)
    out.keep()
    out.postpone(", ", 5)
    out.end_utterance(6)
    assert [run.text for run in out.take()] == ["a", ", ", "b", "\n"]


def test_in_a_row_a_space_does_not_replace_a_comma() -> None:
    out = writer("a| b")
    out.line.is_row = True
    out.keep()
    out.postpone(", ", 3)
    out.space(4)
    out.keep()
    assert [run.text for run in out.take()] == ["a", ", ", "b"]


def test_a_bracket_between_words_leaves_a_space() -> None:
    out = writer("a[b] c")
    out.keep()
    out.drop_bracket(3)
    out.keep()
    out.drop_bracket(5)
    assert [run.text for run in out.take()] == ["a", " ", "b"]


def test_a_decoded_code_may_be_a_space_or_silent() -> None:
    out = writer("xabc")
    out.keep()
    out.say_decoded("\u00a0", 3)
    out.say_decoded("👍", 4)
    out.say_decoded("é", 5)
    assert [run.text for run in out.take()] == ["x", " ", "é"]


RUNS = st.lists(
    st.builds(
        lambda text, start, length: Run(text, start, start + length),
        st.text("ab", min_size=1, max_size=4),
        st.integers(0, 99),
        st.integers(0, 4),
    )
)


@given(RUNS)
def test_each_character_has_its_own_range_or_that_of_its_run(runs: list[Run]) -> None:
    ranges = Ranges()
    ranges.add(runs)
    position = 1  # as in a lookahead: the first character is the one in front of the text
    for text, start, end in runs:
        same = len(text) == end - start
        for i in range(len(text)):
            expected = (start + i, start + i + 1) if same else (start, end)
            assert (ranges.start(position), ranges.end(position)) == expected
            position += 1
    assert len(ranges) == position


def test_ranges_that_were_read_are_forgotten() -> None:
    ranges = Ranges()
    ranges.add([Run("abc", 5, 8)])
    ranges.forget(2)
    assert (len(ranges), ranges.start(0), ranges.end(1)) == (2, 6, 8)
