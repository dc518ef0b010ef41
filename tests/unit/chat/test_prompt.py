"""What the model is asked: as much of the past as fits, and the question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.chat.conversation import Conversation, TurnRecord
from services.chat.prompt import Context, Prompt, prompt_for
from shared.contract import ChatRequest, HistoryMode, Message, PromptMessage, Role

QUESTION = "What is a tide?"
ASK = ChatRequest(content=QUESTION)


def message(turn_id: str, role: Role, content: str) -> Message:
    return Message(f"{turn_id}.x", role, content, turn_id, "2026-01-02T03:04:05.678Z")


def talk(turns: int) -> Conversation:
    """A conversation of so many turns of twice ten characters, and one under way."""
    past = [
        message(f"h{n}", role, f"{said} {n}")
        for n in range(turns)
        for role, said in ((Role.USER, "question"), (Role.ASSISTANT, "answer.."))
    ]
    return Conversation(
        messages=[*past, message("t1", Role.USER, QUESTION)],
        turn=TurnRecord("t1", 1, 1, "e1", "now"),
    )


def prompt(
    document: Conversation,
    request: ChatRequest = ASK,
    *,
    system: str = "",
    tokens: int = 1_000,
    messages: int = 1_000,
) -> Prompt:
    context = Context(
        system=system, max_context_tokens=tokens, max_messages=messages, max_tokens=100
    )
    return prompt_for(document, request, model="m", context=context)


def asked(
    document: Conversation, request: ChatRequest = ASK, *, system: str = "", tokens: int = 1_000
) -> list[tuple[str, str]]:
    found = prompt(document, request, system=system, tokens=tokens).messages
    return [(message.role.value, message.content) for message in found]


# ---------------------------------------------------------------- the messages


def test_the_model_is_asked_the_system_prompt_the_past_and_the_question() -> None:
    assert asked(talk(1), system="Be kind.") == [
        ("system", "Be kind."),
        ("user", "question 0"),
        ("assistant", "answer.. 0"),
        ("user", QUESTION),
    ]


def test_the_request_s_system_prompt_wins_over_the_document_s_and_that_over_the_service_s() -> None:
    document = replace(talk(0), system="of the document")
    request = ChatRequest(content="x", system="of the request")

    assert asked(document, request, system="of the service")[0][1] == "of the request"
    assert asked(document, ChatRequest(content="x"), system="y")[0][1] == "of the document"
    assert asked(talk(0), ChatRequest(content="x"), system="y")[0][1] == "y"


def test_without_any_system_prompt_there_is_none() -> None:
    assert [role for role, _ in asked(talk(0))] == ["user"]


def test_the_newest_messages_that_fit_are_in() -> None:
    whole = asked(talk(10), tokens=1_000)
    some = asked(talk(10), tokens=(len(QUESTION) + 45) // 4)

    assert len(whole) == 21
    assert some == whole[-5:]


def test_the_past_never_begins_with_an_answer() -> None:
    found = asked(talk(10), tokens=(len(QUESTION) + 35) // 4)

    assert [role for role, _ in found] == ["user", "assistant", "user"]


def test_no_more_messages_are_in_than_allowed() -> None:
    found = prompt(talk(10), system="s", messages=5).messages

    assert [m.content for m in found] == [
        "s",
        "question 8",
        "answer.. 8",
        "question 9",
        "answer.. 9",
        QUESTION,
    ]


def test_the_request_s_own_messages_are_in_whatever_their_size() -> None:
    request = ChatRequest(content="x" * 100_000)

    assert asked(talk(3), request, tokens=100) == [("user", "x" * 100_000)]


def test_what_fits_is_one_stretch_without_holes() -> None:
    document = talk(4)
    messages = list(document.messages)
    messages[4] = replace(messages[4], content="x" * 10_000)
    found = asked(replace(document, messages=messages), tokens=200)

    assert [content for _, content in found] == ["question 3", "answer.. 3", QUESTION]


def test_a_request_without_history_is_asked_alone() -> None:
    request = ChatRequest(content="aside", history=HistoryMode.NONE)
    turn = TurnRecord("t2", 1, 1, "e1", "now", HistoryMode.NONE)

    assert asked(replace(talk(3), turn=turn), request) == [("user", "aside")]


def test_the_question_is_not_asked_twice() -> None:
    assert asked(talk(2)).count(("user", QUESTION)) == 1


@given(
    st.lists(st.tuples(st.sampled_from(Role), st.integers(1, 200)), max_size=30),
    st.integers(1, 400),
    st.integers(1, 20),
)
def test_the_past_is_its_newest_part_within_both_limits(
    past: list[tuple[Role, int]], tokens: int, most: int
) -> None:
    messages = [message(f"h{n}", role, "x" * size) for n, (role, size) in enumerate(past)]
    found = prompt(Conversation(messages=messages), tokens=tokens, messages=most).messages
    *kept, question = found

    assert question == PromptMessage(Role.USER, QUESTION)
    newest = [PromptMessage(m.role, m.content) for m in messages[len(messages) - len(kept) :]]
    assert kept == newest
    assert not kept or sum(len(m.content) for m in found) <= tokens * 4
    assert not kept or len(found) <= most
    assert not kept or kept[0].role is not Role.ASSISTANT


# ---------------------------------------------------------------- how it is asked


def test_what_a_request_asks_for_is_handed_on() -> None:
    request = ChatRequest(
        content="x", temperature=0.5, top_p=0.25, stop=["END"], seed=2**63, reasoning_effort="low"
    )
    found = prompt(talk(0), request)

    assert (found.model, found.temperature, found.top_p) == ("m", 0.5, 0.25)
    assert (found.stop, found.seed, found.reasoning_effort) == (["END"], 2**63, "low")


@pytest.mark.parametrize(("wanted", "given_"), [(None, 100), (7, 7), (10**6, 100)])
def test_nobody_gets_more_tokens_than_the_service_allows(wanted: int | None, given_: int) -> None:
    request = ChatRequest(content="x", max_tokens=wanted)

    assert prompt(talk(0), request).max_tokens == given_
