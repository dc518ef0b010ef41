"""The replies that show whether a history was kept."""

from __future__ import annotations

import re

import pytest

from local.together.assistant import reply


def talk(*said: str) -> str:
    messages = [{"role": "system", "content": "Be kind."}]
    for text in said[:-1]:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]
    return reply([*messages, {"role": "user", "content": said[-1]}])


def test_it_remembers_the_name_told_earlier() -> None:
    assert "Your name is Ada." in talk("My name is Ada.", "Fine weather.", "What is my name?")
    assert "have not told me" in talk("What is my name?")
    assert "now it is" not in talk("My name is Ada.", "Call me Grace.", "Who am I?")
    assert "Grace" in talk("My name is Ada.", "Call me Grace.", "Who am I?")


def test_it_refers_to_what_was_asked_before_and_counts() -> None:
    answer = talk("What is the capital of France?", "And what is 2 plus 3?")
    assert "2 plus 3 is 5" in answer
    assert "You asked before about what is the capital of france" in answer
    assert "message number 2" in answer
    assert "3 messages" in talk("One.", "Two.", "How many messages did I send?")
    assert "First you said: One." in talk("One.", "Two.", "What did I ask first?")


@pytest.mark.parametrize(
    "said", ["Hello", "How are you?", "Why is the sky blue?", "Bye", "Thanks!", "", "?", "Tee-hee"]
)
def test_it_says_two_to_five_sentences(said: str) -> None:
    sentences = re.findall(r"[^.!?]+[.!?]", talk(said))
    assert 2 <= len(sentences) <= 5


def test_a_story_is_long() -> None:
    assert len(talk("Tell me a story.")) > 700


def test_content_may_come_in_parts() -> None:
    parts = [{"type": "text", "text": "What is 4 times 5?"}, {"type": "image_url"}]
    assert "4 times 5 is 20" in reply([{"role": "user", "content": parts}])


def test_no_message_of_the_user_is_no_error() -> None:
    assert reply([{"role": "system", "content": "Be kind."}])
