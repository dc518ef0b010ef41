"""What is said of a text, however it comes."""

from __future__ import annotations

import random
import re
import sys
from itertools import pairwise

import pytest

from services.tts.text.markdown import MarkdownReader
from services.tts.text.runs import Run

Said = tuple[str, int, int]


def say(*parts: str, **options: str) -> list[Run]:
    spoken = MarkdownReader(**options)  # type: ignore[arg-type]  # the options of the test that calls
    return [run for part in parts for run in spoken.feed(part)] + spoken.finish()


def text_of(runs: list[Run]) -> str:
    return "".join(run.text for run in runs)


def characters(runs: list[Run]) -> list[Said]:
    """Each character with the range it stands for: where runs begin and end does not matter."""
    said: list[Said] = []
    for run in runs:
        if len(run.text) == run.end - run.start:
            said += [(char, run.start + i, run.start + i + 1) for i, char in enumerate(run.text)]
        else:
            said += [(char, run.start, run.end) for char in run.text]
    return said


def split(text: str, longest: int, chance: random.Random) -> list[str]:
    parts = []
    while text:
        length = chance.randint(1, longest)
        parts.append(text[:length])
        text = text[length:]
    return parts


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
    # links
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
    # code
    "inline code": ("Run `npm install` now", "Run npm install now"),
    "inline code is verbatim": ("`a_b **c** <d> [e](f)` g", "a_b **c** <d> [e](f) g"),
    "inline code with backticks": ("``a ` b`` c", "a b c"),
    "inline code of three": ("```x``` is code", "x is code"),
    "backtick as apostrophe": ("it`s *fine*", "it's fine"),
    "unclosed code ends with its line": ("a `b *c\n*d* e", "a b *c\nd e"),
    "fence": ("a\n```python\nx = 1\n```\nb", "a\nb"),
    "fence behind words": ("Look:```python\nx = 1\n```\nb", "Look:\nb"),
    "fence of tildes": ("a\n~~~\nx\n```\n~~~\nb", "a\nb"),
    "longer fence": ("a\n````md\n```\nx\n```\n````\nb", "a\nb"),
    "fence in a list": ("- a\n  ```sh\n  x\n  ```\n- b", "a\nb"),
    "fence in a quote": ("> ```\n> x\n> ```\n> b", "b"),
    "fence not closed": ("a\n```python\nx = 1\ny", "a\n"),
    "fence closed at the end": ("a\n```\nx\n```", "a\n"),
    "indented code is text": ("a\n\n    b = 1", "a\nb = 1"),
    # HTML
    "tags": ("a <b>bold</b> <br/>c <a href='x'>d</a>", "a bold \nc d"),
    "blocks": ("<p>One</p><p>Two</p>", "One\nTwo\n"),
    "comment": ("a <!-- not - this --> b", "a b"),
    "unknown tag": ("<answer>Yes</answer>", "Yes"),
    "less than": ("a < b, 3<4 and x <3", "a < b, 3<4 and x <3"),
    "generics": ("a List<String> b", "a List<String> b"),
    "less than a word": ("a <b and c", "a <b and c"),
    "entities": ("a &amp; b &lt; c&nbsp;d &#233; &copy; &hearts;", "a & b < c d é © "),
    "no entity": ("AT&T, R&D & co; &nosuch;", "AT&T, R&D & co; &nosuch;"),
    # signs
    "escapes": (r"\*not\* \_em\_ \# 1\. \`x\`", "*not* _em_ # 1. `x`"),
    "backslash": (r"C:\Users\me", r"C:\Users\me"),
    "money": (
        "$5 and $10, US$5, US$ 5, 100$ or $1,000.50",
        "$5 and $10, US$5, US$ 5, 100$ or $1,000.50",
    ),
    "formula": ("$x^2$ and $$a+b$$ and \\(c\\) and \\[d\\]", "x^2 and a+b and c and d"),
    "formula with a number": ("$2^n$ grows", "2^n grows"),
    "formula with braces": (r"\(\frac{a}{b}\)", "a b"),
    "formula commands": (r"$3 \times \pi \neq 4$", "$3 × π ≠ 4$"),
    "euro": ("5 € or €5, 20 % and 30 °C", "5 € or €5, 20 % and 30 °C"),
    "repeated marks": ("No!!!! Why??? What?!?! So......", "No! Why? What?! So…"),
    "repeated wide marks": ("好！！！真的？！？！嗯……完。。。", "好！真的？！嗯…完。"),
    "one double mark": ("What‼ Why⁉", "What! Why?!"),
    "dots": ("a...b, ../c, d..", "a…b, ../c, d.."),
    "dashes": ("a -- b, a--b, --help, a---b", "a — b, a—b, --help, a—b"),
    # emoji
    "emoji": ("Great 👍 job!", "Great job!"),
    "emoji at a line's start": ("🎉 Done\n✅ Checked", "Done\nChecked"),
    "skin tone, family, flag": ("a 👍🏽 b 👨‍👩‍👧 c 🇩🇪 d 🏴󠁧󠁢󠁥󠁮󠁧󠁿 e", "a b c d e"),
    "heart with selector": ("I ❤️ it ☀️ ⭐", "I it "),
    "keycaps": ("1️⃣ One 2️⃣ #️⃣ *️⃣ Two", "One Two"),
    "emoji in heading": ("## 🚀 Start\nGo", "Start\nGo"),
    "emoji between words": ("a👍b and Great🎉!", "a b and Great!"),
    "signs that are text": ("© ® ™ ° → C♯ №", "© ® ™ ° → C♯ №"),
    "text style sign": ("Foo™️", "Foo™"),
    "zero width": ("a\u200bb\ufeffc\u00add\u2060e\x07f", "abcdef"),
    "direction marks": ("\u200fمرحبا\u200e", "مرحبا"),
    "half a surrogate": ("a\ud83db", "ab"),
    "private use": ("a\ue200b", "ab"),
    # nothing to say
    "empty": ("", ""),
    "only markers": ("**", ""),
    "only emoji": ("🎉🎉", ""),
}


