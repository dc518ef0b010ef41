"""Links, images, footnotes, citations and addresses."""

from __future__ import annotations

import pytest

from tests.unit.tts.text.texts import check_said

CASES = {
    "link": ("See [the docs](https://a.org/b) now.", "See the docs now."),
    "link with title": ('[t](https://a.org "A title (x)") e', "t e"),
    "link with brackets": ("[t](https://a.org/x_(y)) e", "t e"),
    "link with emphasis": ("[**bold** text](/x) e", "bold text e"),
    "link in angles": ("[t](<a b>) e", "t e"),
    "relative link": ("[t](./a.md#b), e", "t, e"),
    "empty link": ("[t]() e", "t e"),
    "image": ("![A cat](cat.png) sits", "A cat sits"),
    "image without words": ("a ![](cat.png) b", "a b"),
    "linked image": ("[![Alt](a.png)](https://x.org) b", "Alt b"),
    "image after a word": ("Look![Alt](a.png)", "LookAlt"),
    "reference link": ("[text][ref] and [text][]", "text and text"),
    "reference definition": ('a\n[ref]: https://x.org "T"\nb', "a\nb"),
    "autolink": ("<https://www.example.org/a?b>, ok", "example.org, ok"),
    "autolink with mail": ("Write to <me@example.org>.", "Write to me@example.org."),
    "bare url": ("See https://www.example.org/a_b?c=d#e. Next", "See example.org. Next"),
    "bare url in brackets": ("(http://example.org/x) and", "(example.org) and"),
    "bare url at the end": ("at https://example.org/", "at example.org"),
    "url with port": ("http://localhost:8000/docs, then", "localhost, then"),
    "www": ("www.example.org/x is", "example.org is"),
    "bold url": ("**https://example.org/x** is", "example.org is"),
    "url before Chinese": ("请看https://example.org/a。谢谢", "请看example.org。谢谢"),
    "url as its own link text": ("[https://a.org/x](https://a.org/x) e", "a.org e"),
    "two urls": ("https://a.org/x https://b.org/y", "a.org b.org"),
    "words like urls": ("http is httpd, www and WWW; who", "http is httpd, www and WWW; who"),
    "mail": ("Mail me@example.org, please", "Mail me@example.org, please"),
    "square brackets are not read": ("a [sic] b", "a sic b"),
    "index": ("x[0] is first", "x is first"),
    "named index": ("map[key]value", "map key value"),
    "footnote": ("Fact.[^1] More[^note].\n\n[^1]: The note.", "Fact. More.\nThe note."),
    "citations": ("Fact [1][2]. More [3](https://x.org/a).", "Fact . More ."),
}


@pytest.mark.parametrize(("written", "said"), CASES.values(), ids=CASES.keys())
def test_of_a_link_only_its_words_are_said(written: str, said: str) -> None:
    check_said(written, said)
