"""A conversation's document: how turns begin and end in it, and what the model is asked."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from services.chat import conversation
from services.chat.conversation import (
    ENDED_KEPT,
    PAGE_BYTES,
    STOPS_KEPT,
    Begin,
    Conversation,
    TurnRecord,
    answer_of,
    began_at,
    begin,
    commit,
    decode,
    dropped,
    encode,
    erasing,
    handed_back,
    heard,
    is_blank,
    knows,
    next_attempt,
    overflow,
    owned,
    retracted,
    stopped,
    taken_over,
    text_so_far,
)
from shared.contract import (
    ChatRequest,
    Delta,
    Done,
    Failed,
    FinishReason,
    HistoryMode,
    Message,
    PromptMessage,
    Reasoning,
    Role,
    Started,
    Status,
    Text,
    Usage,
)
from shared.errors import Internal, Superseded, WrittenByNewer

NOW = "2026-01-02T03:04:05.678Z"
LATER = "2026-01-02T03:04:35.678Z"
ASK = ChatRequest(content="What is a tide?")


def run(document: Conversation, turn_id: str = "t1", request: ChatRequest = ASK) -> Conversation:
    found, changed = began(document, turn_id, request)
    assert found is Begin.RUN
    return changed


def began(
    document: Conversation,
    turn_id: str = "t1",
    request: ChatRequest = ASK,
    execution: str = "e1",
) -> tuple[Begin, Conversation]:
    return begin(document, request, turn_id, execution=execution, now=NOW, give_up_after=5)


def done(turn_id: str = "t1", text: str = "The sea.", **more: Any) -> Done:
    fields: dict[str, Any] = {
        "finish_reason": FinishReason.STOP,
        "usage": Usage(1, 1),
        "first_token_ms": 1,
        "duration_ms": 2,
        "metadata": {},
    }
    return Done("c1", turn_id, 1, 9, text=text, **(fields | more))


def ended(document: Conversation, turn_id: str = "t1", said: str = "The sea.") -> Conversation:
    return committed(document, done(turn_id, said), said)


def committed(
    document: Conversation, end: Done | Failed, said: str, execution: str = "e1"
) -> Conversation:
    return commit(document, end, said=said, execution=execution, now=NOW, delta_sequence=42)


def talk(turns: int) -> Conversation:
    """A conversation of so many turns, and one under way."""
    document = Conversation()
    for number in range(turns):
        document = ended(run(document, f"h{number}"), f"h{number}")
    return run(document)


def words(document: Conversation) -> list[tuple[str, str]]:
    return [(message.role.value, message.content) for message in document.messages]


# ---------------------------------------------------------------- begin


def test_a_turn_begins_with_the_users_message() -> None:
    document = run(Conversation())

    assert document.messages == [Message("t1.0", Role.USER, "What is a tide?", "t1", NOW)]
    assert document.turn == TurnRecord("t1", 1, 1, "e1", NOW)


def test_several_messages_are_appended_in_their_order() -> None:
    request = ChatRequest(messages=[PromptMessage(Role.SYSTEM, "s"), PromptMessage(Role.USER, "u")])
    document = run(ended(run(Conversation())), "t2", request)

    assert words(document)[2:] == [("system", "s"), ("user", "u")]
    assert [message.id for message in document.messages] == ["t1.0", "t1.a", "t2.0", "t2.1"]


def test_a_turn_begun_again_is_the_next_attempt_and_adds_nothing() -> None:
    first = run(Conversation())
    found, second = began(first, execution="e2")

    assert found is Begin.RUN
    assert second.turn == TurnRecord("t1", 2, 2, "e2", NOW)
    assert second.messages == first.messages


def test_a_turn_that_has_ended_is_not_begun_again() -> None:
    document = ended(run(Conversation()))

    assert began(document) == (Begin.ENDED, document)


def test_a_turn_that_ended_long_ago_is_not_begun_again() -> None:
    document = ended(run(Conversation()))
    for number in range(2, 20):
        document = ended(run(document, f"t{number}"), f"t{number}")

    assert began(document, "t1")[0] is Begin.ENDED


def test_a_turn_is_given_up_after_so_many_executions() -> None:
    document = run(Conversation())
    for number in range(2, 6):
        found, document = began(document, execution=f"e{number}")
        assert found is Begin.RUN

    assert document.turn
    assert document.turn.executions == 5
    assert began(document, execution="e6") == (Begin.GIVEN_UP, document)


def test_an_execution_that_is_handed_back_does_not_count() -> None:
    _, document = began(run(Conversation()), execution="e2")
    back = handed_back(document, "t1", "e2")

    assert back.turn == TurnRecord("t1", 2, 1, "e2", NOW)
    assert handed_back(document, "t1", "e1") is document
    assert handed_back(document, "t2", "e2") is document


def test_a_turn_of_which_listeners_know_more_than_its_document_begins_above_that() -> None:
    _, document = begin(
        Conversation(),
        ChatRequest(content="Hi"),
        "t1",
        execution="e1",
        now=NOW,
        give_up_after=5,
        told=3,
    )

    assert under_way(document).attempt == 4


def test_attempts_of_one_execution_do_not_count_as_executions() -> None:
    document = run(Conversation())
    for _ in range(10):
        document = next_attempt(document, "t1", "e1")

    assert document.turn == TurnRecord("t1", 11, 1, "e1", NOW)
    assert began(document, execution="e2")[0] is Begin.RUN


def test_a_turn_whose_request_is_gone_makes_way_for_the_next() -> None:
    document = run(run(Conversation(), "t1"), "t2")

    assert document.turn == TurnRecord("t2", 1, 1, "e1", NOW)
    assert not knows(document, "t1")


def test_replace_starts_the_conversation_over() -> None:
    before = replace(ended(run(Conversation(system="old"))), pages=3)
    request = ChatRequest(messages=[PromptMessage(Role.USER, "anew")], history=HistoryMode.REPLACE)
    document = run(before, "t2", request)

    assert words(document) == [("user", "anew")]
    assert document.system is None
    assert document.pages == 0
    assert document.ended == ["t1"]


def test_none_keeps_nothing() -> None:
    before = ended(run(Conversation(system="s")))
    request = ChatRequest(content="aside", history=HistoryMode.NONE, system="other")
    during = run(before, "t2", request)
    after = ended(during, "t2")

    assert during.messages == after.messages == before.messages
    assert during.system == after.system == "s"
    assert after.ended == ["t1", "t2"]


def test_the_system_prompt_stays_with_the_conversation() -> None:
    first = run(Conversation(), "t1", ChatRequest(content="a", system="Be brief."))
    second = run(ended(first), "t2", ChatRequest(content="b"))
    third = run(ended(second, "t2"), "t3", ChatRequest(content="c", system="Be long."))

    assert [d.system for d in (first, second, third)] == ["Be brief.", "Be brief.", "Be long."]


def test_a_new_turn_forgets_how_the_last_one_ended() -> None:
    document = ended(run(Conversation()))

    assert document.last_end
    assert run(document, "t2").last_end is None


# ---------------------------------------------------------------- commit


def test_a_commit_adds_the_answer_and_closes_the_turn() -> None:
    document = ended(run(Conversation()))

    assert document.messages[1] == Message("t1.a", Role.ASSISTANT, "The sea.", "t1", NOW)
    assert document.turn is None
    assert document.ended == ["t1"]
    assert document.last_end == done()
    assert document.delta_sequence == 42


def test_a_cancelled_answer_is_marked_as_interrupted() -> None:
    cut = done(text="The sea is", finish_reason=FinishReason.CANCELLED)
    document = committed(run(Conversation()), cut, "The sea")

    assert document.messages[1].content == "The sea"
    assert document.messages[1].status is Status.INTERRUPTED


def test_an_answer_cut_at_its_length_is_complete() -> None:
    document = committed(run(Conversation()), done(finish_reason=FinishReason.LENGTH), "The sea.")

    assert document.messages[1].status is Status.COMPLETE


@pytest.mark.parametrize("said", ["", "half"])
def test_a_failed_turn_adds_no_answer(said: str) -> None:
    failed = Failed("c1", "t1", 1, 3, error=Internal("x").as_error())
    document = committed(run(Conversation()), failed, said)

    assert words(document) == [("user", "What is a tide?")]
    assert document.last_end == failed
    assert document.ended == ["t1"]


def test_an_empty_answer_adds_no_message() -> None:
    assert words(ended(run(Conversation()), said="")) == [("user", "What is a tide?")]


def test_who_was_replaced_cannot_commit() -> None:
    _, document = began(run(Conversation()), execution="e2")

    with pytest.raises(Superseded):
        committed(document, done(), "x", execution="e1")


def test_who_has_committed_cannot_commit_again() -> None:
    document = ended(run(Conversation()))

    with pytest.raises(Superseded):
        committed(document, done(), "x")


def test_a_conversation_that_was_erased_has_no_owner() -> None:
    with pytest.raises(Superseded):
        committed(Conversation(), done(), "x")


def test_only_so_many_ended_turns_are_remembered() -> None:
    document = Conversation(ended=[f"old{n}" for n in range(ENDED_KEPT)])
    document = ended(run(document))

    assert len(document.ended) == ENDED_KEPT
    assert document.ended[0] == "old1"
    assert document.ended[-1] == "t1"


# ---------------------------------------------------------------- owners


def test_the_owner_finds_its_turn() -> None:
    assert owned(run(Conversation()), "t1", "e1").turn_id == "t1"


@pytest.mark.parametrize(("turn_id", "execution"), [("t2", "e1"), ("t1", "e2")])
def test_anybody_else_is_replaced(turn_id: str, execution: str) -> None:
    with pytest.raises(Superseded):
        owned(run(Conversation()), turn_id, execution)
    with pytest.raises(Superseded):
        next_attempt(run(Conversation()), turn_id, execution)


def under_way(document: Conversation) -> TurnRecord:
    assert document.turn
    return document.turn


def test_a_turn_taken_over_is_one_more_attempt_of_its_new_owner() -> None:
    before = run(Conversation())
    document = taken_over(before, under_way(before), "e9")

    assert document.turn == TurnRecord("t1", 2, 1, "e9", NOW)
    with pytest.raises(Superseded):
        owned(document, "t1", "e1")


def test_a_turn_is_taken_over_as_it_was_found_or_not_at_all() -> None:
    found = run(Conversation())
    _, begun_again = began(found, execution="e2")
    for document in (begun_again, ended(found), run(found, "t2"), Conversation()):
        with pytest.raises(Superseded):
            taken_over(document, under_way(found), "e9")


def test_a_document_knows_the_turn_under_way_and_those_that_ended() -> None:
    document = run(ended(run(Conversation(), "t1"), "t1"), "t2")

    assert knows(document, "t1")
    assert knows(document, "t2")
    assert not knows(document, "t3")
    assert not knows(Conversation(), "t1")


# ---------------------------------------------------------------- what was heard


def test_the_history_keeps_what_was_heard() -> None:
    document = heard(ended(run(Conversation())), "t1", "The")

    assert words(document)[1] == ("assistant", "The")
    assert document.messages[1].status is Status.INTERRUPTED


def test_an_answer_of_which_nothing_was_heard_is_no_message() -> None:
    document = heard(ended(run(Conversation())), "t1", "")

    assert words(document) == [("user", "What is a tide?")]


@pytest.mark.parametrize("all_of_it", ["The sea.", "The sea. And more"])
def test_an_answer_that_was_heard_whole_is_left_as_it_is(all_of_it: str) -> None:
    document = ended(run(Conversation()))

    assert heard(document, "t1", all_of_it) is document


def test_only_the_answer_of_that_turn_is_changed() -> None:
    document = ended(run(Conversation()))
    document = ended(run(document, "t2"), "t2", "The moon.")
    changed = heard(document, "t1", "The")

    assert [content for _, content in words(changed)] == [
        "What is a tide?",
        "The",
        "What is a tide?",
        "The moon.",
    ]


def test_a_turn_without_an_answer_is_left_as_it_is() -> None:
    for document, turn_id in ((run(Conversation()), "t1"), (Conversation(), "t9")):
        assert heard(document, turn_id, "") is document


def test_a_cancel_means_the_last_answer_or_that_of_the_turn_it_names() -> None:
    document = ended(run(ended(run(Conversation()), "t1"), "t2"), "t2", "The moon.")

    for turn_id, content in (("t2", "The moon."), ("t1", "The sea.")):
        found = answer_of(document, turn_id)
        assert found
        assert found.content == content
    assert answer_of(document, "t9") is None


# ---------------------------------------------------------------- stops that nobody heard


def test_a_turn_that_was_stopped_while_nobody_held_it_is_ended_by_who_takes_it_up() -> None:
    document = stopped(run(Conversation()), "t1", 5)
    found, taken = begin(document, ASK, "t1", execution="e9", now=NOW, give_up_after=1)

    assert found is Begin.STOPPED
    assert owned(taken, "t1", "e9").attempt == 2
    assert owned(taken, "t1", "e9").executions == 1


def test_a_turn_that_was_stopped_before_it_began_never_does() -> None:
    document = stopped(Conversation(), "t1", None)
    found, same = begin(document, ASK, "t1", execution="e9", now=NOW, give_up_after=5)

    assert found is Begin.DROPPED
    assert same is document
    assert begin(dropped(document, "t1"), ASK, "t1", execution="e9", now=NOW, give_up_after=5) == (
        Begin.ENDED,
        dropped(document, "t1"),
    )


def test_a_stop_is_kept_until_the_turn_has_ended_and_no_longer() -> None:
    document = stopped(run(Conversation()), "t1", 5)

    assert document.stops == {"t1": 5}
    assert ended(document).stops == dropped(document, "t1").stops == {}
    assert stopped(ended(document), "t1", 5).stops == {}


def test_so_many_stops_are_kept_and_no_more() -> None:
    document = Conversation()
    for number in range(STOPS_KEPT + 1):
        document = stopped(document, f"t{number}", None)

    assert list(document.stops) == [f"t{n}" for n in range(1, STOPS_KEPT + 1)]


def test_a_turn_began_with_its_first_message() -> None:
    document = ended(run(Conversation()))
    later = replace(document.messages[1], created_at="later")

    assert began_at(replace(document, messages=[document.messages[0], later]), "t1") == NOW


# ---------------------------------------------------------------- erased


def test_while_a_conversation_is_erased_no_turn_begins() -> None:
    document = erasing(Conversation(), NOW)

    assert begun_at(document, NOW) is Begin.DROPPED
    assert begun_at(document, LATER) is Begin.RUN


def test_while_a_conversation_is_erased_a_turn_under_way_is_ended_by_who_takes_it_up() -> None:
    document = erasing(run(Conversation()), NOW)

    assert begun_at(document, NOW) is Begin.STOPPED
    assert begun_at(document, LATER) is Begin.RUN


def begun_at(document: Conversation, now: str) -> Begin:
    return begin(document, ASK, "t1", execution="e9", now=now, give_up_after=5)[0]


def test_what_a_turn_began_can_be_taken_back() -> None:
    document = ended(run(Conversation()))

    assert retracted(run(document, "t2"), "t2", "e1").messages == document.messages
    assert retracted(run(document, "t2"), "t2", "e1").turn is None
    assert is_blank(retracted(run(Conversation()), "t1", "e1"))
    assert not is_blank(document)
    assert retracted(document, "t1", "e1") is document


# ---------------------------------------------------------------- pages


def of_sizes(*sizes: int) -> Conversation:
    return Conversation(
        messages=[Message(f"m{n}", Role.USER, "x" * size, "t", NOW) for n, size in enumerate(sizes)]
    )


def left_over(document: Conversation) -> Conversation:
    """The document after as many of its oldest messages as belong there went to a page."""
    count = overflow(document, len(encode(document)))
    return replace(document, messages=document.messages[count:])


def test_a_small_document_needs_no_page() -> None:
    document = of_sizes(*[1_000] * 100)

    assert len(encode(document)) <= PAGE_BYTES
    assert left_over(document) == document


def test_a_document_that_nears_its_limit_moves_its_older_half_to_a_page() -> None:
    document = of_sizes(*[1_000] * 130)
    rest = left_over(document)

    assert len(encode(document)) > PAGE_BYTES
    assert 0.4 < len(encode(rest)) / len(encode(document)) < 0.6
    assert rest.messages == document.messages[-len(rest.messages) :]


def test_the_newest_messages_stay_however_large_they_are() -> None:
    for sizes in ([10] * 10 + [300_000], [300_000] * 4, [10, 10, 300_000, 10], [300_000] + [9] * 5):
        rest = left_over(of_sizes(*sizes))

        assert len(rest.messages) >= 2
        assert rest.messages[-1].content == "x" * sizes[-1]


def test_a_document_of_few_messages_is_left_whole() -> None:
    assert overflow(of_sizes(100_000, 100_000, 100_000), 300_500) == 0


def test_a_conversation_that_goes_on_for_ever_never_outgrows_a_message_of_nats() -> None:
    document = Conversation()
    largest = 0
    for number in range(60):
        turn_id = f"t{number}"
        asked = ChatRequest(content="q" * 262_144 if number % 7 == 3 else "q" * 2_000)
        document = left_over(run(document, turn_id, asked))
        document = left_over(ended(document, turn_id, "a" * 65_536))
        largest = max(largest, len(encode(document)))

    assert largest < 900_000


# ---------------------------------------------------------------- the text so far


def test_the_text_so_far_is_that_of_one_attempt_with_the_last_number_in_it() -> None:
    events: list[Delta] = [
        Started("c1", "t1", 1, 0, model="m", metadata={}, speech=False, created_at=NOW),
        Text("c1", "t1", 1, 1, text="old"),
        Started("c1", "t1", 2, 0, model="m", metadata={}, speech=False, created_at=NOW),
        Text("c1", "t1", 2, 1, text="The "),
        Text("c1", "t9", 2, 2, text="other"),
        Reasoning("c1", "t1", 2, 2, text="hm"),
        Text("c1", "t1", 2, 3, text="sea"),
    ]

    assert text_so_far(events, "t1", 2) == ("The sea", 3)
    assert text_so_far(events, "t1", 1) == ("old", 1)


def test_before_its_first_event_an_attempt_has_no_text() -> None:
    assert text_so_far([], "t1", 1) == ("", -1)


# ---------------------------------------------------------------- kept and read again


def test_a_document_is_read_as_it_was_written() -> None:
    for document in (
        Conversation(),
        run(talk(2), "t2"),
        ended(talk(2)),
        committed(
            talk(0), Failed("c1", "t1", 1, 1, error=Internal("x").as_error()), "", execution="e1"
        ),
    ):
        assert decode(encode(document)) == document


def test_a_conversation_that_is_not_there_is_empty() -> None:
    assert decode(None) == Conversation()


def test_a_document_of_a_newer_version_can_be_read() -> None:
    data = encode(run(Conversation()))[:-1] + b',"new_field":{"x":1}}'

    assert conversation.decode(data) == run(Conversation())


def test_a_document_of_a_newer_version_is_not_rewritten() -> None:
    newer = conversation.decode(b'{"version":2,"new_field":{"x":1}}')
    with pytest.raises(WrittenByNewer, match="conversation has version 2, and this worker knows 1"):
        encode(run(newer))


def test_a_loop_is_stopped_at_so_many_turns_a_minute() -> None:
    document = Conversation()
    for number in range(3):
        found, document = begin(
            document,
            ChatRequest(content="again"),
            f"t{number}",
            execution="w",
            now=f"2026-01-01T00:00:{number:02}.000Z",
            give_up_after=5,
            max_per_minute=3,
        )
        assert found is Begin.RUN
        document = replace(document, turn=None)

    def later(now: str) -> Begin:
        return begin(
            document,
            ChatRequest(content="again"),
            "t9",
            execution="w",
            now=now,
            give_up_after=5,
            max_per_minute=3,
        )[0]

    assert later("2026-01-01T00:00:30.000Z") is Begin.TOO_MANY
    assert later("2026-01-01T00:01:01.000Z") is Begin.RUN
