"""Where sentences, clauses and words end, in many languages; pysbd as a second opinion."""

from __future__ import annotations

import re

import pysbd  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.text.boundaries import (
    CLAUSE_ENDS,
    PLACE,
    SENTENCE_ENDS,
    WIDE_CLAUSE_ENDS,
    WORD_ENDS,
    is_between_numbers,
    is_bound,
    is_joined,
    is_phrase_end,
    is_word_end,
    may_begin,
    wide_clause_end,
)
from services.tts.text.lookahead import Lookahead, More
from tests.unit.tts.text.texts import all_of, cut, texts, unhurried

# So long that only sentences cut.
SENTENCES = {"max_chars": 10_000, "first_chars": 10_000, "min_chars": 10_000}

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


# Paragraphs of plain text, one a line.
CORPUS = {
    "en": """
The sea was calm this morning. We walked down to the harbour. Nobody else was there.
Where did you put the keys? I left them on the table. Then somebody must have taken them!
Dr. Smith met Mr. Jones and Mrs. Brown at the station. They talked for an hour. It was late then.
Prof. Lee will speak first. After that, Ms. Park answers questions. Don't be late!
The train leaves at 5 p.m. on Monday. It arrives at 9 a.m. on Tuesday. Bring something to read.
The shop is on St. James Street. You can't miss it. It is next to the bank.
She works for Apple Inc. in California. Her brother works for a small company. They rarely meet.
He lived in the U.S. for ten years. He came back in 2019. He misses the food.
The U.S. Army is large. It has many soldiers. So has the Navy.
Bring fruit, e.g. apples or pears. Vegetables are fine, too. Meat is not.
We need paper, pens, ink, etc. for the class. Please order them today. Thank you!
The price rose by 3.5 percent. It is now 1,250.75 dollars. That is a lot of money.
Version 3.11 is out. It is faster than version 3.10. You should try it.
See Fig. 3 for details. The numbers are in No. 5 of the list. All of them are estimates.
J. R. R. Tolkien wrote the book. George W. Bush did not. I have read it twice.
Is it true? Really? I can't believe it!
Wait! Stop! What are you doing?
What a day… I am tired. Let us go home.
He said that it was over. She did not answer. The door closed.
You and I should talk. There is a lot to say. Let us begin.
My favourite letter is B. It comes after A. Nobody knows why.
Visit example.org for more. Write to me@example.org if you have questions. We answer within a day.
I was born in 1985. My sister was born in 1990. We grew up by the sea.
The meeting is on Jan. 5 this year. Last year it was on Dec. 12 already. Do not forget it.
She has a Ph.D. in physics. He has none. They get along.
It is 10:30 now. The film starts at 11:00. We have half an hour.
I agree (mostly). You don't. That is fine.
This is the end (of the story). Or is it? We shall see.
"Are you sure?" she asked. He nodded. Then he left.
She said: "I am sure." He did not believe her. Nobody did.
Well, it depends; some people like it, others don't. I do. Do you?
Mt. Everest is the highest mountain. It is in the Himalayas. Few people have climbed it.
Gov. Brown and Sen. Green agreed. The bill passed. It is law now.
It costs approx. ten dollars. That includes lunch. Dinner is extra.
The answer is 42. Nobody knows the question. That is a pity.
Smith et al. found the same. Their study was larger. It took five years.
He arrived at 7 p.m. The party had begun. Everybody was there.
""",
    "de": """
Guten Morgen! Wie geht es Ihnen? Mir geht es gut.
Das Wetter ist heute schön. Wir gehen an den See. Kommst du mit?
Dr. Müller wohnt in Köln. Er arbeitet dort seit Jahren. Seine Frau ist Lehrerin.
Am 3. Mai 2026 beginnt der Kurs. Er dauert zwei Wochen. Danach gibt es eine Prüfung.
Der 2. Weltkrieg endete im Jahr 1945. Das ist lange her. Viele erinnern sich noch.
Das kostet ca. 20 Euro. Das ist nicht viel. Nimm es!
Obst, Gemüse usw. kaufen wir morgen. Heute ist Sonntag. Da ist alles zu.
Wir brauchen Papier, z. B. für den Drucker. Tinte haben wir noch. Danke!
Es ist spät, d. h. wir müssen gehen. Der Bus fährt gleich. Beeil dich!
Die Nr. 5 ist frei. Die anderen sind besetzt. Bitte setzen Sie sich.
Er hat 3,5 Prozent mehr verdient. Das sind 1.250,75 Euro. Nicht schlecht!
Prof. Dr. Schmidt hält den Vortrag. Er spricht über Physik. Der Saal ist voll.
Sie sagte, dass es vorbei ist. Er antwortete nicht. Die Tür fiel zu.
Ist das wahr? Wirklich? Ich kann es nicht glauben!
Im 19. Jahrhundert war das anders. Es gab keine Autos. Man ging zu Fuß.
Sie kam am 24. Dezember an. Es lag viel Schnee. Alle freuten sich.
Fr. Meier ist heute nicht da. Kommen Sie morgen wieder. Sie ist ab neun Uhr hier.
Der Zug fährt um 18.30 Uhr. Wir haben noch Zeit. Trinken wir einen Kaffee?
Das ist bzw. war mein Haus. Jetzt gehört es dir. Pass gut darauf auf.
Vgl. dazu Abb. 3 im Anhang. Dort steht mehr. Lies es in Ruhe.
Kaiser Wilhelm II. dankte ab. Das war 1918. Danach kam die Republik.
Ich habe 5. Du hast 6. Wer hat mehr?
""",
    "fr": """
Bonjour ! Comment allez-vous ? Je vais bien.
Il fait beau ce matin. Nous allons à la plage. Tu viens avec nous ?
M. Dupont habite à Lyon. Sa femme travaille à Paris. Ils se voient le samedi.
Mme. Martin est arrivée hier. Elle repart demain. C'est dommage.
Le prix est de 3,5 euros. Ce n'est pas cher. Prenez-en deux !
Prenez des fruits, p. ex. des pommes. Les poires sont bonnes aussi. Merci !
Je ne sais pas… Peut-être demain. On verra.
Est-ce vrai ? Vraiment ? Je n'y crois pas !
L'hiver est long. Le printemps arrive enfin. Les oiseaux chantent.
Il a dit qu'il viendrait. Il n'est pas venu. Personne ne sait pourquoi.
La réunion commence à 10 h 30. Elle finit à midi. Ne soyez pas en retard.
Voir la p. 10 du livre. Tout y est expliqué. Bonne lecture !
Le train part à 8 h. Il arrive à midi. Nous mangerons là-bas.
Elle est née en 1985. Son frère est né en 1990. Ils ont grandi ensemble.
Du pain, du vin, etc. manquent encore. Je les achète. Voilà !
""",
    "es": """
¡Hola! ¿Qué tal? Estoy muy bien.
Hace buen tiempo hoy. Vamos a la playa. ¿Vienes con nosotros?
El Sr. García vive en Madrid. Su hermana vive en Sevilla. Se ven poco.
La Sra. López y el Dr. Pérez hablaron mucho. Era tarde. Todos se fueron.
El precio es de 3,5 euros. No es caro. Compra dos.
Trae fruta, p. ej. manzanas. Las peras también valen. ¡Gracias!
¿Es verdad? ¿De veras? ¡No lo creo!
Nació en 1985. Su hermano nació en 1990. Crecieron juntos.
No lo sé… Quizá mañana. Ya veremos.
La reunión es a las 10:30. Termina a las doce. No llegues tarde.
Dijo que vendría. No vino. Nadie sabe por qué.
Véase la pág. 10 del libro. Allí está todo. Buena lectura.
Vive en EE. UU. desde hace años. Le gusta. No quiere volver.
Son las 5 p. m. en punto. Vámonos ya. El tren no espera.
El cap. 3 es muy largo. El resto es corto. Me gustó mucho.
""",
    "zh": """
你好！你今天好吗？我很好。
今天天气很好。我们去海边吧。你来吗？
圆周率是3.14。这个数很有名。大家都知道。
他说他会来。他没有来。没有人知道为什么。
真的吗？我不相信！太好了！
会议十点半开始。十二点结束。请不要迟到。
她出生于1985年。她的弟弟出生于1990年。他们一起长大。
首先，我们需要数据；然后，训练模型。最后，看结果。这并不难。
他说：“停！”然后走了。门关上了。
""",
    "ja": """
おはようございます！お元気ですか？はい、元気です。
今日は天気がいいです。海に行きましょう。一緒に来ますか？
円周率は3.14です。有名な数です。みんな知っています。
彼は来ると言いました。でも来ませんでした。理由は誰も知りません。
本当ですか？信じられません！すごいですね！
会議は十時半に始まります。十二時に終わります。遅れないでください。
「止まれ！」と彼は言った。誰も動かなかった。静かだった。
彼女は1985年に生まれた。弟は1990年に生まれた。二人は一緒に育った。
""",
}

