"""Headings, lines, lists, quotes, tables, blocks of code."""

from __future__ import annotations

import pytest

from tests.unit.tts.text.texts import check_said, said_of, text_of

CASES = {
    # headings and lines
    "heading": ("# Title\nText", "Title\nText"),
    "heading of six": ("###### Deep\nText", "Deep\nText"),
    "closed heading": ("## Title ##\nText", "Title \nText"),
    "heading with emphasis": ("## **Bold** title\n\nText", "Bold title\nText"),
    "heading underlined": ("Title\n=====\nText", "Title\nText"),
    "heading underlined with dashes": ("Title\n-----\nText", "Title\nText"),
    "no heading without a space": ("#hashtag is #1", "#hashtag is #1"),
    "C#": ("I like C# a lot.", "I like C# a lot."),
    "paragraphs": ("One.\n\n\n\nTwo.", "One.\nTwo."),
    "lines": ("Roses are red\nViolets are blue", "Roses are red\nViolets are blue"),
    "windows lines": ("One\r\nTwo\r\n\r\nThree", "One\nTwo\nThree"),
    "text that was wrapped by width": (
        "This is a long line of text that somebody has wrapped at some\nwidth or other.",
        "This is a long line of text that somebody has wrapped at some width or other.",
    ),
    "a long line before a capital": (
        "This is a long line of text without any full stop that ends here\nNext",
        "This is a long line of text without any full stop that ends here\nNext",
    ),
    "spaces": ("  a   b\t c \u00a0 d", "a b c d"),
    "trailing spaces": ("a  \nb", "a \nb"),
    "ideographic space": ("一\u3000二", "一 二"),
    "horizontal rules": ("a\n\n---\n\nb\n* * *\nc\n___\nd", "a\nb\nc\nd"),
    # lists
    "bullets": ("- one\n* two\n+ three\n• four", "one\ntwo\nthree\nfour"),
    "nested bullets": ("- one\n  - two\n    * three", "one\ntwo\nthree"),
    "numbers are read": ("1. One\n2. Two\n10. Ten", "1. One\n2. Two\n10. Ten"),
    "numbers with brackets": ("1) One\n2) Two", "1) One\n2) Two"),
    "tasks": ("- [ ] todo\n- [x] done\n- [X] also", "todo\ndone\nalso"),
    "numbered task": ("1. [ ] todo", "1. todo"),
    "bold item": ("- **Name**: text", "Name: text"),
    "negative number is no bullet": ("-5 degrees", "-5 degrees"),
    "bold at a line's start is no bullet": ("**Note:** text", "Note: text"),
    "dialogue": ("— Hola.\n— Adiós.", "Hola.\nAdiós."),
    # quotes
    "quote": ("> said\n> so", "said\nso"),
    "nested quote": ("> > deep\n>no space", "deep\nno space"),
    "quoted list": ("> - one\n> - two", "one\ntwo"),
    # tables
    "table": (
        "| Name | Age |\n|------|----:|\n| Bob | 5 |\n| Eve | 6 |\n",
        "Name, Age\nBob, 5\nEve, 6\n",
    ),
    "table, narrow": ("|a|b|\n|-|-|\n|1|2|", "a, b\n1, 2"),
    "table with empty cells": ("| a |  | c |\n| | | |\n|  | b |", "a, c\nb"),
    "table with sentences": ("| Yes. | No! |", "Yes. No!"),
    "table with markup": ("| **A** | `b` | [c](https://x.org) |", "A, b, c"),
    "table without outer bars": ("a | b\n--- | ---\n1 | 2", "a , b\n1 , 2"),
    "escaped bar": (r"| a \| b | c |", "a | b, c"),
    "bars in text": ("P(A|B) and a || b", "P(A|B) and a || b"),
    # code
    "fence": ("a\n```python\nx = 1\n```\nb", "a\nb"),
    "fence behind words": ("Look:```python\nx = 1\n```\nb", "Look:\nb"),
    "fence of tildes": ("a\n~~~\nx\n```\n~~~\nb", "a\nb"),
    "longer fence": ("a\n````md\n```\nx\n```\n````\nb", "a\nb"),
    "fence in a list": ("- a\n  ```sh\n  x\n  ```\n- b", "a\nb"),
    "fence in a quote": ("> ```\n> x\n> ```\n> b", "b"),
    "fence not closed": ("a\n```python\nx = 1\ny", "a\n"),
    "fence closed at the end": ("a\n```\nx\n```", "a\n"),
    "indented code is text": ("a\n\n    b = 1", "a\nb = 1"),
}


@pytest.mark.parametrize(("written", "said"), CASES.values(), ids=CASES.keys())
def test_what_opens_a_line_is_left_out(written: str, said: str) -> None:
    check_said(written, said)


def test_code_blocks_are_announced_where_they_stand() -> None:
    written = "Look:\n```python\nx = 1\n```\nDone."
    runs = said_of(written, code_blocks="announce", announcement="Here is code.")

    assert text_of(runs) == "Look:\nHere is code.\nDone."
    [announcement] = [run for run in runs if run.text == "Here is code."]
    assert written[announcement.start : announcement.end] == "```python"


def test_two_code_blocks_are_announced_twice() -> None:
    written = "```\nx\n```\n```\ny\n```\n"
    assert (
        text_of(said_of(*written, code_blocks="announce", announcement="Code.")) == "Code.\nCode.\n"
    )