@pytest.mark.parametrize(("written", "said"), CASES.values(), ids=CASES.keys())
def test_what_is_said(written: str, said: str) -> None:
    assert text_of(say(written)) == said
    assert text_of(say(*written)) == said


def test_code_blocks_are_announced_where_they_stand() -> None:
    written = "Look:\n```python\nx = 1\n```\nDone."
    runs = say(written, code_blocks="announce", announcement="Here is code.")

    assert text_of(runs) == "Look:\nHere is code.\nDone."
    [announcement] = [run for run in runs if run.text == "Here is code."]
    assert written[announcement.start : announcement.end] == "```python"


def test_two_code_blocks_are_announced_twice() -> None:
    written = "```\nx\n```\n```\ny\n```\n"
    assert text_of(say(*written, code_blocks="announce", announcement="Code.")) == "Code.\nCode.\n"


def test_a_range_points_at_what_is_shown() -> None:
    written = "Hi **bold** &amp; [link](https://x.org) www.a.org/b!!! end"
    shown = {run.text.strip(): written[run.start : run.end].strip() for run in say(written)}

    assert shown["bold"] == "bold"
    assert shown["&"] == "&amp;"
    assert shown["link"] == "link"
    assert shown["a.org"] == "a.org"
    assert shown["!"] == "!!!"


@pytest.mark.parametrize(
    "word", ["Hello", " world", "grün", "你好", "नमस्ते", "مرحبا", "that's", "the", "hello", "wow"]
)
def test_a_plain_word_is_not_held_back(word: str) -> None:
    spoken = MarkdownReader()
    spoken.feed("Say ")
    assert text_of(spoken.feed(word)) == word.lstrip()


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
    spoken = MarkdownReader()
    spoken.feed("a " + opening)
    for _ in range(1200):
        spoken.feed("word ")
    assert text_of(spoken.feed("last")) in {"last", "d last"}
    assert len(spoken._ahead.text) < 20


