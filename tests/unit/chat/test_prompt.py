"""What the model is asked: as much of the past as fits, and the question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.chat.conversation import Conversation, TurnRecord
from services.chat.prompt import Asking, Context, Prompt
from services.chat.tokens import PER_MESSAGE, tokens
from shared.contract import ChatRequest, HistoryMode, Message, PromptMessage, Role

QUESTION = "What is a tide?"
ASK = ChatRequest(content=QUESTION)


def size(content: str) -> int:
    return tokens(content) + PER_MESSAGE


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
    most_tokens: int = 1_000,
    messages: int = 1_000,
) -> Prompt:
    context = Context(
        system=system, max_context_tokens=most_tokens, max_messages=messages, max_tokens=100
    )
    return Asking(document, request, context).prompt("m")


def asked(
    document: Conversation,
    request: ChatRequest = ASK,
    *,
    system: str = "",
    most_tokens: int = 1_000,
) -> list[tuple[str, str]]:
    found = prompt(document, request, system=system, most_tokens=most_tokens).messages
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
    whole = asked(talk(10), most_tokens=1_000)
    some = asked(talk(10), most_tokens=size(QUESTION) + 4 * size("question 0") + 3)

    assert len(whole) == 21
    assert some == whole[-5:]


def test_the_past_never_begins_with_an_answer() -> None:
    found = asked(talk(10), most_tokens=size(QUESTION) + 3 * size("question 0"))

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


def test_the_user_s_words_are_in_whatever_their_size() -> None:
    request = ChatRequest(content="x" * 100_000)

    assert asked(talk(3), request, most_tokens=100) == [("user", "x" * 100_000)]


LONG = ChatRequest(
    messages=[
        PromptMessage(Role.SYSTEM, "Be mine."),
        *(
            PromptMessage(role, f"{role.value} {n}")
            for n in range(10)
            for role in (Role.USER, Role.ASSISTANT)
        ),
        PromptMessage(Role.USER, QUESTION),
    ]
)


@pytest.mark.parametrize("history", HistoryMode)
def test_the_limits_hold_for_the_request_s_own_messages_too(history: HistoryMode) -> None:
    expected = ["Be mine.", "user 9", "assistant 9", QUESTION]
    request = replace(LONG, history=history)
    by_count = prompt(talk(3), request, messages=5).messages
    few = sum(map(size, expected)) + size("assistant 8")
    by_tokens = prompt(talk(3), request, most_tokens=few).messages

    assert [m.content for m in by_count] == expected
    assert [m.content for m in by_tokens] == expected


def test_the_past_is_left_away_before_the_request_s_own_messages() -> None:
    found = prompt(talk(3), LONG, messages=22 + 2).messages

    assert [m.content for m in found] == [
        "question 2",
        "answer.. 2",
        *[m.content for m in LONG.messages or []],
    ]


def test_a_request_s_own_messages_come_whole_and_in_their_order() -> None:
    found = prompt(talk(0), replace(LONG, history=HistoryMode.NONE), system="no").messages

    assert found == LONG.messages


def test_a_token_is_counted_by_its_script() -> None:
    document = Conversation(
        messages=[message("h0", Role.USER, "海" * 100), message("h1", Role.USER, "sea " * 25)]
    )

    assert len(asked(document, most_tokens=size(QUESTION) + 60)) == 2
    assert len(asked(document, most_tokens=size(QUESTION) + 120)) == 2
    assert len(asked(document, most_tokens=size(QUESTION) + 140)) == 3


# ---------------------------------------------------------------- a greeting


def test_a_greeting_that_opens_the_conversation_is_kept() -> None:
    document = Conversation(
        messages=[message("h0", Role.ASSISTANT, "Welcome!"), *talk(2).messages[:4]]
    )

    assert next(content for _, content in asked(document)) == "Welcome!"


def test_a_greeting_that_a_request_brings_is_kept() -> None:
    greeting = PromptMessage(Role.ASSISTANT, "Welcome!")
    request = ChatRequest(messages=[greeting, PromptMessage(Role.USER, "Hi.")])

    assert asked(Conversation(), request) == [("assistant", "Welcome!"), ("user", "Hi.")]


def test_an_answer_at_the_edge_of_what_fits_is_no_greeting() -> None:
    document = Conversation(
        messages=[message("h0", Role.ASSISTANT, "Welcome!"), *talk(2).messages[:4]]
    )

    assert [m.content for m in prompt(document, messages=4).messages] == [
        "question 1",
        "answer.. 1",
        QUESTION,
    ]


# ---------------------------------------------------------------- pages


def test_pages_are_wanted_from_the_newest_on_while_there_is_room() -> None:
    context = Context(system="", max_context_tokens=1_000, max_messages=8, max_tokens=100)
    asking = Asking(replace(talk(1), pages=3), ASK, context)
    looked_at = []
    while (number := asking.next_page) is not None:
        looked_at.append(number)
        asking.page([message(f"p{number}", role, f"{role.value} {number}") for role in Role][1:])
    found = [m.content for m in asking.prompt("m").messages]

    assert looked_at == [3, 2, 1]
    assert found == [
        "user 2",
        "assistant 2",
        "user 3",
        "assistant 3",
        "question 0",
        "answer.. 0",
        QUESTION,
    ]


@pytest.mark.parametrize(("messages", "most_tokens"), [(3, 1_000), (100, 8 + 2 * 7), (1, 1_000)])
def test_no_page_is_wanted_where_nothing_more_fits(messages: int, most_tokens: int) -> None:
    context = Context(
        system="", max_context_tokens=most_tokens, max_messages=messages, max_tokens=1
    )

    assert Asking(replace(talk(1), pages=3), ASK, context).next_page is None


def test_without_history_no_page_is_wanted() -> None:
    context = Context(system="", max_context_tokens=1_000, max_messages=9, max_tokens=100)
    request = replace(ASK, history=HistoryMode.NONE)

    assert Asking(replace(talk(1), pages=3), request, context).next_page is None


# ---------------------------------------------------------------- half of it


def test_half_is_less_until_nothing_can_be_left_away() -> None:
    context = Context(system="s", max_context_tokens=10**6, max_messages=10**6, max_tokens=1_000)
    found: Context | None = context
    sizes = []
    while found is not None:
        last = Asking(talk(50), ASK, found).prompt("m")
        sizes.append((len(last.messages), last.max_tokens))
        found = found.halved(last)

    assert sizes[0] == (102, 1_000)
    assert sizes[-3:] == [(2, 1_000), (2, 500), (2, 256)]
    assert sizes == sorted(set(sizes), reverse=True)


def test_what_fits_is_one_stretch_without_holes() -> None:
    document = talk(4)
    messages = list(document.messages)
    messages[4] = replace(messages[4], content="x" * 10_000)
    found = asked(replace(document, messages=messages), most_tokens=200)

    assert [content for _, content in found] == ["question 3", "answer.. 3", QUESTION]


def test_a_request_without_history_is_asked_alone() -> None:
    request = ChatRequest(content="aside", history=HistoryMode.NONE)
    turn = TurnRecord("t2", 1, 1, "e1", "now", HistoryMode.NONE)
    document = replace(talk(3), turn=turn, system="of the document")

    assert asked(document, request, system="of the service") == [("user", "aside")]


def test_a_request_without_history_has_the_system_prompt_that_it_brings() -> None:
    request = ChatRequest(content="aside", history=HistoryMode.NONE, system="Be brief.")

    assert asked(talk(3), request, system="x") == [("system", "Be brief."), ("user", "aside")]


@pytest.mark.parametrize(
    ("document", "request_"),
    [
        (replace(talk(0), system="of the document"), ChatRequest(content="x", system="")),
        (replace(talk(0), system=""), ChatRequest(content="x")),
    ],
)
def test_an_empty_system_prompt_is_none(document: Conversation, request_: ChatRequest) -> None:
    assert asked(document, request_, system="of the service") == [("user", "x")]


def test_the_question_is_not_asked_twice() -> None:
    assert asked(talk(2)).count(("user", QUESTION)) == 1


@given(
    st.lists(st.tuples(st.sampled_from(Role), st.integers(1, 200)), max_size=30),
    st.integers(1, 400),
    st.integers(1, 20),
)
def test_the_past_is_its_newest_part_within_both_limits(
    past: list[tuple[Role, int]], most_tokens: int, most: int
) -> None:
    messages = [message(f"h{n}", role, "x" * size) for n, (role, size) in enumerate(past)]
    found = prompt(Conversation(messages=messages), most_tokens=most_tokens, messages=most).messages
    *kept, question = found

    assert question == PromptMessage(Role.USER, QUESTION)
    newest = [PromptMessage(m.role, m.content) for m in messages[len(messages) - len(kept) :]]
    assert kept == newest
    assert not kept or sum(size(m.content) for m in found) <= most_tokens
    assert not kept or len(found) <= most
    cut = len(kept) < len(messages)
    assert not kept or not cut or kept[0].role is not Role.ASSISTANT


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
