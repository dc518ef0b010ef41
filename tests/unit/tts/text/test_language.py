"""In which language a text is written."""

from __future__ import annotations

import pytest

from services.tts.text.language import SpokenLanguage, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("你好！今天天气很好。", "zh"),
        ("今日はいい天気ですね。", "ja"),
        ("東京タワーは高いです", "ja"),
        ("日本国憲法前文は世界平和を", "ja"),
        ("안녕하세요, 반갑습니다.", "ko"),
        ("नमस्ते, आप कैसे हैं?", "hi"),
        ("مرحبا، كيف حالك؟", "ar"),
        ("Привет, как дела?", "ru"),
        ("Γειά σου, τι κάνεις;", "el"),
        ("สวัสดีครับ", "th"),
        ("Hola, ¿cómo está usted? El tiempo es muy bueno.", "es"),
        ("Bonjour, vous êtes dans la rue et il est très tard.", "fr"),
        ("Ciao, questo è il mio gatto e non mangia.", "it"),
        ("Olá, você está muito bem e isso não é mau.", "pt"),
        ("Das ist ein Haus, und ich bin nicht zu Hause.", "de"),
        ("Dit is een huis en ik ben niet thuis, dat is wat het is.", "nl"),
    ],
)
def test_a_language_is_told_by_its_script_or_its_words(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "123.",
        "Hello!",
        "The sea covers more than two thirds of our planet.",
        "The area of a circle is π r².",
        "I had a café au lait in the Rue de la Paix, and it was good.",
        "Die Hard is a film.",
        "In Chinese, hello is 你好, and you say it to everybody you meet on the way.",
        "OK.",
    ],
)
def test_english_and_what_does_not_tell_are_left_to_the_voice(text: str) -> None:
    assert language_of(text) is None


def spoken(*pieces: str, given: str | None = None) -> list[str | None]:
    language, found = SpokenLanguage(given), []
    for piece in pieces:
        language.read(piece)
        found.append(language.name)
    return found


def test_once_it_is_known_the_rest_is_spoken_in_it() -> None:
    assert spoken("你好！", "Hello world, how are you today?", "안녕하세요") == ["zh"] * 3


def test_what_the_first_piece_does_not_tell_the_next_ones_do() -> None:
    assert spoken("Hallo!", "Das ist gut.") == [None, "de"]


def test_chinese_characters_with_kana_after_them_are_japanese() -> None:
    assert spoken("東京、", "大阪、京都。", "どこが好きですか。") == ["zh", "zh", "ja"]


def test_an_example_in_the_midst_of_a_long_text_does_not_change_its_language() -> None:
    english = "The sea covers more than two thirds of our planet. "
    assert spoken(*[english] * 5, "你好！今天天气很好。" * 40)[-1] is None


def test_what_the_request_says_counts() -> None:
    assert spoken("你好！", given="en") == ["en"]


def test_a_guess_is_withdrawn_for_the_rest_of_the_text_and_not_for_another() -> None:
    language = SpokenLanguage(None)
    language.read("Привет, как дела?")
    assert language.guessed
    language.withdraw()
    language.read("Хорошо, спасибо.")
    assert (language.name, language.guessed) == (None, False)
