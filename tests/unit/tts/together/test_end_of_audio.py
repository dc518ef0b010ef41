"""When a piece is complete, with a clock that only the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.together.end_of_audio import (
    GRACE,
    QUIET_MAX,
    EndOfAudio,
    Patience,
    State,
    is_compound,
)
from services.tts.together.profile import (
    FORGET_AFTER,
    SINGLE_PROVEN_BY,
    SINGLE_SURE_BY,
    Position,
    Profile,
)
from shared.errors import ProviderBroken, ProviderStalled

# (seconds after the commit, what, item)
Happening: TypeAlias = tuple[float, str, "str | None"]
PATIENCE = Patience()


@dataclass
class Context:
    """One context, its clock, and what happens in it; looks exactly when it is due."""

    profile: Profile = field(default_factory=Profile)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.watch = EndOfAudio(self.profile, PATIENCE)

    def piece(self, *happenings: Happening, text: str = "One sentence.") -> float:
        """How long after the commit the piece is complete."""
        self.watch.commit(text, self.now)
        return self.until_complete(*happenings)

    def until_complete(self, *happenings: Happening) -> float:
        start, left = self.now, list(happenings)
        while True:
            if self.watch.look(self.now):
                self.left = [(at - (self.now - start), what, item) for at, what, item in left]
                return round(self.now - start, 6)
            due = max(self.watch.due, self.now)
            if left and start + left[0][0] <= due:
                at, what, item = left.pop(0)
                self.now = max(self.now, start + at)
                self.happen(what, item)
            else:
                self.now = due

    def happen(self, what: str, item: str | None) -> None:
        if what == "audio":
            self.watch.audio(item, self.now)
        elif what == "done":
            self.watch.done(item, self.now)
        else:
            self.watch.words(item, self.now)

    def rest(self) -> float:
        """What came before the piece was complete is over: how long the end of the turn takes."""
        self.watch.finish()
        return self.until_complete(*self.left)


def item(name: str | None, start: float, end: float, *, done: bool = True) -> list[Happening]:
    """An item whose audio comes every 50 ms."""
    count = max(1, round((end - start) / 0.05))
    audio: list[Happening] = [(start + i * 0.05, "audio", name) for i in range(count)]
    return [*audio, (end, "done", name)] if done else audio


def taught(*, pieces: int = SINGLE_PROVEN_BY, name: str = "x") -> Profile:
    """A provider that gives one item and one done for each commit."""
    context = Context()
    for number in range(pieces):
        context.piece(*item(f"{name}{number}", 0.1, 0.3), text="Two. Sentences.")
    assert context.profile.one_item(compound=True)
    return context.profile


# ---------------------------------------------------------------- a done for each item


def test_at_first_a_done_is_believed_only_after_quiet() -> None:
    assert Context().piece(*item("a", 0.2, 0.5)) == pytest.approx(0.5 + 1.5 * 0.2)


def test_the_quiet_is_not_shorter_and_not_longer_than_sensible() -> None:
    assert Context().piece((0.001, "audio", "a"), (0.002, "done", "a")) == pytest.approx(0.102)
    assert Context().piece((3.0, "audio", "a"), (3.1, "done", "a")) == pytest.approx(
        3.1 + QUIET_MAX
    )


def test_a_slow_voice_makes_the_quiet_longer() -> None:
    slow: list[Happening] = [(0.1 + i * 0.4, "audio", "a") for i in range(4)]
    assert Context().piece(*slow, (1.4, "done", "a")) == pytest.approx(1.4 + 1.5 * 0.4)


def test_known_to_give_one_item_a_commit_is_complete_at_its_done() -> None:
    context = Context(taught())
    assert context.piece(*item("a", 0.1, 0.4)) == pytest.approx(0.4)
    assert context.piece(*item("b", 0.1, 0.4), text="Two! Of them?") == pytest.approx(0.4)


def test_short_texts_teach_nothing_about_texts_of_several_sentences() -> None:
    context = Context()
    for number in range(SINGLE_PROVEN_BY):
        context.piece(*item(f"x{number}", 0.1, 0.3))
    assert context.piece(*item("a", 0.1, 0.4)) == pytest.approx(0.4)
    assert context.piece(*item("b", 0.1, 0.4), text="Hello! How are you?") > 0.4


@pytest.mark.parametrize(
    ("text", "compound"),
    [
        ("Hello there.", False),
        ("Hello! How are you?", True),
        ("One\nTwo", True),
        ("He paid 3.50 for it.", False),
        ("“Yes.” And no", True),
        ("你好。再见。", True),
        ("你好。", False),
        ("Wait… what", True),
        ("word " * 60, True),
        ("trailing. \n", False),
    ],
)
def test_where_a_provider_may_find_several_sentences(text: str, compound: bool) -> None:
    assert is_compound(text) is compound


def test_two_items_of_one_commit_are_waited_for() -> None:
    context = Context()
    ended = context.piece(*item("a", 0.2, 0.5), *item("b", 0.65, 0.9), text="Hello! You?")
    assert ended == pytest.approx(0.9 + 1.5 * 0.2)
    assert context.profile.several


def test_overlapping_items_are_complete_when_all_of_them_are() -> None:
    context = Context()
    ended = context.piece(
        (0.1, "audio", "a"),
        (0.2, "audio", "b"),
        (0.3, "audio", "a"),
        (0.4, "done", "a"),
        (0.9, "audio", "b"),
        (1.0, "done", "b"),
    )
    assert ended > 1.0


def test_who_ever_gave_two_items_is_never_believed_at_once() -> None:
    profile = taught()
    Context(profile).piece(*item("a", 0.1, 0.3), *item("b", 0.35, 0.5), text="A. B.")
    context = Context(profile)
    context.piece(*item("a", 0.1, 0.3), *item("b", 0.35, 0.5), text="A. B.")
    context.rest()
    assert profile.several
    assert Context(profile).piece(*item("c", 0.1, 0.3)) > 0.3


def test_a_done_for_each_commit_closes_the_items_before_it() -> None:
    context = Context()
    quick = item("a", 0.1, 0.3, done=False) + item("b", 0.35, 0.6)
    assert context.piece(*quick) == pytest.approx(0.6 + 0.15)


# ---------------------------------------------------------------- late, of an earlier piece


def test_a_second_item_that_came_too_late_is_not_lost_and_teaches() -> None:
    context = Context(taught())
    assert context.piece(*item("a", 0.1, 0.3), *item("late", 0.4, 0.6)) == pytest.approx(0.3)
    # It is heard with the next piece and taken for its own, and that one's own with what follows:
    # nothing is lost, and from then on no `done` is believed at once.
    context.piece(*context.left, *item("b", 0.35, 0.8))
    assert context.rest() > 0.5
    assert not context.left
    assert context.profile.several


def test_a_late_done_of_an_earlier_item_completes_nothing() -> None:
    context = Context()
    context.profile.dones[Position.FIRST].missed = 2  # so that silence is enough
    context.piece(*item("a", 0.1, 0.3, done=False))
    ended = context.piece((0.1, "done", "a"), *item("b", 0.3, 0.9))
    assert ended > 0.9


def test_late_audio_of_an_item_that_is_known_is_not_the_pieces_own() -> None:
    context = Context(taught())
    context.piece(*item("a", 0.1, 0.3), *item("late", 0.31, 1.2))
    context.watch.audio("late", context.now)  # between the pieces
    ended = context.piece((0.1, "audio", "late"), (0.2, "done", "late"), *item("b", 0.5, 0.9))
    assert ended > 0.9


def test_while_an_earlier_piece_is_heard_this_one_has_not_stalled() -> None:
    context = Context(taught())
    context.piece(*item("a", 0.1, 0.3))
    context.watch.audio("late", context.now)
    late: list[Happening] = [(at * 1.0, "audio", "late") for at in range(1, 15)]
    assert context.piece(*late, *item("b", 15.0, 15.2)) > 15.2


def test_the_end_of_a_turn_waits_for_quiet_and_hears_what_is_late() -> None:
    context = Context(taught())
    assert context.piece(*item("a", 0.2, 0.4), *item("late", 0.6, 0.9)) == pytest.approx(0.4)
    assert context.rest() == pytest.approx(0.5 + 1.5 * 0.25)  # 0.25 s is the longest pause by then
    assert not context.left


def sure() -> Profile:
    """A provider that has given one item and one done for each commit, for long."""
    profile = taught()
    for _ in range(SINGLE_SURE_BY - SINGLE_PROVEN_BY):
        context = Context(profile)
        context.piece(*item("a", 0.2, 0.4), text="Two. Sentences.")
        assert context.rest() > PATIENCE.quiet_sure  # and is watched until it is quiet
    return profile


def test_the_end_of_a_turn_is_not_waited_for_as_long_where_one_item_is_the_rule() -> None:
    context = Context(sure())
    assert context.piece(*item("a", 0.2, 0.4), text="Two. Sentences.") == pytest.approx(0.4)
    assert context.rest() == pytest.approx(PATIENCE.quiet_sure)


def test_a_quiet_end_says_of_all_pieces_of_the_turn_that_they_gave_one_item() -> None:
    profile = taught()
    context = Context(profile)
    for number in range(SINGLE_SURE_BY - SINGLE_PROVEN_BY):
        assert context.piece(*item(f"{number}", 0.2, 0.4)) == pytest.approx(0.4)  # at once
    assert not profile.surely_one_item(compound=False)
    context.rest()
    assert profile.surely_one_item(compound=False)


def test_a_turn_with_an_item_too_many_proves_nothing() -> None:
    profile = taught()
    context = Context(profile)
    for number in range(SINGLE_SURE_BY):
        context.piece(*item(f"{number}", 0.2, 0.4))
    context.piece(*item("a", 0.2, 0.4), *item("late", 0.5, 0.6))
    context.rest()
    assert not profile.surely_one_item(compound=False)


def test_who_is_sure_waits_no_longer_than_who_is_not() -> None:
    hasty = Patience(quiet_min=PATIENCE.quiet_sure / 5)
    watch = EndOfAudio(sure(), hasty)
    watch.commit("One.", 1.0)
    watch.audio("a", 1.001)
    watch.done("a", 1.002)
    assert watch.quiet == hasty.quiet_min


def test_a_rule_that_is_broken_once_is_none() -> None:
    profile = sure()
    broken = Context(profile)
    broken.piece(*item("a", 0.2, 0.4), *item("b", 0.42, 0.5))
    assert broken.rest() > 0.1
    context = Context(profile)
    context.piece(*item("a", 0.2, 0.4))
    assert profile.several
    assert context.rest() == 0.0  # it was quiet for as long as ever


def test_a_rule_for_sentences_is_none_for_what_may_be_several() -> None:
    profile = Profile()
    profile.single[False] = SINGLE_SURE_BY
    context = Context(profile)
    context.piece(*item("a", 0.2, 0.4), text="Two. Sentences.")
    assert context.now == pytest.approx(1000.4 + 1.5 * 0.2)


def test_words_that_come_late_are_waited_for_however_sure_the_rest_is() -> None:
    profile = sure()
    profile.words_late = True
    context = Context(profile)
    context.watch.commit("One.", context.now, words=True)
    assert context.until_complete(*item("a", 0.2, 0.4)) == pytest.approx(0.4 + 1.5 * 0.2)


def test_the_end_of_a_turn_that_was_quiet_already_takes_no_time() -> None:
    context = Context()
    context.piece(*item("a", 0.2, 0.4))
    assert context.rest() == 0.0


def test_the_end_of_a_turn_that_said_nothing_takes_no_time() -> None:
    context = Context()
    context.watch.finish()
    assert context.watch.look(context.now)


def test_anonymous_audio_that_runs_over_keeps_its_done_to_itself() -> None:
    context = Context(taught())
    assert context.piece(*item(None, 0.1, 0.3)) == pytest.approx(0.3)
    context.now += 0.1
    context.watch.audio(None, context.now)
    ended = context.piece((0.1, "done", None), *item(None, 0.3, 0.8))
    assert ended > 0.8


# ---------------------------------------------------------------- binary, or no item ids


def test_audio_without_names_is_closed_by_whatever_done_comes() -> None:
    context = Context()
    binary: list[Happening] = [*item(None, 0.1, 0.4, done=False), (0.4, "done", "tts_1")]
    assert context.piece(*binary) == pytest.approx(0.4 + 0.15)


def test_two_items_without_names_are_two() -> None:
    context = Context()
    ended = context.piece(*item(None, 0.2, 0.4), *item(None, 0.55, 0.8), text="A. B.")
    assert ended > 0.8
    assert context.profile.several


def test_named_audio_is_closed_by_a_done_without_name() -> None:
    context = Context()
    happenings: list[Happening] = [*item("a", 0.1, 0.4, done=False), (0.4, "done", None)]
    assert context.piece(*happenings) == pytest.approx(0.4 + 0.15)


# ---------------------------------------------------------------- one done for a context, or none


def test_without_any_done_silence_is_the_end() -> None:
    context = Context()
    last = 0.5 - 0.05
    for minimum in (
        PATIENCE.silence_min_unproven,
        PATIENCE.silence_min_unproven,
        PATIENCE.silence_min,
        PATIENCE.silence_min,
    ):
        ended = context.piece(*item(f"{context.now}", 0.1, 0.5, done=False))
        assert ended == pytest.approx(last + minimum)


def test_without_any_done_a_slow_voice_gets_time() -> None:
    context = Context()
    context.profile.dones[Position.FIRST].missed = 5
    slow: list[Happening] = [(0.1 + i * 0.5, "audio", "a") for i in range(5)]
    assert context.piece(*slow) == pytest.approx(2.1 + 4 * 0.5)


def test_one_done_a_context_costs_one_failure_and_is_known() -> None:
    profile = Profile()
    first = Context(profile)
    first.piece(*item("a", 0.1, 0.3))
    with pytest.raises(ProviderStalled):
        first.piece(*item("b", 0.1, 0.3, done=False))
    again = Context(profile)
    assert again.piece(*item("b", 0.1, 0.3)) < 1.0
    assert again.piece(*item("c", 0.1, 0.3, done=False)) < 2.0
    assert again.piece(*item("d", 0.1, 0.3, done=False)) < 1.0


def test_one_item_a_context_comes_again_with_each_piece() -> None:
    context = Context()
    context.piece(*item("only", 0.1, 0.3))
    assert context.piece(*item("only", 0.2, 0.5)) > 0.5
    context.profile.dones[Position.LATER].came = 0
    context.profile.dones[Position.LATER].missed = 1
    assert context.piece(*item("only", 0.2, 0.5, done=False)) > 0.5
    assert context.piece(*item("only", 0.2, 0.5, done=False)) > 0.5


def test_a_done_that_fails_to_come_is_a_stall() -> None:
    context = Context(taught())
    with pytest.raises(ProviderStalled):
        context.piece(*item("a", 0.1, 0.3, done=False))
    assert context.now == pytest.approx(1000.0 + 0.25 + PATIENCE.audio)
    # One that was lost is no new habit.
    with pytest.raises(ProviderStalled):
        Context(context.profile).piece(*item("a", 0.1, 0.3, done=False))


def test_trouble_of_a_minute_teaches_nothing() -> None:
    profile = taught()
    for _ in range(5 * FORGET_AFTER):
        with pytest.raises(ProviderStalled):
            Context(profile).piece(*item("a", 0.1, 0.3, done=False))
    assert profile.expects_done(Position.FIRST)


def test_a_provider_that_changes_its_ways_is_noticed() -> None:
    profile = taught()
    for minute in range(FORGET_AFTER):
        with pytest.raises(ProviderStalled):
            Context(profile, now=60.0 * minute).piece(*item("a", 0.1, 0.3, done=False))
    assert not profile.expects_done(Position.FIRST)
    Context(profile).piece(*item("a", 0.1, 0.3))
    assert profile.expects_done(Position.FIRST)


# ---------------------------------------------------------------- nothing, or only a done


def test_no_audio_in_time_is_a_stall() -> None:
    context = Context()
    with pytest.raises(ProviderStalled):
        context.piece()
    assert context.now == pytest.approx(1000.0 + PATIENCE.first_audio)


def test_audio_that_stops_is_a_stall_where_dones_are_known() -> None:
    context = Context(taught())
    with pytest.raises(ProviderStalled):
        context.piece((0.1, "audio", "a"))


def test_a_done_without_audio_fails_soon_and_may_be_tried_again() -> None:
    context = Context()
    with pytest.raises(ProviderBroken) as caught:
        context.piece((0.1, "done", "a"))
    assert caught.value.retryable
    assert context.now == pytest.approx(1001.1)


def test_a_done_that_overtook_its_audio_does_no_harm() -> None:
    context = Context()
    assert context.piece((0.1, "done", "a"), *item("b", 0.5, 0.8)) > 0.8


def test_repeated_dones_of_an_item_count_once() -> None:
    context = Context(taught())
    context.piece(*item("a", 0.1, 0.3))
    ended = context.piece((0.05, "done", "a"), (0.06, "done", "a"), *item("b", 0.1, 0.5))
    assert ended == pytest.approx(0.5)
    assert not context.profile.several


def test_two_dones_without_names_make_it_careful() -> None:
    context = Context()
    context.piece(*item(None, 0.1, 0.3), (0.31, "done", None))
    assert context.profile.several


def test_an_item_without_audio_beside_one_with_audio_does_no_harm() -> None:
    context = Context()
    ended = context.piece(*item("a", 0.1, 0.4), (0.45, "done", "empty"))
    assert 0.45 < ended < 1.0


# ---------------------------------------------------------------- errors that may mean nothing


def test_after_a_doubtful_error_the_voice_may_go_on() -> None:
    context = Context(taught())
    context.watch.commit("x", context.now)
    context.watch.doubt()
    assert context.until_complete(*item("a", 0.1, 2.0)) == pytest.approx(2.0)


def test_after_a_doubtful_error_silence_is_not_borne_long() -> None:
    context = Context(taught())
    context.watch.commit("x", context.now)
    context.watch.doubt()
    with pytest.raises(ProviderStalled):
        context.until_complete((0.1, "audio", "a"))
    assert context.now < 1002.0


# ---------------------------------------------------------------- words, and a clock that jumps


def test_words_that_follow_their_done_are_waited_for_once_that_is_known() -> None:
    profile = taught()
    context = Context(profile)
    context.watch.commit("x", context.now, words=True)
    context.until_complete(*item("a", 0.1, 0.3))
    context.watch.words("a", context.now + 0.01)
    assert profile.words_late
    context.watch.commit("x", context.now, words=True)
    assert context.until_complete(*item("b", 0.1, 0.3), (0.35, "words", "b")) > 0.35
    assert context.piece(*item("c", 0.1, 0.3)) == pytest.approx(0.3)  # nobody wants its words


def test_who_stood_still_looks_once_more() -> None:
    context = Context()
    context.watch.commit("x", context.now)
    context.watch.audio("a", context.now + 0.1)
    context.watch.done("a", context.now + 0.2)
    late = context.now + 3.0
    assert not context.watch.look(late)
    assert context.watch.due == pytest.approx(late + GRACE)
    context.watch.audio("b", late + 0.01)
    assert not context.watch.look(late + GRACE)


def test_who_stood_still_and_finds_nothing_is_done_after_a_moment() -> None:
    context = Context()
    context.watch.commit("x", context.now)
    context.watch.audio("a", context.now + 0.1)
    context.watch.done("a", context.now + 0.2)
    assert not context.watch.look(context.now + 3.0)
    assert context.watch.look(context.now + 3.0 + GRACE)


def test_what_comes_before_the_first_commit_is_not_ours() -> None:
    context = Context()
    context.watch.audio("stale", context.now)
    context.watch.done("stale", context.now)
    assert context.watch.state is State.SILENT
    assert not context.profile.several


def test_two_commits_at_once_are_a_bug() -> None:
    context = Context()
    context.watch.commit("x", context.now)
    with pytest.raises(KeyError):
        context.watch.commit("y", context.now)


def test_when_a_turn_may_be_left_without_consequences() -> None:
    context = Context()
    assert context.watch.settled(context.now)
    context.watch.commit("x", context.now)
    assert not context.watch.settled(context.now + 1)
    context.watch.audio("a", context.now + 1)
    assert not context.watch.settled(context.now + 1.1)
    context.watch.done("a", context.now + 1.2)
    assert not context.watch.settled(context.now + 1.25)
    assert context.watch.settled(context.now + 3)


# ---------------------------------------------------------------- whole turns, every kind


def slow(name: str) -> list[Happening]:
    return [(0.3 + i * 0.3, "audio", name) for i in range(8)]


# One commit as a provider of each kind answers it; "#" in a name is the number of the commit.
KINDS: dict[str, list[Happening]] = {
    "commit": item("#a", 0.12, 0.6),
    "two": item("#a", 0.12, 0.4) + item("#b", 0.5, 0.9),
    "binary": item(None, 0.12, 0.6),
    "binary two": item(None, 0.12, 0.4) + item(None, 0.5, 0.9),
    "last of two": item("#a", 0.12, 0.4, done=False) + item("#b", 0.5, 0.9),
    "none": item("#a", 0.12, 0.6, done=False),
    "none, two": item("#a", 0.12, 0.4, done=False) + item("#b", 0.55, 0.9, done=False),
    "binary none": item(None, 0.12, 0.6, done=False),
    "slow": [*slow("#a"), (2.7, "done", "#a")],
    "slow none": slow("#a"),
    "one word": [(0.12, "audio", "#a"), (0.12, "done", "#a")],
    "one item a context": item("a", 0.12, 0.6),
}


def numbered(happenings: list[Happening], number: int) -> list[Happening]:
    return [(at, what, name and name.replace("#", str(number))) for at, what, name in happenings]


@pytest.mark.parametrize("kind", KINDS)
@given(speed=st.floats(0.5, 2.0))
def test_every_piece_ends_after_its_last_audio_and_before_the_next_commit(
    kind: str, speed: float
) -> None:
    profile = Profile()
    slower = [(at * speed, what, name) for at, what, name in KINDS[kind]]
    last = max(at for at, what, _ in slower if what == "audio")
    for turn in range(3):
        context = Context(profile)
        for number in range(5):
            happenings = numbered(slower, number)
            ended = context.piece(*happenings, text="Hello! How are you?")
            assert last - 1e-5 <= ended < last + 2.5, (turn, number)
            assert not [what for _, what, _ in context.left if what == "audio"]
        context.rest()


DELAYS = st.floats(0.0, 2.0)
ANYTHING = st.lists(
    st.tuples(
        DELAYS, st.sampled_from(["audio", "done", "words"]), st.sampled_from(["a", "b", None])
    ),
    max_size=20,
)


@given(st.lists(ANYTHING, min_size=1, max_size=4), st.booleans())
def test_whatever_comes_a_piece_ends_or_fails_in_time(
    pieces: list[list[Happening]], known: bool
) -> None:
    context = Context(taught() if known else Profile())
    for delays in pieces:
        at, happenings = 0.0, []
        for delay, what, name in delays:
            at += delay
            happenings.append((at, what, name))
        began = context.now
        try:
            context.piece(*happenings)
        except (ProviderBroken, ProviderStalled):
            break
        finally:
            assert context.now - began <= at + PATIENCE.first_audio + GRACE