# What stands in front of a place where only one of the two ends a sentence, and why we do not
# agree. The judgement is ours where nothing else is said.
ONLY_OURS = {
    "en": {
        "What a day…": "an ellipsis before a capital letter ends a sentence",
        "My favourite letter is B.": "no name goes on with It",
    },
    "fr": {"Je ne sais pas…": "an ellipsis before a capital letter ends a sentence"},
    "es": {"No lo sé…": "an ellipsis before a capital letter ends a sentence"},
    "de": {
        "Ich habe 5.": "a number ends a sentence before a capital letter that begins no month",
        "Ich habe 5. Du hast 6.": "the same",
    },
    "zh": {"他说：“停！”": "a closing quote belongs to what it closes"},
}
ONLY_THEIRS = {
    "en": {"It costs approx.": "an abbreviation that pysbd does not know"},
    "de": {
        "Fr.": "an abbreviation that pysbd does not know",
        "Vgl. dazu Abb.": "the same, before a number",
        "Ich habe": "a number at the end is taken for that of a list",
        "Ich habe 5. Du hast": "the same",
    },
    "fr": {
        "Mme.": "the abbreviation with a full stop, which many models write",
        "Prenez des fruits, p.": "an abbreviation with a space in it",
        "Voir la p.": "an abbreviation that pysbd does not know, before a number",
    },
    "es": {
        "El Sr.": "a title at the start of a text",
        "Trae fruta, p.": "an abbreviation with a space in it",
        "Son las 5 p.": "the same",
        "Son las 5 p. m.": "the same",
    },
    "zh": {"他说：“停！": "a closing quote belongs to what it closes"},
}


