"""What is said in one breath, in many languages, however the text comes."""

from __future__ import annotations

import random
import re
import sys
from itertools import pairwise

import pytest

from services.tts.text.markdown import MarkdownReader
from services.tts.text.runs import Run
from services.tts.text.segments import Piece, Segmenter

# So long that only sentences cut: for the cases that are about the ends of sentences.
SENTENCES = {"first_chars": 10_000, "min_chars": 10_000}


def run_of(text: str, start: int = 0) -> list[Run]:
    return [Run(text, start, start + len(text))] if text else []


def cut(*parts: str, **options: int) -> list[Piece]:
    """Segmenter of speakable text."""
    pieces = Segmenter(**options)
    out: list[Piece] = []
    start = 0
    for part in parts:
        out += pieces.feed(run_of(part, start))
        start += len(part)
    return out + pieces.finish()


def speak(*parts: str) -> list[Piece]:
    """Segmenter of text as it is shown."""
    spoken, pieces = MarkdownReader(), Segmenter()
    out = [piece for part in parts for piece in pieces.feed(spoken.feed(part))]
    return out + pieces.feed(spoken.finish()) + pieces.finish()


def texts(pieces: list[Piece]) -> list[str]:
    return [piece.text for piece in pieces]


def split(text: str, longest: int, chance: random.Random) -> list[str]:
    parts = []
    while text:
        length = chance.randint(1, longest)
        parts.append(text[:length])
        text = text[length:]
    return parts


# One line a case: the sentences, with a bar between them.
SENTENCE_CASES = """
Sure! | I can do that. | Really? | Yes.
What?! | No way! | It is… | Well.
Well… maybe not. | Fine.
Well... maybe not. | Fine.
He said "Stop!" | Then he left.
"Stop!" he said. | Nobody moved.
"Are you sure?" she asked. | "Yes." | He nodded.
“Stop!” he said. | “Now.” | Then he left.
I agree (mostly). | You don't.
It works (really! it does) every time. | Good.
(This is one.) | This is two.
Dr. Smith met Mr. Jones and Mrs. Brown. | They talked.
Prof. Lee vs. Capt. Kirk: who wins? | Nobody.
Bring fruit, e.g. apples, i.e. food. | Thanks.
Bring apples, pears, etc. and cheese. | Thanks.
Bring apples, pears, etc. | Then we eat.
Come at 5 p.m. on Monday. | Or not.
Come at 5 p.m. | Then we eat.
It opens at 9 a.m. and closes at 5 p.m. | Be there.
The U.S. Army is big. | It is.
He lives in the U.S. | He likes it.
She has a Ph.D. in physics. | Nice.
J. R. R. Tolkien wrote it. | George W. Bush did not.
You and I. | We two.
The answer is B. | Because it is.
See No. 5 and Fig. 3. | Then stop.
Do you agree? | No. | I don't.
Pi is 3.14 or so. | And 1,000.50 is more.
I have 5. | You have 6.
In 2024. | Then 2025.
Use Python 3.11. | Then v1.2.3.
Visit example.org. | Mail me@example.org. | Open main.py. | Done.
Call obj.method. | Done.
It is 10:30. | Go!
Apple Inc. makes phones. | They sell.
Acme Ltd. and Foo Corp. | They merged.
Smith et al. wrote it. | It is good.
Is that so?Yes. | Wow!Great.
1. Install it. | Then run.
Henry VIII. had wives. | Six.
Wait — what? | Nothing.
It was on Dec. 24. | Then came snow.
St. Mary's is in Mt. Vernon. | Go there.
This is called, uh, "x." | It works.
Guten Tag! | Wie geht es Ihnen? | Mir geht es gut.
Am 3. Mai 2026 ist es so weit. | Gut.
Es war der 2. Weltkrieg. | Schlimm.
Montag, 3. Mai, oder Dienstag, 4. Juni. | Such dir einen aus.
Im 19. Jahrhundert und im 20. Jahrhundert. | Lange her.
Vom 3. bis 5. April. | Dann nicht.
Am 24.12.2026 um 18 Uhr. | Am 24.12. ist Heiligabend. | Gut.
Das ist z. B. gut, d. h. nicht schlecht. | Ja.
Das ist z.B. gut, d.h. nicht schlecht. | Ja.
Äpfel, Birnen usw. sind da. | Äpfel, Birnen usw. | Dann Käse.
Bzw. auch nicht. | Ca. 5 km, inkl. Pause.
Hr. Müller und Fr. Dr. Meier, u. a. aus Köln. | Alle da.
Es kostet 1.000,50 Euro. | Teuer!
Die Nr. 5 lebt, vgl. Abb. 3. | Ja.
„Halt!“ rief er. | „Komm.“ | Er kam.
»Halt!« rief er. | Er kam.
Ich habe 5. | Du hast 6.
Es dauert ca. 10 Min. und mehr. | Gut.
Er hat 3 Mio. Euro. | Das ist viel.
Kaiser Wilhelm II. war da. | Ja.
Der Dr.-Ing. Meier und Prof. Dr. h. c. mult. Schulz. | Ja.
Bonjour ! | Comment ça va ? | Bien.
M. Dupont et Mme. Martin sont là. | Oui.
Prenez des fruits, p. ex. des pommes. | Merci.
« Stop ! » dit-il. | « Non. » | Puis rien.
Il est 17 h. 30 environ. | Bien.
L'eau, c'est bon… | Oui… mais non.
Voir l'art. 5 et la p. 10. | Bien.
C'est etc. | Mais oui.
¡Hola! | ¿Qué tal? | Bien.
¿De verdad? | ¡Sí! | El Sr. García y la Sra. López. | Adiós.
Viven en EE. UU. desde 2010. | Bien.
EE.UU. es grande. | Sí.
Son las 5 p. m. en punto. | Vale.
Por ejemplo, p. ej. esto. | Ya.
Vale, ¿y tú? | Yo también.
你好！ | 我是助手。 | 你需要什么？ | 好
圆周率是3.14。 | 对吗？ | 对。
他说：“停！” | 然后走了。
（真的吗？不是）好的。 | 再见。
今日は。 | 元気ですか？ | はい！
「止まれ！」と彼は言った。 | 「はい。」 | それから。
『本』を読む。 | 楽しい。
नमस्ते। | आप कैसे हैं? | मैं ठीक हूँ।
डॉ. शर्मा आए। | ठीक है।
यह पहला है।यह दूसरा है। | ठीक
مرحبا. | كيف حالك؟ | أنا بخير!
د. أحمد هنا. | شكرا.
السعر 3.14 دولار. | شكرا.
کیا حال ہے؟ | ٹھیک ہے۔ | شکریہ
안녕하세요. | 반갑습니다! | 네
"""


