"""A request becomes a document, events, a commit and an end, whatever breaks on the way."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from services.chat import conversation
from services.chat.answer import Dependencies, GivenUp, Job, Rules, answer
from services.chat.conversation import Conversation
from services.chat.ports import Finished, Said, Thought
from services.chat.prompt import Context, Contexts, Prompt
from services.chat.request import speech_of
from shared.contract import (
    ChatRequest,
    Code,
    Done,
    Failed,
    FinishReason,
    HistoryMode,
    Message,
    PromptMessage,
    Reasoning,
    Role,
    Speech,
    Started,
    Status,
    Text,
    Usage,
)
from shared.errors import (
    Cancelled,
    ContextTooLong,
    DeadlineExceeded,
    Internal,
    NatsError,
    ParleyError,
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRefused,
    ProviderStalled,
    StorageUnavailable,
    Superseded,
    Torn,
)
from shared.nats.documents import AMEND_TRIES
from tests.fakes import (
    STOP,
    Clock,
    MemoryConversations,
    MemoryPages,
    Published,
    Reported,
    ScriptedModel,
    SteadyVoice,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.fakes import Step

RULES = Rules(
    model="first/model",
    fallback_model=None,
    turns_per_minute=0,
    turn_timeout=90,
    tries=3,
    patience=0,
    executions=5,
    output_chars=1_000,
)
CONTEXT = Context(system="Be kind.", max_context_tokens=1_000, max_messages=100, max_tokens=100)
TALK = (Role.USER, Role.ASSISTANT)
WORDS: list[Step] = ["The ", "sea ", "breathes.", STOP]


@dataclass
class Bench:
    """One worker with its fakes; `run` is one execution of a turn."""

    scripts: Sequence[Sequence[Step]] = ()
    rules: Rules = RULES
    context: Context = CONTEXT
    lags: bool = False
    journal: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    spoken: SteadyVoice = field(default_factory=SteadyVoice)
    heard_ms: int | None = None
    is_gone: bool = False  # the request, from the queue, while the worker was frozen
    executions: int = 0
    asked_at: datetime = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    pages: MemoryPages = field(default_factory=MemoryPages)
    redelivered: bool = False

    def __post_init__(self) -> None:
        self.conversations = MemoryConversations(self.journal)
        self.contexts = Contexts(self.context)
        self.model = ScriptedModel(*self.scripts)
        self.published = Published(self.journal, lags=self.lags)
        self.reported = Reported()

    async def run(
        self, turn_id: str = "t1", *, voice: bool = True, **request: Any
    ) -> Done | Failed | None:
        self.executions += 1
        fields = {"content": "What is a tide?"} | request
        if "messages" in fields:
            del fields["content"]
        asked = ChatRequest(**fields)
        job = Job(
            conversation_id="c1",
            turn_id=turn_id,
            request=asked,
            execution=f"e{self.executions}",
            asked_at=self.asked_at,
            speech=speech_of(asked, default=voice),
            redelivered=self.redelivered,
        )
        needs = Dependencies(
            conversations=self.conversations,
            pages=self.pages,
            model=self.model,
            contexts=self.contexts,
            publish=self.published,
            heard=self.spoken,
            clock=self.clock,
            heard_ms=lambda: self.heard_ms,
            confirm=self.confirm,
            price=lambda model, given, made: (
                None if model == "free/model" else given * 1.0 + made * 10.0
            ),
            report=self.reported,
        )
        return await answer(job, self.rules, needs)

    async def confirm(self) -> None:
        if self.is_gone:
            raise Superseded

    @property
    def document(self) -> Conversation:
        return self.conversations["c1"]

    @property
    def history(self) -> list[tuple[str, str]]:
        return [(message.role.value, message.content) for message in self.document.messages]

    @property
    def seqs(self) -> list[tuple[int, int]]:
        return [(event.attempt, event.seq) for event in self.published.events]


def done(end: Done | Failed | None) -> Done:
    assert isinstance(end, Done), end
    return end


def failed(end: Done | Failed | None) -> Failed:
    assert isinstance(end, Failed), end
    return end


# ---------------------------------------------------------------- the happy path


async def test_a_turn_is_saved_told_committed_and_ended_in_this_order() -> None:
    bench = Bench([WORDS])
    await bench.run()

    assert bench.journal == [
        "save",
        "started",
        "voice",
        "text",
        "text",
        "text",
        "drained",
        "save",
        "done",
    ]


async def test_a_turn_answers_with_all_that_the_model_said() -> None:
    bench = Bench([WORDS])
    end = done(await bench.run(metadata={"a": "b"}))

    assert end == bench.published.events[-1]
    assert end == Done(
        "c1",
        "t1",
        1,
        4,
        finish_reason=FinishReason.STOP,
        text="The sea breathes.",
        usage=STOP.usage,
        first_token_ms=0,
        duration_ms=0,
        metadata={"a": "b"},
        cost_usd=37.0,
    )
    assert bench.published.read == end.text
    assert bench.history == [("user", "What is a tide?"), ("assistant", "The sea breathes.")]
    assert bench.document.turn is None
    assert bench.document.last_end == end


async def test_events_are_numbered_without_a_gap() -> None:
    bench = Bench([[Thought("Hm"), *WORDS]])
    await bench.run()

    assert bench.seqs == [(1, n) for n in range(6)]
    assert isinstance(bench.published.events[1], Reasoning)


async def test_a_start_names_the_model_the_voice_and_the_metadata() -> None:
    bench = Bench([WORDS])
    await bench.run(metadata={"a": "b"}, speech=Speech(voice="v"), model="my/model")

    assert bench.published.events[0] == Started(
        "c1",
        "t1",
        1,
        0,
        model="my/model",
        metadata={"a": "b"},
        speech=Speech(voice="v"),
        created_at=bench.clock.utc(),
    )


async def test_the_voice_is_asked_to_follow_from_the_start_on() -> None:
    bench = Bench([WORDS])
    await bench.run(speech=Speech(voice="v"))
    (voice,) = bench.published.voices

    assert (voice.conversation_id, voice.turn_id) == ("c1", "t1")
    assert voice.speech == Speech(voice="v")
    assert voice.text is None
    assert voice.start_sequence == 101
    assert bench.document.delta_sequence == 101


async def test_a_turn_without_a_voice_asks_for_none() -> None:
    bench = Bench([WORDS])
    await bench.run(voice=False)

    assert bench.published.voices == []
    start = bench.published.events[0]
    assert isinstance(start, Started)
    assert start.speech is False


async def test_text_that_waited_behind_a_slow_server_is_published_before_the_commit() -> None:
    bench = Bench([WORDS], lags=True)
    end = done(await bench.run())

    assert bench.journal == ["save", "started", "voice", "text", "drained", "save", "done"]
    assert bench.published.read == end.text == "The sea breathes."
    assert bench.seqs == [(1, 0), (1, 1), (1, 2)]


async def test_the_time_of_the_first_word_and_of_the_whole_are_told() -> None:
    bench = Bench()
    clock = bench.clock

    def wait() -> None:
        clock.seconds += 0.25

    bench.model = ScriptedModel([wait, Thought("Hm"), wait, "a", wait, "b", STOP])
    end = done(await bench.run())

    assert (end.first_token_ms, end.duration_ms) == (500, 750)


async def test_times_count_from_the_request_s_time_in_the_stream() -> None:
    bench = Bench([WORDS])
    bench.asked_at -= timedelta(seconds=7)
    end = done(await bench.run())

    assert (end.first_token_ms, end.duration_ms) == (7_000, 7_000)


async def test_times_are_never_negative_whatever_the_clocks_say() -> None:
    bench = Bench([WORDS])
    bench.asked_at += timedelta(seconds=7)
    end = done(await bench.run())

    assert (end.first_token_ms, end.duration_ms) == (0, 0)


async def test_an_empty_completion_is_done_and_adds_no_message() -> None:
    bench = Bench([[STOP]])
    end = done(await bench.run())

    assert (end.text, end.finish_reason, end.first_token_ms) == ("", FinishReason.STOP, None)
    assert bench.history == [("user", "What is a tide?")]
    assert len(bench.published.voices) == 1


async def test_the_model_s_own_end_is_told() -> None:
    bench = Bench([["a", Finished(FinishReason.LENGTH, Usage(5, 6))]])
    end = done(await bench.run())

    assert end.finish_reason is FinishReason.LENGTH
    assert end.usage == Usage(5, 6)


async def test_an_answer_without_bounds_is_cut() -> None:
    bench = Bench([["x" * 100] * 1000 + [STOP]], rules=replace(RULES, output_chars=250))
    end = done(await bench.run())

    assert end.finish_reason is FinishReason.LENGTH
    assert end.text == "x" * 300
    assert bench.published.read == end.text


# ---------------------------------------------------------------- what the model is asked


async def test_the_next_turn_knows_what_was_said() -> None:
    bench = Bench([WORDS, ["Yes.", STOP]])
    await bench.run("t1")
    await bench.run("t2", content="Always?")

    assert bench.model.prompts[1].messages == [
        PromptMessage(Role.SYSTEM, "Be kind."),
        PromptMessage(Role.USER, "What is a tide?"),
        PromptMessage(Role.ASSISTANT, "The sea breathes."),
        PromptMessage(Role.USER, "Always?"),
    ]


async def test_what_a_request_asks_for_is_handed_to_the_model() -> None:
    bench = Bench([WORDS])
    await bench.run(
        model="my/model",
        temperature=0.5,
        top_p=0.25,
        max_tokens=7,
        stop=["END"],
        seed=2**63,
        reasoning_effort="low",
        system="Be brief.",
    )
    (prompt,) = bench.model.prompts

    assert (prompt.model, prompt.temperature, prompt.top_p) == ("my/model", 0.5, 0.25)
    assert (prompt.max_tokens, prompt.stop, prompt.seed) == (7, ["END"], 2**63)
    assert prompt.reasoning_effort == "low"
    assert prompt.messages[0] == PromptMessage(Role.SYSTEM, "Be brief.")


async def test_nobody_gets_more_tokens_than_the_service_allows() -> None:
    bench = Bench([WORDS, WORDS])
    await bench.run("t1", max_tokens=10**6)
    await bench.run("t2")

    assert [prompt.max_tokens for prompt in bench.model.prompts] == [100, 100]


async def test_a_turn_without_history_leaves_none() -> None:
    bench = Bench([WORDS, ["Aside.", STOP]])
    await bench.run("t1")
    await bench.run("t2", content="Psst", history=HistoryMode.NONE)

    assert [message.content for message in bench.model.prompts[1].messages] == ["Psst"]
    assert bench.history == [("user", "What is a tide?"), ("assistant", "The sea breathes.")]


async def test_the_model_is_told_how_long_the_turn_may_take() -> None:
    bench = Bench([WORDS])
    await bench.run()

    assert bench.model.untils == [1000.0 + 90]


# ---------------------------------------------------------------- tried again


async def test_before_the_first_word_the_same_attempt_is_tried_again() -> None:
    bench = Bench([[ProviderOverloaded()], [ProviderStalled()], WORDS])
    end = done(await bench.run())

    assert end.text == "The sea breathes."
    assert bench.seqs == [(1, n) for n in range(5)]
    assert bench.clock.pauses == [0.125, 0.25]
    assert bench.reported.retries == [Code.PROVIDER_OVERLOADED, Code.PROVIDER_STALLED]
    assert bench.reported.attempts == [1]
    assert bench.reported.spent_on == [(end.usage, end.cost_usd)]
    assert bench.reported.first_tokens == [(end.first_token_ms or 0) / 1000]


async def test_the_pause_that_the_provider_asks_for_is_kept() -> None:
    bench = Bench([[ProviderRateLimited("slow down", wait=7.0)], WORDS])
    done(await bench.run())

    assert bench.clock.pauses == [7.125]


@pytest.mark.parametrize("wait", [31.0, 3600.0])
async def test_a_pause_longer_than_is_worth_it_ends_the_turn(wait: float) -> None:
    bench = Bench([[Usage(5, 1), ProviderRateLimited("slow down", wait=wait)]])
    end = failed(await bench.run())

    assert bench.reported.retries == []
    assert bench.reported.spent_on == [(Usage(5, 1), 15.0)]  # a turn that fails costs, too
    assert end.error.code is Code.PROVIDER_RATE_LIMITED
    assert bench.clock.pauses == []


async def test_a_break_in_mid_text_starts_the_next_attempt() -> None:
    bench = Bench([["The ", "se", ProviderBroken("cut")], WORDS])
    end = done(await bench.run())

    assert bench.seqs == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)]
    assert isinstance(bench.published.events[3], Started)
    assert bench.reported.attempts == [1, 2]
    assert len(bench.reported.first_tokens) == 1
    assert end.text == bench.published.read == "The sea breathes."
    assert bench.history[1:] == [("assistant", "The sea breathes.")]


async def test_the_next_attempt_is_in_the_document_before_it_is_told() -> None:
    bench = Bench([["The ", ProviderBroken("cut")], WORDS])
    await bench.run()

    assert bench.journal[3:8] == ["text", "drained", "save", "started", "voice"]


async def test_a_break_after_thoughts_alone_starts_the_next_attempt_too() -> None:
    bench = Bench([[Thought("Hm"), ProviderBroken("cut")], [Thought("Hm"), *WORDS]])
    await bench.run()
    thoughts = [e for e in bench.published.events if isinstance(e, Reasoning) and e.attempt == 2]

    assert [thought.text for thought in thoughts] == ["Hm"]
    assert isinstance(bench.published.events[2], Started)


async def test_text_that_still_waited_when_the_model_broke_is_not_said_in_the_next_attempt() -> (
    None
):
    bench = Bench([["The ", ProviderBroken("cut")], WORDS], lags=True)
    end = done(await bench.run())

    assert bench.published.read == end.text == "The sea breathes."
    assert [e.text for e in bench.published.events if isinstance(e, Text)] == [
        "The ",
        "The sea breathes.",
    ]


async def test_an_answer_that_ends_without_an_end_is_tried_again() -> None:
    bench = Bench([["The "], WORDS])

    assert done(await bench.run()).text == "The sea breathes."


async def test_the_model_is_asked_so_often_and_no_more() -> None:
    bench = Bench([[ProviderOverloaded("full")]] * 9)
    end = failed(await bench.run())

    assert len(bench.model.prompts) == 3
    assert end.error.code is Code.PROVIDER_OVERLOADED
    assert end.error.retryable
    assert bench.seqs == [(1, 0), (1, 1)]
    assert bench.history == [("user", "What is a tide?")]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProviderAuth("no"), Code.PROVIDER_AUTH),
        (ProviderError("?"), Code.PROVIDER_BROKEN),
    ],
)
@pytest.mark.parametrize("before", [[], ["The "]])
async def test_what_a_repetition_cannot_mend_is_never_repeated(
    error: ProviderError, code: Code, before: list[Step]
) -> None:
    bench = Bench([[*before, error]], rules=replace(RULES, fallback_model="second/model"))
    end = failed(await bench.run())

    assert len(bench.model.prompts) == 1
    assert end.error.code is code
    assert not end.error.retryable
    assert bench.journal[-3:] == ["drained", "save", "failed"]


async def test_a_failed_turn_leaves_its_question_and_no_answer() -> None:
    bench = Bench([["half", ProviderRefused("bad")], WORDS])
    await bench.run("t1")
    await bench.run("t2", content="And now?")

    assert bench.history == [
        ("user", "What is a tide?"),
        ("user", "And now?"),
        ("assistant", "The sea breathes."),
    ]


# ---------------------------------------------------------------- away for a while


PATIENT = replace(RULES, patience=15)


class Away:
    """A model that is away until a moment of the clock, however often it is asked."""

    def __init__(self, clock: Clock, until: float, *first: Sequence[Step]) -> None:
        self.clock, self.back = clock, until
        self.first = list(first)
        self.prompts: list[Prompt] = []
        self.patience: list[float] = []
        self.error: ProviderError = ProviderOverloaded("nobody is there")

    async def answer(
        self, prompt: Prompt, *, until: float, patient_until: float = 0.0
    ) -> AsyncIterator[Said | Thought | Usage | Finished]:
        self.prompts.append(prompt)
        self.patience.append(patient_until)
        if not self.first and self.clock.seconds < self.back:
            raise self.error
        for step in self.first.pop(0) if self.first else WORDS:
            if isinstance(step, Exception):
                raise step
            yield Said(step) if isinstance(step, str) else step  # type: ignore[misc]


@pytest.mark.parametrize("error", [ProviderOverloaded("no connection"), ProviderRateLimited("x")])
@pytest.mark.parametrize("first", [[], [["The ", ProviderBroken("cut")]]], ids=["before", "mid"])
async def test_a_provider_that_is_away_for_ten_seconds_costs_no_turn(
    error: ProviderError, first: list[list[Step]]
) -> None:
    bench = Bench(rules=PATIENT)
    away = Away(bench.clock, 1010.0, *first)
    away.error = error
    bench.model = away  # type: ignore[assignment]
    end = done(await bench.run())

    assert end.text == bench.published.read == "The sea breathes."
    assert end.attempt == 1 + len(first)
    assert max(bench.clock.pauses) == 1.0  # half of two seconds: the clock's dice
    assert len(away.prompts) < 20


async def test_a_provider_that_stays_away_is_given_up_at_the_first_token_s_deadline() -> None:
    bench = Bench(rules=PATIENT)
    bench.model = Away(bench.clock, 9999.0)  # type: ignore[assignment]
    end = failed(await bench.run())

    assert end.error.code is Code.PROVIDER_OVERLOADED
    assert 15 <= bench.clock.seconds - 1000 < 17.5


async def test_after_words_were_heard_there_is_the_same_patience_again() -> None:
    bench = Bench(rules=PATIENT)

    def wait() -> None:
        bench.clock.seconds += 20

    bench.model = ScriptedModel(["The ", wait, ProviderBroken("cut")], WORDS)
    done(await bench.run())

    assert bench.model.patience == [1015.0, 1035.0]


async def test_what_was_said_stays_until_the_next_attempt_has_something_to_say() -> None:
    bench = Bench(rules=PATIENT)
    seen: list[tuple[int, str]] = []
    bench.clock.on_pause = lambda: seen.append(
        (bench.published.events[-1].attempt, bench.published.read)
    )
    bench.model = Away(  # type: ignore[assignment]
        bench.clock, 1010.0, ["The ", ProviderBroken("cut")]
    )
    done(await bench.run())

    assert len(seen) > 3
    assert set(seen) == {(1, "The ")}
    assert [e.attempt for e in bench.published.events if isinstance(e, Started)] == [1, 2]


async def test_what_was_said_stays_where_the_next_attempt_never_comes() -> None:
    bench = Bench([["The ", ProviderBroken("cut")], *[[ProviderOverloaded()]] * 3])
    end = failed(await bench.run())

    assert (end.attempt, end.seq) == (1, 2)
    assert bench.published.read == "The "


async def test_with_a_fallback_nobody_waits_for_the_first_model_to_come_back() -> None:
    rules = replace(PATIENT, fallback_model="second/model")
    bench = Bench([[ProviderOverloaded()]] * 3 + [WORDS], rules=rules)
    done(await bench.run())

    assert [p.model for p in bench.model.prompts] == ["first/model"] * 3 + ["second/model"]


# ---------------------------------------------------------------- more than the model can read


async def test_what_is_too_long_for_the_model_is_asked_again_with_half() -> None:
    said: list[list[Step]] = [["x" * 400, STOP] for _ in range(4)]
    too_long = ContextTooLong("maximum context length is 100 tokens")
    bench = Bench([*said, [too_long], [too_long], WORDS])
    for number in range(4):
        await bench.run(f"h{number}", content="Go on.")
    end = done(await bench.run("t9"))
    sizes = [len(prompt.messages) for prompt in bench.model.prompts[4:]]

    assert end.text == "The sea breathes."
    assert sizes == [10, 4, 2]
    assert bench.clock.pauses == []
    assert end.attempt == 1


async def test_a_conversation_is_never_stuck_by_what_is_too_long() -> None:
    too_long = ContextTooLong("too long")
    bench = Bench([WORDS, *[[too_long]] * 20])
    await bench.run("t1")
    end = failed(await bench.run("t2"))

    assert end.error.code is Code.PROVIDER_REFUSED
    assert [m.role for m in bench.model.prompts[-1].messages] == [Role.SYSTEM, Role.USER]
    assert len(bench.model.prompts) < 10

    bench.model = ScriptedModel(WORDS)
    assert done(await bench.run("t3")).text == "The sea breathes."


async def test_the_answer_s_room_shrinks_where_there_is_one_message_left() -> None:
    context = replace(CONTEXT, max_tokens=4_096)
    bench = Bench([[ContextTooLong()], [ContextTooLong()], WORDS, WORDS], context=context)
    done(await bench.run())

    assert [p.max_tokens for p in bench.model.prompts] == [4_096, 2_048, 1_024]
    done(await bench.run("t2"))
    assert bench.model.prompts[-1].max_tokens == 1_024
    assert len(bench.model.prompts[-1].messages) == 4  # the messages were not too many


async def test_what_a_model_could_not_read_the_next_turns_do_not_ask_it() -> None:
    said: list[list[Step]] = [["x" * 400, STOP] for _ in range(4)]
    bench = Bench([*said, [ContextTooLong()], [ContextTooLong()], WORDS, WORDS, WORDS])
    for number in range(4):
        await bench.run(f"h{number}", content="Go on.")
    done(await bench.run("t9"))
    asked = len(bench.model.prompts)
    done(await bench.run("t10"))
    done(await bench.run("t11", model="another/model"))

    assert len(bench.model.prompts) == asked + 2
    assert len(bench.model.prompts[-2].messages) < 10
    assert len(bench.model.prompts[-1].messages) > 10  # another one may read more


async def test_a_refusal_that_no_halving_mends_teaches_nothing() -> None:
    bench = Bench([WORDS, *[[ContextTooLong()]] * 9, WORDS])
    await bench.run("t1")
    failed(await bench.run("t2"))
    bench.model = ScriptedModel(WORDS)
    done(await bench.run("t3"))

    assert len(bench.model.prompts[0].messages) == 5


async def test_what_is_too_long_for_one_model_the_fallback_may_read() -> None:
    bench = Bench([[ContextTooLong()], WORDS], rules=replace(RULES, fallback_model="second/model"))
    done(await bench.run())

    assert [p.model for p in bench.model.prompts] == ["first/model", "second/model"]


# ---------------------------------------------------------------- messages on pages


async def test_messages_on_pages_are_asked_too_as_far_as_they_fit() -> None:
    bench = Bench([WORDS, WORDS])
    await bench.run("t1")
    pages = [
        [Message(f"p{n}.{m}", role, f"{n}.{m}", f"p{n}", "") for m, role in enumerate(TALK)]
        for n in range(1, 4)
    ]
    bench.pages = MemoryPages(*pages)
    bench.conversations.put("c1", structs.replace(bench.document, pages=3))
    bench.contexts = Contexts(replace(CONTEXT, max_messages=6))
    await bench.run("t2")

    assert [m.content for m in bench.model.prompts[1].messages] == [
        "Be kind.",
        "3.0",
        "3.1",
        "What is a tide?",
        "The sea breathes.",
        "What is a tide?",
    ]
    assert bench.pages.asked == [3, 2]


async def test_a_small_history_reads_no_page() -> None:
    bench = Bench([WORDS, WORDS])
    await bench.run("t1")
    await bench.run("t2")

    assert bench.pages.asked == []


# ---------------------------------------------------------------- another model


FALLBACK = replace(RULES, fallback_model="second/model")


async def test_a_model_that_stays_overloaded_is_replaced_by_the_fallback() -> None:
    bench = Bench([[ProviderOverloaded()]] * 3 + [WORDS], rules=FALLBACK)
    end = done(await bench.run())
    names = [prompt.model for prompt in bench.model.prompts]

    assert names == ["first/model"] * 3 + ["second/model"]
    assert end.text == "The sea breathes."


async def test_listeners_are_told_which_model_answers() -> None:
    bench = Bench([[ProviderOverloaded()]] * 3 + [WORDS], rules=FALLBACK)
    end = done(await bench.run())
    starts = [event for event in bench.published.events if isinstance(event, Started)]

    assert [(start.attempt, start.model) for start in starts] == [
        (1, "first/model"),
        (2, "second/model"),
    ]
    assert end.attempt == 2


async def test_the_fallback_answers_at_once_where_waiting_is_not_worth_it() -> None:
    bench = Bench([[ProviderRateLimited(wait=600.0)], WORDS], rules=FALLBACK)
    done(await bench.run())

    assert [prompt.model for prompt in bench.model.prompts] == ["first/model", "second/model"]
    assert bench.clock.pauses == []


@pytest.mark.parametrize("before", [[], ["The "]])
async def test_what_one_model_refuses_the_fallback_is_asked_at_once(before: list[Step]) -> None:
    bench = Bench([[*before, ProviderRefused("no such model")], WORDS], rules=FALLBACK)
    end = done(await bench.run())

    assert [prompt.model for prompt in bench.model.prompts] == ["first/model", "second/model"]
    assert end.text == "The sea breathes."
    assert bench.clock.pauses == []


async def test_what_every_model_refuses_fails_without_a_repetition() -> None:
    for rules, asked in ((RULES, 1), (FALLBACK, 2)):
        bench = Bench([[ProviderRefused("bad")]] * 5, rules=rules)
        end = failed(await bench.run())

        assert end.error.code is Code.PROVIDER_REFUSED
        assert not end.error.retryable
        assert len(bench.model.prompts) == asked


# ---------------------------------------------------------------- the cost


async def test_the_tokens_cost_what_the_model_that_answered_takes() -> None:
    bench = Bench([WORDS])
    end = done(await bench.run())

    assert end.usage == Usage(7, 3)
    assert end.cost_usd == pytest.approx(7 + 30)
    assert bench.document.last_end == end


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["Yes.", Finished(FinishReason.STOP, Usage(None, None))], "first/model"),
        (["Ye", Cancelled()], "first/model"),
        (WORDS, "free/model"),
    ],
    ids=["tokens not told", "stopped", "no price"],
)
async def test_what_nobody_knows_has_no_cost(words: list[Step], model: str) -> None:
    assert done(await Bench([words]).run(model=model)).cost_usd is None


async def test_tokens_of_all_tries_are_added_each_at_its_model_s_price() -> None:
    scripts: list[list[Step]] = [
        ["The ", Usage(5, 1), Usage(5, 2), ProviderBroken("cut")],
        [ProviderOverloaded()],
        WORDS,
    ]
    end = done(await Bench(scripts).run())

    assert end.usage == Usage(12, 5)
    assert end.cost_usd == pytest.approx(12 + 50)


async def test_what_the_provider_did_not_tell_is_not_known() -> None:
    told = Finished(FinishReason.STOP, Usage(7, None))

    assert done(await Bench([["a", told]]).run()).usage == Usage(7, None)


@pytest.mark.parametrize(
    ("script", "usage"),
    [
        (["a", Cancelled()], Usage(None, None)),
        (["a", Usage(7, 1), Cancelled()], Usage(7, 1)),
        (["x" * 1001, Usage(7, 1), STOP], Usage(None, None)),
        ([Usage(7, 1), "x" * 1001, STOP], Usage(7, 1)),
    ],
)
async def test_a_turn_that_is_cut_tells_the_usage_that_was_told_until_then(
    script: list[Step], usage: Usage
) -> None:
    assert done(await Bench([script]).run()).usage == usage


async def test_where_the_fallback_fails_too_the_turn_fails() -> None:
    bench = Bench([[ProviderOverloaded("full")]] * 20, rules=FALLBACK)
    end = failed(await bench.run())
    asked = [prompt.model for prompt in bench.model.prompts]

    assert end.error.code is Code.PROVIDER_OVERLOADED
    assert asked[:3] == ["first/model"] * 3
    assert 1 <= asked.count("second/model") <= 3


# ---------------------------------------------------------------- stopped


async def test_a_turn_stopped_before_its_first_word_is_done_and_empty() -> None:
    bench = Bench([[Cancelled()]])
    end = done(await bench.run())

    assert (end.finish_reason, end.text) == (FinishReason.CANCELLED, "")
    assert bench.seqs == [(1, 0), (1, 1)]
    assert bench.history == [("user", "What is a tide?")]


async def test_a_turn_stopped_in_the_middle_keeps_what_was_said() -> None:
    bench = Bench([["The ", "sea ", Cancelled()]])
    end = done(await bench.run())

    assert (end.finish_reason, end.text) == (FinishReason.CANCELLED, "The sea ")
    assert bench.published.read == "The sea "
    assert bench.document.messages[1].content == "The sea "
    assert bench.document.messages[1].status is Status.INTERRUPTED
    assert bench.spoken.asked == []


async def test_a_turn_stopped_in_the_middle_keeps_only_what_was_heard() -> None:
    bench = Bench([["The ", "sea ", Cancelled()]], heard_ms=3)
    end = done(await bench.run())

    assert end.text == "The sea "
    assert bench.history[1] == ("assistant", "The")
    assert bench.spoken.asked == [("c1", "t1", bench.clock.utc())]


async def test_a_turn_of_which_nothing_was_heard_leaves_no_answer() -> None:
    bench = Bench([["The ", Cancelled()]], heard_ms=0)
    done(await bench.run())

    assert bench.history == [("user", "What is a tide?")]


async def test_a_frozen_worker_does_not_bring_an_erased_conversation_back() -> None:
    bench = Bench([WORDS], is_gone=True)
    with pytest.raises(Superseded):
        await bench.run()

    assert "c1" not in bench.conversations
    assert bench.published.events == []
    assert bench.model.prompts == []


async def test_a_frozen_worker_leaves_a_conversation_that_has_begun_anew_as_it_is() -> None:
    bench = Bench([WORDS, WORDS])
    await bench.run("t0")
    history = bench.history
    bench.is_gone = True
    with pytest.raises(Superseded):
        await bench.run("t1")

    assert bench.history == history
    assert bench.document.turn is None


async def test_a_stopped_turn_without_a_voice_keeps_its_text() -> None:
    bench = Bench([["The ", "sea ", Cancelled()]], heard_ms=0, spoken=SteadyVoice(None))
    await bench.run(voice=False)

    assert bench.history[-1] == ("assistant", "The sea ")


async def stopped_while_nobody_held_it(heard_ms: int | None = None) -> Bench:
    bench = Bench([["The ", "sea ", Superseded()]])
    with pytest.raises(Superseded):
        await bench.run()
    bench.published = Published(bench.journal, stored=bench.published.events)
    bench.conversations.put("c1", conversation.stopped(bench.document, "t1", heard_ms))
    end = done(await bench.run())
    assert (end.finish_reason, end.attempt) == (FinishReason.CANCELLED, 2)
    return bench


async def test_a_turn_stopped_while_nobody_held_it_ends_with_what_was_said() -> None:
    bench = await stopped_while_nobody_held_it()

    assert bench.published.read == "The sea "
    assert bench.history[-1] == ("assistant", "The sea ")
    assert len(bench.model.prompts) == 1
    assert bench.document.stops == {}


async def test_a_turn_stopped_while_nobody_held_it_keeps_what_was_heard() -> None:
    bench = await stopped_while_nobody_held_it(heard_ms=3)

    assert bench.history[-1] == ("assistant", "The")


async def test_a_turn_stopped_before_it_began_says_nothing() -> None:
    bench = Bench()
    bench.conversations.put("c1", conversation.stopped(conversation.Conversation(), "t1", None))
    with pytest.raises(Cancelled):
        await bench.run()

    assert bench.journal == []


async def test_a_stop_that_comes_while_the_turn_is_committed_keeps_what_was_heard() -> None:
    bench = Bench([WORDS])
    bench.conversations.rivals = [None, lambda document: conversation.stopped(document, "t1", 3)]
    end = done(await bench.run())

    assert end.text == "The sea breathes."
    assert bench.history[-1] == ("assistant", "The")


async def test_text_that_still_waited_when_the_turn_was_stopped_is_published() -> None:
    bench = Bench([["The ", "sea ", Cancelled()]], lags=True)
    end = done(await bench.run())

    assert bench.published.read == end.text == "The sea "


@pytest.mark.parametrize(("before", "text"), [([], ""), (["The "], "The ")])
async def test_a_turn_stopped_while_it_pauses_is_done(before: list[Step], text: str) -> None:
    bench = Bench([[*before, ProviderOverloaded()], WORDS])
    bench.clock.stopped = True
    end = done(await bench.run())

    assert (end.finish_reason, end.text) == (FinishReason.CANCELLED, text)
    assert len(bench.model.prompts) == 1


# ---------------------------------------------------------------- the deadline


async def test_a_turn_past_its_deadline_fails() -> None:
    bench = Bench([["The ", DeadlineExceeded("the turn took too long")]])
    end = failed(await bench.run())

    assert end.error.code is Code.DEADLINE_EXCEEDED
    assert end.seq == 2


async def test_nothing_is_tried_again_after_the_deadline() -> None:
    bench = Bench()

    def wait() -> None:
        bench.clock.seconds += 90

    bench.model = ScriptedModel([wait, ProviderStalled("nothing came")], WORDS)
    end = failed(await bench.run())

    assert end.error.code is Code.DEADLINE_EXCEEDED
    assert "90 s" in end.error.message
    assert len(bench.model.prompts) == 1


async def test_a_pause_that_eats_the_turn_is_not_made() -> None:
    bench = Bench()

    def wait() -> None:
        bench.clock.seconds += 85

    bench.model = ScriptedModel([wait, ProviderRateLimited(wait=10.0)], WORDS)
    failed(await bench.run())

    assert bench.clock.pauses == []
    assert len(bench.model.prompts) == 1


# ---------------------------------------------------------------- races for the document


def another_execution(document: Conversation) -> Conversation:
    """Another worker begins the same turn."""
    _, changed = conversation.begin(
        document,
        ChatRequest(content="x"),
        "t1",
        execution="rival",
        now=Clock().utc(),
        give_up_after=99,
    )
    return changed


def amended(document: Conversation) -> Conversation:
    """Somebody changes what was heard of an earlier turn."""
    return structs.replace(document, delta_sequence=document.delta_sequence + 1)


def erased(_document: Conversation) -> Conversation:
    return Conversation()


async def test_a_lost_race_at_the_beginning_is_run_again() -> None:
    bench = Bench([WORDS])
    bench.conversations.rivals = [amended, amended]
    end = done(await bench.run())

    assert end.text == "The sea breathes."
    assert bench.history == [("user", "What is a tide?"), ("assistant", "The sea breathes.")]


async def test_a_change_by_somebody_else_is_kept_at_the_commit() -> None:
    bench = Bench([WORDS, WORDS])
    await bench.run("t1")

    def heard_less(document: Conversation) -> Conversation:
        return conversation.heard(document, "t1", "The sea")

    bench.conversations.rivals = [None, heard_less]
    done(await bench.run("t2", content="Always?"))

    assert [content for _, content in bench.history] == [
        "What is a tide?",
        "The sea",
        "Always?",
        "The sea breathes.",
    ]


@pytest.mark.parametrize("rival", [another_execution, erased])
async def test_who_is_replaced_at_the_commit_publishes_nothing_more(
    rival: Callable[[Conversation], Conversation],
) -> None:
    bench = Bench([WORDS])
    bench.conversations.rivals = [None, rival]
    with pytest.raises(Superseded):
        await bench.run()

    assert not [event for event in bench.published.events if isinstance(event, Done | Failed)]
    assert ("assistant", "The sea breathes.") not in bench.history


async def test_who_is_replaced_before_the_next_attempt_publishes_nothing_more() -> None:
    bench = Bench([["The ", ProviderBroken("cut")], WORDS])
    bench.conversations.rivals = [None, another_execution]
    with pytest.raises(Superseded):
        await bench.run()

    assert bench.seqs == [(1, 0), (1, 1)]
    assert len(bench.model.prompts) == 2


@pytest.mark.parametrize("events", [0, 1, 2])
async def test_who_is_fenced_while_it_publishes_commits_nothing(events: int) -> None:
    bench = Bench([WORDS])
    bench.published = Published(bench.journal, fenced_after=events)
    with pytest.raises(Superseded):
        await bench.run()

    assert len(bench.published.events) == events
    assert bench.document.last_end is None
    assert bench.document.turn is not None


async def test_a_document_that_is_never_saved_leaves_the_turn_to_another_delivery() -> None:
    bench = Bench([WORDS])
    bench.conversations.contested = True
    with pytest.raises(NatsError):
        await bench.run()

    assert bench.conversations.loads == AMEND_TRIES
    assert bench.published.events == []


async def test_a_turn_costs_one_reading_and_two_writings_of_its_document() -> None:
    bench = Bench([WORDS])
    await bench.run()

    assert (bench.conversations.loads, bench.conversations.saves) == (1, 2)


# ---------------------------------------------------------------- delivered again


async def test_a_turn_whose_worker_died_is_run_as_the_next_attempt() -> None:
    bench = Bench([["The ", RuntimeError("killed")], WORDS])
    with pytest.raises(RuntimeError):
        await bench.run()
    end = done(await bench.run())

    assert end.attempt == 2
    assert bench.published.read == end.text == "The sea breathes."
    assert bench.history == [("user", "What is a tide?"), ("assistant", "The sea breathes.")]


async def test_a_turn_that_was_committed_is_not_answered_again() -> None:
    bench = Bench([WORDS])
    first = await bench.run()
    bench.published = Published(stored=bench.published.events)

    assert await bench.run() is None
    assert bench.published.events == []
    assert bench.published.voices == []
    assert bench.published.asked_since == [101]
    assert len(bench.model.prompts) == 1
    assert bench.document.last_end == first


async def test_a_commit_whose_worker_died_before_it_said_so_is_said() -> None:
    bench = Bench([WORDS])
    first = await bench.run(speech=Speech(voice="v"))
    without_end = bench.published.events[:-1]
    bench.published = Published(stored=without_end)

    assert await bench.run(speech=Speech(voice="v")) == first
    assert bench.published.events == [first]
    assert [voice.start_sequence for voice in bench.published.voices] == [101]
    assert len(bench.model.prompts) == 1


async def test_a_failure_that_was_committed_is_said_in_the_same_way() -> None:
    bench = Bench([[ProviderRefused("bad")]])
    first = failed(await bench.run())
    bench.published = Published(stored=bench.published.events[:-1])

    assert await bench.run() == first
    assert bench.published.events == [first]


async def test_a_turn_delivered_again_after_a_later_one_began_says_nothing() -> None:
    bench = Bench([WORDS, WORDS])
    await bench.run("t1")
    await bench.run("t2")
    bench.published = Published()

    assert await bench.run("t1") is None
    assert bench.published.events == []


# ---------------------------------------------------------------- given up


async def test_a_turn_that_no_worker_survives_is_given_up() -> None:
    bench = Bench([[RuntimeError("killed")]] * 5)
    for _ in range(5):
        with pytest.raises(RuntimeError):
            await bench.run()
    with pytest.raises(GivenUp) as caught:
        await bench.run()
    end = failed(bench.published.events[-1])  # type: ignore[arg-type]

    assert len(bench.model.prompts) == 5
    assert end.error.code is Code.INTERNAL
    assert end.attempt == 6
    assert end.seq == 0
    assert bench.document.turn is None
    assert bench.document.last_end == caught.value.end == end
    assert bench.history == [("user", "What is a tide?")]
    assert len(bench.published.voices) == 6


async def test_a_turn_that_was_given_up_stays_so() -> None:
    bench = Bench([[RuntimeError("killed")]] * 5)
    for _ in range(5):
        with pytest.raises(RuntimeError):
            await bench.run()
    with pytest.raises(GivenUp):
        await bench.run()
    bench.published = Published(stored=bench.published.events)

    assert await bench.run() is None
    assert bench.published.events == []


def given_up(document: Conversation) -> Conversation:
    """Another worker has found that the turn was begun too often."""
    assert document.turn
    return conversation.taken_over(document, document.turn, "rival")


@pytest.mark.parametrize("rival", [given_up, erased])
async def test_a_turn_that_somebody_else_gives_up_is_left_to_them(
    rival: Callable[[Conversation], Conversation],
) -> None:
    bench = Bench([[RuntimeError("killed")]] * 5)
    for _ in range(5):
        with pytest.raises(RuntimeError):
            await bench.run()
    before = len(bench.published.events)
    bench.conversations.rivals = [rival]
    with pytest.raises(Superseded):
        await bench.run()

    assert len(bench.published.events) == before


async def test_a_turn_is_given_up_also_when_its_document_changes_meanwhile() -> None:
    bench = Bench([[RuntimeError("killed")]] * 5)
    for _ in range(5):
        with pytest.raises(RuntimeError):
            await bench.run()
    bench.conversations.rivals = [amended]
    with pytest.raises(GivenUp):
        await bench.run()

    failed(bench.published.events[-1])  # type: ignore[arg-type]


async def test_the_conversation_goes_on_after_a_turn_was_given_up() -> None:
    bench = Bench([[RuntimeError("killed")]] * 5 + [WORDS])
    for _ in range(5):
        with pytest.raises(RuntimeError):
            await bench.run()
    with pytest.raises(GivenUp):
        await bench.run()

    assert done(await bench.run("t2")).text == "The sea breathes."


# ---------------------------------------------------------------- the end, always


@pytest.mark.parametrize(
    "error",
    [
        ProviderRefused("x"),
        ProviderOverloaded("x"),
        ProviderStalled("x"),
        ProviderBroken("x"),
        DeadlineExceeded("x"),
        Internal("x"),
        Cancelled(),
    ],
)
@pytest.mark.parametrize("before", [[], [Thought("Hm")], ["The "], [Thought("Hm"), "The ", "sea "]])
@pytest.mark.parametrize("lags", [True, False])
async def test_a_broken_model_still_ends_the_turn_once(
    error: ParleyError, before: list[Step], *, lags: bool
) -> None:
    bench = Bench([[*before, error]] * 3, lags=lags)
    end = await bench.run()
    events = bench.published.events
    last = events[-1].attempt

    assert events[-1] == end
    assert [type(e) for e in events if isinstance(e, Done | Failed)] == [type(end)]
    assert [e.seq for e in events if e.attempt == last] == list(
        range(sum(e.attempt == last for e in events))
    )
    assert bench.document.turn is None
    assert bench.document.last_end == end
    assert bench.model.closed == len(bench.model.prompts)
    if isinstance(end, Done):
        assert bench.published.read == end.text


# ---------------------------------------------------------------- torn bursts


@pytest.mark.parametrize(
    ("torn_at", "lags"),
    [([2], False), ([3], False), ([4], False), ([3, 4], False), ([2, 4, 6], False), ([2], True)],
)
async def test_what_a_change_of_leader_tore_is_said_again_by_a_higher_attempt(
    torn_at: list[int], lags: bool
) -> None:
    bench = Bench([WORDS], lags=lags)
    bench.published.torn_at = list(torn_at)
    end = await bench.run()
    assert isinstance(end, Done)
    assert end.text == "The sea breathes."
    assert bench.published.read == "The sea breathes."
    last = [event for event in bench.published.events if event.attempt == end.attempt]
    assert [event.seq for event in last] == list(range(len(last)))
    assert isinstance(last[0], Started)
    assert end.attempt > 1
    assert len(bench.model.prompts) == 1  # what it had said is kept, and the rest comes
    assert bench.published.events[-1] is end


async def test_thoughts_that_were_torn_are_said_again_as_well() -> None:
    bench = Bench([[Thought("Hm. "), "Yes.", STOP]])
    bench.published.torn_at = [3]
    end = await bench.run()
    assert end is not None
    last = [event for event in bench.published.events if event.attempt == end.attempt]
    assert "".join(e.text for e in last if isinstance(e, Reasoning)) == "Hm. "
    assert "".join(e.text for e in last if isinstance(e, Text)) == "Yes."


async def test_a_turn_that_is_torn_without_end_is_handed_back() -> None:
    bench = Bench([WORDS])
    bench.published.torn_at = list(range(1, 100))
    with pytest.raises(Torn):
        await bench.run()


# ---------------------------------------------------------------- no room


async def test_a_turn_whose_document_finds_no_room_is_refused_before_it_says_anything() -> None:
    bench = Bench([WORDS])
    bench.conversations.fill()
    with pytest.raises(StorageUnavailable, match="no room"):
        await bench.run()
    assert bench.published.events == []
    assert bench.model.prompts == []


async def test_an_answer_that_finds_no_room_ends_its_turn_by_name() -> None:
    def fill() -> None:
        bench.conversations.fill()

    bench = Bench([WORDS, ["More.", fill, STOP]])
    done(await bench.run("t1", content="x" * 100))
    end = failed(await bench.run("t2"))

    assert (end.error.code, end.error.retryable) == (Code.STORAGE_UNAVAILABLE, True)
    assert bench.published.events[-1] == end
    assert (bench.document.turn, bench.document.last_end) == (None, end)
    assert bench.document.ended == ["t1", "t2"]
    assert {message.turn_id for message in bench.document.messages} == {"t1"}


async def test_a_turn_whose_document_has_no_room_for_any_end_is_told_to_have_failed() -> None:
    def nothing_fits() -> None:
        bench.conversations.limit = 0

    bench = Bench([["More.", nothing_fits, STOP], WORDS])
    end = failed(await bench.run("t1"))
    assert end.error.code is Code.STORAGE_UNAVAILABLE
    assert bench.published.events[-1] == end

    bench.conversations.limit = None  # the next turn takes its place
    assert done(await bench.run("t2")).text == "The sea breathes."


async def test_what_another_worker_has_begun_ends_where_there_is_no_room_to_take_it_over() -> None:
    bench = Bench([["More.", Superseded()]])
    with pytest.raises(Superseded):
        await bench.run()
    turn = bench.document.turn
    assert turn is not None
    bench.conversations.put(
        "c1", structs.replace(bench.document, turn=structs.replace(turn, attempt=9))
    )
    bench.conversations.fill()
    end = failed(await bench.run())

    assert (end.attempt, end.error.code) == (10, Code.STORAGE_UNAVAILABLE)
    assert bench.published.events[-1] == end
    assert bench.document.turn is None


async def test_a_turn_that_is_given_up_ends_also_where_there_is_no_room() -> None:
    bench = Bench([["More.", Superseded()]])
    with pytest.raises(Superseded):
        await bench.run()
    turn = bench.document.turn
    assert turn is not None
    lost = structs.replace(turn, attempt=9, executions=RULES.executions)
    bench.conversations.put("c1", structs.replace(bench.document, turn=lost))
    bench.conversations.fill()
    with pytest.raises(GivenUp):
        await bench.run()

    assert failed(bench.published.events[-1]).error.code is Code.STORAGE_UNAVAILABLE  # type: ignore[arg-type]


# ---------------------------------------------------------------- a document that is gone


def said(attempt: int, *more: Done | Failed) -> list[Started | Text | Done | Failed]:
    started = Started("c1", "t1", attempt, 0, model="m", metadata={}, speech=False, created_at="")
    return [started, Text("c1", "t1", attempt, 1, text="The "), *more]


async def test_a_turn_whose_document_is_gone_begins_above_what_listeners_know() -> None:
    bench = Bench([WORDS])
    bench.redelivered = True
    bench.published = Published(bench.journal, stored=[*said(1), *said(2)])
    end = done(await bench.run())

    assert (end.attempt, end.text) == (3, "The sea breathes.")
    assert bench.published.events[0].attempt == 3


async def test_a_turn_whose_document_is_gone_is_not_answered_again_after_its_end() -> None:
    bench = Bench([WORDS])
    bench.redelivered = True
    over = Failed("c1", "t1", 1, 2, error=Internal("it failed").as_error())
    bench.published = Published(bench.journal, stored=said(1, over))

    assert await bench.run() is None
    assert bench.published.events == []
    assert "c1" not in bench.conversations


@pytest.mark.parametrize(("redelivered", "known"), [(False, False), (False, True), (True, True)])
async def test_nobody_looks_at_the_stream_for_a_turn_that_is_new_or_known(
    redelivered: bool, known: bool
) -> None:
    bench = Bench([[Superseded()], WORDS])
    with contextlib.suppress(Superseded):
        if known:
            await bench.run()
        else:
            bench.model = ScriptedModel(WORDS)
    bench.redelivered = redelivered
    done(await bench.run())

    assert "looked" not in bench.journal