def ends(text: str, sentences: list[str]) -> set[str]:
    """The beginnings of the text that are whole sentences."""
    found, at = set(), 0
    for sentence in sentences[:-1]:
        at = text.index(sentence.strip(), at) + len(sentence.strip())
        found.add(text[:at])
    return found


def theirs(language: str, text: str) -> set[str]:
    return ends(text, pysbd.Segmenter(language=language, clean=False).segment(text))


def ours(text: str) -> set[str]:
    return ends(text, texts(cut(text, **SENTENCES)))


@pytest.mark.parametrize("language", CORPUS)
def test_our_sentences_are_those_of_pysbd_but_for_what_is_listed(language: str) -> None:
    only_ours: set[str] = set()
    only_theirs: set[str] = set()
    for text in CORPUS[language].strip().splitlines():
        only_ours |= ours(text) - theirs(language, text)
        only_theirs |= theirs(language, text) - ours(text)
    assert only_ours == set(ONLY_OURS.get(language, ()))
    assert only_theirs == set(ONLY_THEIRS.get(language, ()))


def undisputed(language: str) -> list[str]:
    """Without numbers and Spanish marks: pysbd pairs those of different sentences."""
    listed = (*ONLY_OURS.get(language, ()), *ONLY_THEIRS.get(language, ()))
    return [
        text
        for text in CORPUS[language].strip().splitlines()
        if not text.startswith(listed) and not re.search(r"[0-9¿¡]", text)
    ]


@pytest.mark.parametrize("language", CORPUS)
@unhurried
@given(data=st.data())
def test_so_are_they_in_any_order(language: str, data: st.DataObject) -> None:
    space = "" if language in {"zh", "ja"} else " "
    paragraphs = data.draw(
        st.lists(st.sampled_from(undisputed(language)), min_size=1, max_size=5, unique=True)
    )
    text = space.join(paragraphs)
    assert ours(text) == theirs(language, text)


