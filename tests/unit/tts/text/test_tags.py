"""HTML in the text."""

from __future__ import annotations

import pytest

from tests.unit.tts.text.texts import check_said

CASES = {
    "tags": ("a <b>bold</b> <br/>c <a href='x'>d</a>", "a bold \nc d"),
    "blocks": ("<p>One</p><p>Two</p>", "One\nTwo\n"),
    "comment": ("a <!-- not - this --> b", "a b"),
    "unknown tag": ("<answer>Yes</answer>", "Yes"),
    "less than": ("a < b, 3<4 and x <3", "a < b, 3<4 and x <3"),
    "generics": ("a List<String> b", "a List<String> b"),
    "less than a word": ("a <b and c", "a <b and c"),
    "entities": ("a &amp; b &lt; c&nbsp;d &#233; &copy; &hearts;", "a & b < c d é © "),
    "no entity": ("AT&T, R&D & co; &nosuch;", "AT&T, R&D & co; &nosuch;"),
}


@pytest.mark.parametrize(("written", "said"), CASES.values(), ids=CASES.keys())
def test_tags_are_left_out_and_entities_decoded(written: str, said: str) -> None:
    check_said(written, said)
