"""Replies that show whether the history of a conversation reached the model. No intelligence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = re.compile(r"\b(?:my name is|call me|i am called)\s+([^\W\d_][\w'-]*)", re.IGNORECASE)
_ASKS_NAME = re.compile(r"\b(?:what(?:'s| is) my name|who am i|remember my name)\b", re.IGNORECASE)
_ASKS_BEFORE = re.compile(
    r"\b(?:what did i (?:ask|say)|my (?:first|last|previous) (?:question|message)"
    r"|what were we talking)",
    re.IGNORECASE,
)
_SUM = re.compile(r"(-?\d{1,9})\s*(\+|plus|-|minus|\*|x|times)\s*(-?\d{1,9})\b", re.IGNORECASE)
_TURNS = re.compile(r"\bhow many (?:questions|messages|turns|times)\b", re.IGNORECASE)
_LONG = re.compile(r"\b(?:story|in detail|at length|long answer|essay)\b", re.IGNORECASE)
_GREETS = re.compile(r"^\W*(?:hello|hi|hey|good (?:morning|afternoon|evening))\b", re.IGNORECASE)
_THANKS = re.compile(r"\b(?:thanks|thank you)\b", re.IGNORECASE)
_LEAVES = re.compile(r"\b(?:bye|goodbye|see you|good night)\b", re.IGNORECASE)
_WHO = re.compile(r"\b(?:who are you|what are you|your name)\b", re.IGNORECASE)
_MOOD = re.compile(r"\bhow are you\b", re.IGNORECASE)

_FACTS = {
    "capital of france": "The capital of France is Paris. It lies on the river Seine.",
    "capital of germany": "The capital of Germany is Berlin. It has about 3.7 million people.",
    "capital of japan": "The capital of Japan is Tokyo. Its name means eastern capital.",
    "nats": (
        "NATS is a small, fast messaging system. Programs publish messages to subjects, "
        "and whoever has subscribed to a subject receives them. "
        "With JetStream the messages are kept, so that they can be read again later."
    ),
    "sky blue": (
        "Sunlight holds all colours, and the air scatters the blue ones most. "
        "So blue light reaches your eyes from every direction, and the sky looks blue."
    ),
    "weather": (
        "I cannot look out of the window, so I do not know the weather. "
        "If you tell me where you are going, I will still suggest an umbrella."
    ),
    "joke": (
        "Why did the message take so long? It was waiting for an acknowledgement. "
        "I know better ones, but they have not been delivered yet."
    ),
}
_STORY = (
    "Once upon a time there was a lighthouse keeper who had never seen the sea by day.",
    "Every evening she climbed one hundred and twelve steps and lit the lamp.",
    "Every morning she went to sleep just before the sun came up.",
    "One winter night a ship answered her light with a light of its own.",
    "It blinked three times, then waited, then blinked three times again.",
    "She had no book of signals, so she answered in the only way she knew.",
    "She covered the lamp with her coat and let it shine, three times.",
    "The ship came closer, slowly, and dropped its anchor in the bay.",
    "In the morning she stayed awake for the first time in eleven years.",
    "The water was not black at all, it was green, and full of moving light.",
    "A sailor rowed ashore and brought her a basket of oranges.",
    "They sat on the steps, ate them, and said very little.",
    "From then on she slept a little less, and the lamp was never lonely again.",
)
_QUOTE = 80  # characters of an earlier question that are repeated


def plain_text(content: Any) -> str:
    """What a message says; its content is text, or a list of parts of which some are text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part for part in content if isinstance(part, dict))
        return " ".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    return ""


def user_texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the user said, in order."""
    return [plain_text(m.get("content")) for m in messages if m.get("role") == "user"]


def reply(messages: Sequence[Mapping[str, Any]]) -> str:
    """Two to five sentences that answer the last user message and refer to those before it."""
    said = user_texts(messages) or [""]
    return " ".join(part for part in (_answer(said), _memory(said)) if part)


def _answer(said: list[str]) -> str:
    last, name = said[-1], _name(said)
    return _about_the_talk(said, name) or _known(last) or _small_talk(last, name)


def _about_the_talk(said: list[str], name: str) -> str:
    """What only one who has read the history can answer."""
    last = said[-1]
    if _ASKS_NAME.search(last):
        return (
            f"Your name is {name}. You told me so." if name else "You have not told me your name."
        )
    if _ASKS_BEFORE.search(last):
        return _recalled(last, said[:-1])
    if _TURNS.search(last):
        return f"You have sent me {_count(len(said))} so far, this one included."
    if new := _NAME.search(last):
        rest = _known(last) or "I will remember your name."
        return f"Nice to meet you, {new.group(1)}. {rest}"
    return ""


def _known(last: str) -> str:
    if found := _SUM.search(last):
        return _calculated(found)
    if _LONG.search(last):
        return " ".join(_STORY)
    return next((fact for words, fact in _FACTS.items() if words in last.lower()), "")


def _small_talk(last: str, name: str) -> str:
    to_name = f", {name}" if name else ""
    if _MOOD.search(last):
        return f"I am fine, thank you{to_name}. I am only a small program, so I have no bad days."
    if _WHO.search(last):
        return "I am Parley, a small program that stands in for a large model. I run offline."
    if _THANKS.search(last):
        return f"You are welcome{to_name}. Ask me anything else whenever you like."
    if _LEAVES.search(last):
        return f"Goodbye{to_name}. It was good to talk with you."
    if _GREETS.search(last):
        return f"Hello{to_name}! It is good to hear from you. What would you like to know?"
    return f"You said: {_quoted(last)} I am only a small program, but I have read it with care."


def _recalled(last: str, before: list[str]) -> str:
    if not before:
        return "This is the first thing you have said to me. There is nothing before it."
    which = ("First", before[0]) if "first" in last.lower() else ("Before this", before[-1])
    return f"{which[0]} you said: {_quoted(which[1])} I have not forgotten it."


def _calculated(found: re.Match[str]) -> str:
    left, right = int(found.group(1)), int(found.group(3))
    sign = found.group(2).lower()
    if sign in {"+", "plus"}:
        return f"{left} plus {right} is {left + right}. That one was easy."
    if sign in {"-", "minus"}:
        return f"{left} minus {right} is {left - right}. That one was easy."
    return f"{left} times {right} is {left * right}. I did it in my head."


def _memory(said: list[str]) -> str:
    if len(said) == 1:
        return "This is our first exchange."
    return f"You asked before about {_topic(said[-2])}; this is message number {len(said)}."


def _name(said: list[str]) -> str:
    for text in reversed(said):
        if found := _NAME.search(text):
            return found.group(1)
    return ""


def _quoted(text: str) -> str:
    short = " ".join(text.split())
    if len(short) > _QUOTE:
        short = short[:_QUOTE].rsplit(" ", 1)[0] + " and so on"
    return short if short.endswith((".", "!", "?")) else short + "."


def _topic(text: str) -> str:
    words = re.findall(r"[^\W_]+", text)
    return " ".join(words[:8]).lower() or "nothing in particular"


def _count(number: int) -> str:
    return "one message" if number == 1 else f"{number} messages"
