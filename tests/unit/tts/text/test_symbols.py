"""Signs: marks, dots, dashes, pictures, money, formulas."""

from __future__ import annotations

import pytest

from tests.unit.tts.text.texts import check_said

CASES = {
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
}


@pytest.mark.parametrize(("written", "said"), CASES.values(), ids=CASES.keys())
def test_signs_are_said_as_a_voice_can_say_them(written: str, said: str) -> None:
    check_said(written, said)
