"""A line as it is typed."""

from __future__ import annotations

from parley.cli.editor import Editor, End, Key, Line


def test_letters_make_a_line_which_enter_finishes() -> None:
    assert Editor().feed("Grüße 你好\r") == [Line("Grüße 你好")]


def test_the_cursor_moves_and_letters_go_where_it_is() -> None:
    editor = Editor()
    editor.feed("bd\x1b[Dc\x1b[Ha\x1b[Fe")
    assert (editor.text, editor.cursor) == ("abcde", 5)
    editor.feed("\x1b[D\x7f\x1b[3~")
    assert editor.text == "abc"


def test_a_sequence_may_come_in_parts() -> None:
    editor = Editor()
    for part in ("ab\x1b", "[", "D", "x\r"):
        found = editor.feed(part)
    assert found == [Line("axb")]


def test_words_and_lines_are_cut() -> None:
    editor = Editor()
    editor.feed("one two  ")
    editor.feed("\x17")
    assert editor.text == "one "
    editor.feed("\x15")
    assert editor.text == ""


def test_what_was_typed_before_comes_back_and_the_new_line_is_not_lost() -> None:
    editor = Editor()
    editor.feed("first\rsecond\rnew")
    editor.feed("\x1b[A")
    assert editor.text == "second"
    editor.feed("\x1b[A\x1b[A")
    assert editor.text == "first"
    editor.feed("\x1b[B\x1b[B\x1b[B")
    assert editor.text == "new"


def test_keys_that_mean_nothing_to_a_line_are_told() -> None:
    editor = Editor()
    assert editor.feed("ab\x0bc") == [Key("ctrl-k")]
    assert editor.text == "abc"


def test_ctrl_d_ends_an_empty_line_only() -> None:
    editor = Editor()
    assert editor.feed("a\x04") == []
    assert editor.feed("\x15\x04") == [End()]


def test_a_line_that_is_too_long_is_seen_around_the_cursor() -> None:
    editor = Editor()
    editor.feed("0123456789")
    assert editor.view(5) == ("6789", 4)
    editor.feed("\x1b[H")
    assert editor.view(5) == ("0123", 0)
    editor.clear()
    editor.feed("你好吗")
    assert editor.view(5) == ("好吗", 4)