def test_an_endless_destination_is_left_out_without_being_kept() -> None:
    spoken = MarkdownReader()
    runs = spoken.feed("![picture](data:image/png;base64,")
    for _ in range(10_000):
        runs += spoken.feed("iVBORw0KGgo")
        assert len(spoken._ahead.text) < 1200
    runs += spoken.feed(") after ") + spoken.finish()
    assert "iVBOR" not in text_of(runs)
    assert text_of(runs).startswith("picture")
    assert text_of(runs).endswith("after ")


def test_what_is_not_a_link_loses_no_word() -> None:
    words = "[a](b c, and more (of it) <not a tag and [this too](also not"
    said = text_of(say(words))
    assert all(word in said for word in re.findall(r"[a-z]+", words))


# What a text is made of: every marker, whole and in halves, and words of several scripts.
VISIBLE = """
    * ** *** _ __ ` `` ``` ~~~ ~~ [ ] ( ) ]( ![ < > <b> </p> <!-- --> &amp; & # ## | | - --- --
    1. 10) https:// http:// www. example.org /a?b=c h ht http w ww word Word Dr. e.g. 5 3.14
    $ $5 $x \\ \\( \\times \\frac ... . ! ? !!! ?! … — 👍 👨‍👩‍👧 1️⃣ 🇩🇪 ❤️ 。 ！ ？ 「 」 你好吗 です
    ، ؟ । [^1] [1] [x] “ ” « » , ; : { } é İ क्षि === |---| <https://a.org/b> <a@b.org> data:x
"""
SCRAPS = [
    *VISIBLE.split(),
    *("\n", "\n\n", "  ", "- ", "* ", "## ", "> ", "- [ ] ", "| a | b |", "[1]: https://x.org\n"),
    *("```py\nx\n```\n", "\u200d", "\u200c", "\u00a0", "\t", "\r\n", "\ud83d", "\udc4d", "\x00"),
    *("](<a b>)", "```py\n", "x" * 70),
]


def soup(chance: random.Random) -> str:
    """Scraps with and without spaces between them."""
    return "".join(
        chance.choice(SCRAPS) + " " * (chance.random() < 0.4) for _ in range(chance.randint(1, 60))
    )


@pytest.mark.parametrize("seed", range(100))
def test_how_a_text_is_split_makes_no_difference(seed: int) -> None:
    chance = random.Random(seed)
    text = soup(chance)
    whole = say(text)

    for longest in (1, 2, 5, 20):
        assert characters(say(*split(text, longest, chance))) == characters(whole)


@pytest.mark.parametrize("seed", range(150, 250))
def test_ranges_ascend_and_lie_in_the_text(seed: int) -> None:
    chance = random.Random(seed)
    text = soup(chance)
    runs = say(*split(text, 8, chance))

    assert all(0 <= run.start < run.end <= len(text) and run.text for run in runs)
    assert all(left.end <= right.start for left, right in pairwise(runs))


@pytest.mark.parametrize("seed", range(250, 300))
def test_spaces_are_single_and_breaks_stand_alone(seed: int) -> None:
    said = text_of(say(soup(random.Random(seed)).replace("`", "")))  # code is verbatim
    assert not said.startswith((" ", "\n"))
    for double in ("  ", "\n\n", "\n ", "!!", "??", "……", "\r", "\t", "\u200b", "👍", "\ufe0f"):
        assert double not in said


def calls(text: str, size: int) -> int:
    """How many function calls it takes: a measure of work that no other process disturbs."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    spoken = MarkdownReader()
    sys.setprofile(profile)
    try:
        for start in range(0, len(text), size):
            spoken.feed(text[start : start + size])
        spoken.finish()
    finally:
        sys.setprofile(None)
    return count


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
    short = (scrap * 1_000)[:1_000]
    long = (scrap * 4_000)[:4_000]
    assert calls(long, size) < 4.4 * calls(short, size) + 500
    assert calls(long, size) < 60 * len(long)


@pytest.mark.parametrize("scrap", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_held_back_is_bounded(scrap: str) -> None:
    spoken = MarkdownReader()
    text = (scrap * 30_000)[:30_000]
    for start in range(0, len(text), 50):
        spoken.feed(text[start : start + 50])
        assert len(spoken._ahead.text) < 1200
    spoken.finish()
