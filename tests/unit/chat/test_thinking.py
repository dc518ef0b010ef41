"""What a model thinks, told from what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.ports import Said, Thought
from services.chat.thinking import CLOSING, OPENING, Thinking


def told(*chunks: str) -> tuple[str, str]:
    """What was thought and what was said, each joined."""
    thinking = Thinking()
    parts = [part for chunk in chunks for part in thinking.feed(chunk)] + thinking.finish()
    thought = "".join(part.text for part in parts if isinstance(part, Thought))
    return thought, "".join(part.text for part in parts if isinstance(part, Said))


@pytest.mark.parametrize(
    ("content", "thought", "said"),
    [
        ("Hello.", "", "Hello."),
        ("<think>Hm.</think>Hello.", "Hm.", "Hello."),
        ("\n<think>\nHm.\n</think>\n\nHello.", "\nHm.\n", "Hello."),
        ("<think></think>Hello.", "", "Hello."),
        ("<think>Hm, and it never ends", "Hm, and it never ends", ""),
        ("<think>Hm.</thi", "Hm.</thi", ""),
        ("<thinking aloud> is a tag of mine", "", "<thinking aloud> is a tag of mine"),
        ("Use <think>this</think> tag.", "", "Use <think>this</think> tag."),
        ("<think>a</think><think>b</think>c", "a", "<think>b</think>c"),
        ("<thi", "", "<thi"),
        ("", "", ""),
        ("  Hello", "", "  Hello"),
        ("<think>a < b and </b></think>Yes.", "a < b and </b>", "Yes."),
    ],
)
def test_what_stands_between_the_tags_in_front_is_thought(
    content: str, thought: str, said: str
) -> None:
    assert told(content) == (thought, said)
    assert told(*content) == (thought, said)


@given(
    content=st.lists(
        st.sampled_from([OPENING, CLOSING, "<", "think", "</", ">", " ", "\n", "a", "Hm. "])
    ).map("".join),
    cuts=st.lists(st.integers(0, 60)),
)
def test_it_does_not_matter_how_the_content_was_split(content: str, cuts: list[int]) -> None:
    places = sorted({min(cut, len(content)) for cut in cuts})
    chunks = [content[a:b] for a, b in zip([0, *places], [*places, len(content)], strict=True)]

    assert told(*chunks) == told(content)


def test_an_answer_without_tags_is_not_held_back() -> None:
    assert Thinking().feed("Hel") == [Said("Hel")]


def test_a_thought_is_told_while_it_is_made() -> None:
    thinking = Thinking()

    assert thinking.feed("<think>Let me") == [Thought("Let me")]
    assert thinking.feed(" see") == [Thought(" see")]
