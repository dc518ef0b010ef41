"""Texts, how they may come, and what is said of them: for the tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st

from services.tts.text.lookahead import Lookahead
from services.tts.text.markdown import MarkdownReader
from services.tts.text.runs import Run
from services.tts.text.segments import Piece, Segmenter

# A busy machine is no failure; how much work it takes is counted in calls.
unhurried = settings(deadline=None)


def said_of(*parts: str, **options: str) -> list[Run]:
    """The runs of a text as it is shown."""
    reader = MarkdownReader(**options)  # type: ignore[arg-type]  # the options of the test
    return [run for part in parts for run in reader.feed(part)] + reader.finish()


def text_of(runs: list[Run]) -> str:
    return "".join(run.text for run in runs)


def check_said(written: str, said: str) -> None:
    """However it comes."""
    assert text_of(said_of(written)) == said
    assert text_of(said_of(*written)) == said


def run_of(text: str, start: int = 0) -> list[Run]:
    return [Run(text, start, start + len(text))] if text else []


def cut(*parts: str, **options: int) -> list[Piece]:
    """The pieces of speakable text."""
    segmenter = Segmenter(**options)
    out: list[Piece] = []
    start = 0
    for part in parts:
        out += segmenter.feed(run_of(part, start))
        start += len(part)
    return out + segmenter.finish()


def speak(*parts: str) -> list[Piece]:
    """The pieces of text as it is shown."""
    reader, segmenter = MarkdownReader(), Segmenter()
    out = [piece for part in parts for piece in segmenter.feed(reader.feed(part))]
    return out + segmenter.feed(reader.finish()) + segmenter.finish()


def texts(pieces: list[Piece]) -> list[str]:
    return [piece.text for piece in pieces]


def speakable(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def all_of(text: str, *, at: int = 0) -> Lookahead:
    """A text that has come whole; the piece under way, or the next character, is at `at`."""
    ahead = Lookahead()
    ahead.add(text)
    ahead.ended = True
    ahead.at += at
    return ahead


def held_back(reader: MarkdownReader | Segmenter) -> int:
    """How many characters wait for what follows them."""
    return len(reader._ahead.text) - reader._ahead.at


def calls(work: Callable[[], object]) -> int:
    """How many function calls it takes: a measure of work that no other process disturbs."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def chunks(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


NO_PUNCTUATION = (
    "so i was thinking about how the sea looks when nobody is there to see it and then " * 30
)

ANSWERS = {
    "markdown": """Sure! Here's how **gradient descent** works, step by step.

## The idea

It's an algorithm that finds a minimum of a function, e.g. of an error. First, you *pick* a starting
point; then you compute the gradient. See [the docs](https://www.example.org/docs?a=1#b) for more.

1. **Initialize** the parameters (e.g. `w = 0.01`).
2. Compute the gradient — the direction of steepest ascent.
3. Repeat until it converges!

> "All models are wrong." — Box

| Name | Value |
|------|------:|
| rate | 0.01 |
| steps | 1,000 |

- [x] Done
- [ ] Not done :tada: 🎉

---
That's it. Any questions?""",
    "code": """You can do it like this:

```python
def main() -> None:
    print("Hello. World!")
```

Then run `python main.py`. It prints "Hello World!" and exits.
Use Python 3.11 or later, i.e. not 2.7.
""",
    "german": (
        "Natürlich! Am 3. Mai 2026 trifft sich Dr. Müller mit Fr. Schmidt, z. B. in Köln. Das"
        " kostet ca. 1.000,50 Euro, d. h. nicht wenig; er sagte: „Halt!“ Dann ging er."
        " Um 18.30 Uhr ist Schluss."
    ),
    "french": (
        "Bien sûr ! M. Dupont habite à Paris, p. ex. près de la Seine. « Stop ! » dit-il. C'est"
        " vrai : il l'a dit… Mais personne n'a répondu ; pourquoi ?"
    ),
    "spanish": (
        "¡Claro que sí! ¿Quieres saber más? El Sr. García vive en EE. UU. desde hace 3,5 años."
        " Dijo: «¡Alto!», y se fue. Son las 5 p. m. en punto."
    ),
    "chinese": (
        "当然可以！我来解释一下**机器学习**的基本概念。首先，我们需要数据；然后，训练模型。他说：“停！”"
        "然后走了。圆周率是3.14。访问https://example.org/a。谢谢！！"
    ),
    "japanese": (
        "はい、もちろんです！「機械学習」とは、データから学ぶ技術です。「止まれ！」と彼は言った。"
        "東京は日本の首都であり世界最大の都市圏のひとつとして知られています。"
    ),
    "hindi": "नमस्ते! मैं आपकी मदद कर सकता हूँ। आप क्या जानना चाहते हैं? यह बहुत आसान है, देखिए।",
    "arabic": "بالتأكيد، يمكنني مساعدتك. ما هو سؤالك؟ السعر 3.14 دولار؛ وهذا جيد جدا. شكرا!",
    "no punctuation": NO_PUNCTUATION,
    "emoji": "🎉🎉 Wow 👍🏽!! That's 💯 great 👨‍👩‍👧... 1️⃣ First 🇩🇪 2️⃣ second ❤️🔥 Bye 👋",
    "hostile markers": "[[[[[(((( **_~~`<a href='|# - > ![](*.*) $$ \\( &amp &amp; ]]] )) ``` x",
    "stars": "*" * 3000 + "word" + "_" * 500,
    "dots": "a. b. c. " * 50 + ". . . " * 50,
    "numbers": "1. 2. 3. 4.5 6,7 8: 9; 10! 11? 12 p.m. 13 No. 14 " * 10,
}

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
# What matters where a text is cut.
WORDS = [word for name in list(ANSWERS)[:9] for word in ANSWERS[name].split(" ")]
WORDS += ["(", ")", '"', "Dr.", "etc.", "5.", "A.", "…", "。", "「", "—", "x" * 90]


def of_scraps(scraps: list[str], most: int) -> st.SearchStrategy[str]:
    """Scraps with and without spaces between them."""
    scrap = st.builds(str.__add__, st.sampled_from(scraps), st.sampled_from(["", " "]))
    return st.lists(scrap, max_size=most).map("".join)


shown_texts = st.one_of(
    st.sampled_from(list(ANSWERS.values())),
    of_scraps(SCRAPS, 60),
    of_scraps([*SCRAPS, *WORDS], 60),
    of_scraps(WORDS, 90),
    st.text("[]()<>*_`~#|!?.-&;$\\{}/:=^ahwtTW15 \n\"'”»", max_size=120),
    st.text(max_size=80),
)


@st.composite
def in_parts(draw: st.DrawFn, whole: st.SearchStrategy[str] = shown_texts) -> list[str]:
    """A text, split where it may be split on its way."""
    text = draw(whole)
    places = draw(st.sets(st.integers(0, len(text)), max_size=40))
    return [text[start:end] for start, end in pairwise([0, *sorted(places), len(text)])]
