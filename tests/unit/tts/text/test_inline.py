"""Emphasis and code within a line."""

from __future__ import annotations

import pytest

from tests.unit.tts.text.texts import check_said

CASES = {
    # emphasis
    "emphasis": ("*a* _b_ **c** __d__ ***e*** ~~f~~", "a b c d e f"),
    "nested emphasis": ("**bold *both* bold**", "bold both bold"),
    "emphasis around punctuation": ("**Wow!** (*so* good)", "Wow! (so good)"),
    "emphasis inside Chinese": ("这是**重点**和*次要*内容", "这是重点和次要内容"),
    "emphasis inside a word": ("un**believ**able", "unbelievable"),
    "snake case": ("snake_case_name and a_b", "snake_case_name and a_b"),
    "dunder": ("call __init__ now", "call init now"),
    "multiplication": ("2 * 3, 5*4, 2**8, a*b, (a)*(b)", "2 * 3, 5*4, 2**8, a*b, (a)*(b)"),
    "emphasis ends before a letter": ("*word*s", "words"),
    "about": ("~5 minutes", "~5 minutes"),
    "blank to fill in": ("My name is ____.", "My name is ."),
    "unclosed emphasis": ("**never closed\nnext", "never closed\nnext"),
    # code
    "inline code": ("Run `npm install` now", "Run npm install now"),
    "inline code is verbatim": ("`a_b **c** <d> [e](f)` g", "a_b **c** <d> [e](f) g"),
    "inline code with backticks": ("``a ` b`` c", "a b c"),
    "inline code of three": ("```x``` is code", "x is code"),
    "backtick as apostrophe": ("it`s *fine*", "it's fine"),
    "unclosed code ends with its line": ("a `b *c\n*d* e", "a b *c\nd e"),
}


@pytest.mark.parametrize(("written", "said"), CASES.values(), ids=CASES.keys())
def test_marks_within_a_line_are_left_out(written: str, said: str) -> None:
    check_said(written, said)


def test_a_span_of_code_that_does_not_end_is_verbatim_for_a_while_only() -> None:
    said = "x" * 199 + " "
    check_said("`" + said + "*now* emphasis", said + "now emphasis")