def sentence_cases() -> list[list[str]]:
    return [line.split(" | ") for line in SENTENCE_CASES.strip().splitlines()]


def joined(sentences: list[str]) -> str:
    """With a space between sentences, but where the script has none."""
    return re.sub(r"(?<=[。！？”।]) (?=[\u0900-\uffff])", "", " ".join(sentences))


EXCEPTIONS = {
    "Is that so?Yes. | Wow!Great.": ["Is that so?", "Yes.", "Wow!", "Great."],
    "यह पहला है।यह दूसरा है। | ठीक": ["यह पहला है।", "यह दूसरा है।", "ठीक"],
}


@pytest.mark.parametrize("sentences", sentence_cases(), ids=lambda s: s[0])
def test_sentences(sentences: list[str]) -> None:
    text = joined(sentences)
    expected = EXCEPTIONS.get(" | ".join(sentences), sentences)

    assert texts(cut(text, **SENTENCES)) == expected
    assert texts(cut(*text, **SENTENCES)) == expected


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Sure! I can help you with that.", "Sure!"),
        ("Hi. How are you?", "Hi."),
        ("Of course, I can help you with that.", "Of course,"),
        ("Well, I can help you with that today.", "Well, I can help you with"),
        ("I think that you should really go home.", "I think that you should really"),
        ("Supercalifragilisticexpialidocious is a word", "Supercalifragilisticexpialidocious"),
        ("The temperature of 25 °C is fine today", "The temperature of 25 °C"),
        ("You should go and see Dr. Smith today", "You should go and see Dr. Smith"),
        ("It will be there around 5 p.m. today or so", "It will be there around 5 p.m. today"),
        ("The number that counts is 1 000 000 today", "The number that counts is 1 000 000 today"),
        ("Everything about Python 3.11 is new here", "Everything about Python 3.11 is"),
        ("Python (a very popular language) is", "Python (a very popular language)"),
        ("Everything (a very popular word) is fine", "Everything"),
        ("Here are the steps:\n1. Go", "Here are the steps:"),
        ("Getting started\nInstall it.", "Getting started"),
        ("I know this—believe me, I do.", "I know this—"),
        ("I know this - believe me, I do.", "I know this -"),
        ("A well-known problem of mine is that", "A well-known problem of mine"),
        ("It costs 1,000 or 2,000 dollars each", "It costs 1,000 or 2,000 dollars"),
        ("On May 5, 2026, we went to the sea", "On May 5, 2026,"),
        ("Natürlich, das mache ich sehr gerne.", "Natürlich,"),
        ("Die Hauptstadt von Frankreich ist Paris.", "Die Hauptstadt von Frankreich"),
        ("Bien sûr, je peux vous aider.", "Bien sûr,"),
        ("Voulez-vous que je vous aide ? Oui.", "Voulez-vous que je vous aide ?"),
        ("La capital de Francia es París, sí.", "La capital de Francia es"),
        ("当然可以，我来帮你。", "当然可以，"),
        ("好的，我来帮你解决这个问题吧朋友。", "好的，我来帮你解决这个问题吧"),
        ("机器学习是人工智能的一个重要分支它使", "机器学习是人工智能的一个重要分支"),
        ("東京は日本の首都であり世界最大の都市圏です。", "東京は日本の首都であり世界最大の"),
        ("भारत की राजधानी नई दिल्ली है और यह", "भारत की राजधानी नई दिल्ली"),
        ("بالتأكيد، يمكنني مساعدتك.", "بالتأكيد،"),
        ("عاصمة فرنسا هي مدينة باريس الجميلة جدا", "عاصمة فرنسا هي مدينة باريس"),
    ],
)
def test_the_first_piece_is_early(text: str, first: str) -> None:
    pieces = Segmenter()
    said = [piece for char in text for piece in pieces.feed(run_of(char))] + pieces.finish()
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
    pieces = Segmenter()
    early = [piece for char in text[:-1] for piece in pieces.feed(run_of(char))]
    assert early == []
    [piece] = pieces.feed(run_of(text[-1]))
    assert piece.text == text[: len(text) - proof].strip()