def end_at(text: str, place: int) -> int | None:
    """Where a piece that is this text would end if it ended at that place."""
    ahead = all_of(text)
    at = ahead.at + place
    char = text[place]
    boundary = SENTENCE_ENDS.get(char) or CLAUSE_ENDS.get(char) or wide_clause_end
    end = boundary(ahead, at)
    return None if end is None else end - ahead.at


@pytest.mark.parametrize(
    ("text", "place", "end"),
    [
        ("Of course, I can", 9, 10),
        ("It is 1,000 or so", 7, None),
        ("It is 10:30 now", 8, None),
        ("He said (so), and", 12, 13),
        ("« Oui, » dit-il", 5, 8),
        ("I know—so what", 6, 7),
        ("I know - so what", 7, 8),
        ("A well-known fact", 6, None),
        ("当然，我来", 2, 3),
        ("“当然，”我", 3, 5),
    ],
)
def test_clauses(text: str, place: int, end: int | None) -> None:
    assert end_at(text, place) == end


def test_a_sign_between_two_numbers_belongs_to_both() -> None:
    assert is_between_numbers(all_of("May 5, 2026"), 6, 7)
    assert not is_between_numbers(all_of("May 5, I say"), 6, 7)
    assert not is_between_numbers(all_of("May, 2026"), 4, 5)


@pytest.mark.parametrize(
    ("text", "is_end"),
    [
        ("word | next", True),
        ("Dr. | Who", False),
        ("it takes 5 | km", False),
        ("1 | 000 of them", False),
        ("in 2024 | we met", True),
        ("it is 5 p.m. | today", False),
        ("so it is | !", False),
        ("so it is | 5", False),
        ("so it ends. | Then", True),
    ],
)
def test_words(text: str, is_end: bool) -> None:
    before, after = text.split("|")
    place = len(before.rstrip()) + 1
    assert is_word_end(all_of(before.rstrip() + after), place) is is_end


def test_a_word_belongs_to_the_next_where_it_cannot_stand_alone() -> None:
    assert is_bound(all_of("see No. 5"), len("see No.") + 1)
    assert is_bound(all_of("about 5 km"), len("about 5") + 1)
    assert not is_bound(all_of("about us"), len("about") + 1)


@pytest.mark.parametrize(
    ("text", "natural"),
    [
        ("重要|分支", False),
        ("重要的|分支", True),
        ("最大の|都市", True),
        ("それは|カップ", True),
        ("それ|は", False),
    ],
)
def test_between_characters_a_breath_is_natural_behind_a_phrase(text: str, natural: bool) -> None:
    before, after = text.split("|")
    ahead = all_of(before + after)
    assert may_begin(ahead, len(before) + 1)
    assert is_phrase_end(ahead, len(before) + 1) is natural


@pytest.mark.parametrize("text", ["きゃ", "ラー", "「本", "5本"])
def test_no_piece_begins_with_what_clings_to_what_is_before(text: str) -> None:
    assert not may_begin(all_of(text), 2)


def test_what_is_drawn_as_one_is_joined() -> None:
    assert is_joined("e\u0301")
    assert is_joined("\u200dx")
    assert is_joined("x\u200c")
    assert not is_joined("ab")


@pytest.mark.parametrize("text", ["It is so.", 'It is "so!"', "Come at 5 p.m. ", "Well… ", "“停！"])
def test_a_place_is_not_judged_before_its_proof_has_come(text: str) -> None:
    ahead = Lookahead()
    ahead.add(text)
    place = max(text.rfind(mark) for mark in SENTENCE_ENDS) + 1
    if text.endswith('!"'):
        place = text.rfind("!") + 1
    with pytest.raises(More):
        SENTENCE_ENDS[ahead.text[place]](ahead, place)


def test_every_place_has_a_rule_and_every_rule_a_place() -> None:
    signs = {*SENTENCE_ENDS, *CLAUSE_ENDS, *WIDE_CLAUSE_ENDS, *WORD_ENDS}
    assert all(PLACE.match(sign) for sign in signs)
    assert not PLACE.match("a")
    assert PLACE.match("好")
