"""Noun: in which language a text is written, as far as its script and its commonest words tell.

Enough to choose a voice's language where nobody said one: a voice that reads Chinese as English
says nothing that anybody understands. English is what voices speak by default, and is not told.
"""

from __future__ import annotations

import re
from typing import Final

# By script; what is written in several languages goes to the one that most people write in it.
_SCRIPTS: Final = (
    ("ja", re.compile("[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]")),  # kana: Chinese has none
    ("ko", re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")),
    ("zh", re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("ar", re.compile("[\u0600-\u06ff\u0750-\u077f]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
_LETTER: Final = re.compile(r"[^\W\d_]")
# Of the letters so many must be of a script: a Greek letter in a formula does not make it Greek.
_SHARE: Final = 0.3
_KANA: Final = 0.1  # of the letters: so few are enough beside Chinese characters
# Words that are frequent in one of these languages and in none of the others, nor in English.
_WORDS: Final = {
    "es": "el los las una es y que está estoy muy pero como qué cómo por con del hola gracias son"
    " tiene también porque más sí usted",
    "fr": "le les des une est et que vous nous je dans pour avec sur pas qui du au ce cette être"
    " bonjour merci très oui où c'est",
    "it": "il gli che è di non una per sono con questo questa della nel perché anche ciao grazie"
    " più molto sì",
    "pt": "o os uma não que é em do da com por mais também você olá obrigado muito são está isso"
    " à ção",
    "de": "der die das und ist nicht ein eine ich du wir sie mit für auf von zu den dem im auch"
    " hallo danke ja sehr wie",
    "nl": "de het een en is niet van ik je dat op te zijn voor met ook hallo dank wat hoe",
    "pl": "jest nie się na że jak ale czy cześć tak dzień dobry dziękuję bardzo",
    "tr": "bir ve bu için ne çok merhaba teşekkür değil ama nasıl",
}
_ENGLISH: Final = (
    "the a an is are was of and to in it you i we he she that this with for on not be have do at"
    " from or as by my your what how why hello yes no there"
)
_ENGLISH_WORDS: Final = frozenset(_ENGLISH.split())
_LEXICON: Final = {name: frozenset(words.split()) for name, words in _WORDS.items()}
_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_PROVEN_BY: Final = 2  # words more than of any other language
_TELLING: Final = 200  # characters; what comes after them is an example or a name


def language_of(text: str) -> str | None:
    """An ISO code; None for English, and where the text does not tell."""
    if text.isascii():
        return _by_words(text)
    letters = len(_LETTER.findall(text))
    counts = {name: len(script.findall(text)) for name, script in _SCRIPTS}
    if counts["ja"] >= max(1, _KANA * letters):  # Japanese is written in Chinese characters, too
        counts["ja"] += counts["zh"]
    else:
        counts["ja"] = 0
    for name, count in counts.items():
        if letters and count >= _SHARE * letters:
            return name
    return _by_words(text)


def _by_words(text: str) -> str | None:
    words = _WORD.findall(text.lower())
    counts = {name: sum(map(known.__contains__, words)) for name, known in _LEXICON.items()}
    (best, most), (_, second) = sorted(counts.items(), key=lambda item: -item[1])[:2]
    rival = max(second, sum(map(_ENGLISH_WORDS.__contains__, words)))
    return best if most >= rival + _PROVEN_BY else None


class SpokenLanguage:
    """Of one text, by its first pieces: once it is known, the rest is spoken in it.

    Its answers depend on the pieces alone, which are a function of the text.
    """

    def __init__(self, given: str | None) -> None:
        """`given`: what the request or the service says; then the text is not asked."""
        self._given = given
        self.begin()

    def begin(self) -> None:
        """Another text, or the same one from its start."""
        self.name = self._given
        self._read = ""
        self._open = self._given is None

    @property
    def guessed(self) -> bool:
        return self.name is not None and self._given is None

    def read(self, piece: str) -> None:
        """The next piece that is said."""
        if not self._open:
            return
        self._read = f"{self._read} {piece}".lstrip()
        found = language_of(self._read)
        # What looks Chinese is Japanese as soon as there is kana in it.
        if self.name is None or found == "ja":
            self.name = found
        self._open = len(self._read) <= _TELLING and self.name in {None, "zh"}

    def withdraw(self) -> None:
        """The model does not speak what was guessed: it is left to choose."""
        self.name, self._open = self._given, False