def test_a_piece_comes_through_both_with_no_further_character() -> None:
    spoken, pieces = MarkdownReader(), Segmenter()
    written = "**Sure!** "
    said = [pieces.feed(spoken.feed(char)) for char in written]
    assert [len(now) for now in said] == [0] * (len(written) - 1) + [1]


NO_PUNCTUATION = (
    "so i was thinking about how the sea looks when nobody is there to see it and then " * 30
)


def test_text_without_punctuation_is_cut_at_words() -> None:
    pieces = cut(NO_PUNCTUATION)
    lengths = [len(piece.text) for piece in pieces[:-1]]

    assert 24 <= lengths[0] <= 34
    assert 120 <= lengths[1] <= 135
    assert all(180 <= length <= 190 for length in lengths[2:])
    assert " ".join(texts(pieces)) == NO_PUNCTUATION.strip()


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
    assert said_characters(pieces) == speakable(text)
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
    pieces = Segmenter()
    said = pieces.feed([Run("First sentence. Second sentence. ", 5, 8), *run_of("Third.", 8)])
    said += pieces.finish()
    assert [(piece.start, piece.end) for piece in said] == [(5, 8), (8, 8), (8, 14)]


@pytest.mark.parametrize("option", ["max_chars", "first_chars", "min_chars"])
def test_a_length_below_one_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Segmenter(**{option: 0})


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


def speakable(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def said_characters(pieces: list[Piece]) -> str:
    return speakable("".join(texts(pieces)))


@pytest.mark.parametrize("text", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("seed", range(4))
def test_how_a_text_is_split_makes_no_difference(text: str, seed: int) -> None:
    chance = random.Random(seed)
    whole = speak(text)
    assert speak(*text) == whole
    for longest in (3, 12, 80):
        assert speak(*split(text, longest, chance)) == whole


@pytest.mark.parametrize("seed", range(60))
def test_how_a_mixture_is_split_makes_no_difference(seed: int) -> None:
    chance = random.Random(seed)
    words = " ".join(ANSWERS[name] for name in list(ANSWERS)[:9]).split(" ")
    words += [
        "\n",
        "\n\n",
        "(",
        ")",
        '"',
        "Dr.",
        "etc.",
        "5.",
        "A.",
        "…",
        "。",
        "「",
        "—",
        "x" * 90,
    ]
    text = " ".join(chance.choices(words, k=chance.randint(5, 90)))
    whole = speak(text)
    assert speak(*text) == whole
    assert speak(*split(text, 9, chance)) == whole


@pytest.mark.parametrize("text", ANSWERS.values(), ids=ANSWERS.keys())
def test_every_character_is_said_once_and_in_order(text: str) -> None:
    spoken = MarkdownReader()
    runs = spoken.feed(text) + spoken.finish()
    pieces = speak(text)

    assert said_characters(pieces) == speakable("".join(run.text for run in runs))
    assert [piece.index for piece in pieces] == list(range(len(pieces)))
    assert all(0 <= piece.start < piece.end <= len(text) for piece in pieces)
    assert all(left.end <= right.start for left, right in pairwise(pieces))
    assert all(piece.text == piece.text.strip() and "\n" not in piece.text for piece in pieces)


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


def calls(text: str, size: int) -> int:
    """How many function calls it takes: a measure of work that no other process disturbs."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        speak(*(text[start : start + size] for start in range(0, len(text), size)))
    finally:
        sys.setprofile(None)
    return count


HOSTILE = ["word ", "x", ". ", "a. ", "(", '"', "«! ", "好", "。", "1. ", "Dr. ", "5 ", "U. ", "\n"]
HOSTILE += [", ", "— ", "e\u0301", "( ", "「", "。」"]


@pytest.mark.parametrize("scrap", HOSTILE)
@pytest.mark.parametrize("size", [5, 1_000_000])
def test_work_grows_with_the_text_and_no_faster(scrap: str, size: int) -> None:
    short, long = (scrap * 1_000)[:1_000], (scrap * 4_000)[:4_000]
    assert calls(long, size) < 4.6 * calls(short, size) + 500


@pytest.mark.parametrize("scrap", HOSTILE)
def test_what_is_held_back_is_bounded(scrap: str) -> None:
    pieces = Segmenter()
    for start in range(0, 20_000, 20):
        pieces.feed(run_of((scrap * 20)[:20], start))
        assert len(pieces._ahead.text) < 320
        assert len(pieces._ranges) == len(pieces._ahead.text)
