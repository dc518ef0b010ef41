from __future__ import annotations

import pytest

from services.tts.job import Rules
from services.tts.ports import ConnectionLost, Unvoiced, VoiceParams
from services.tts.speaker import Next, Speaker
from shared.errors import (
    ProviderAuth,
    ProviderBroken,
    ProviderError,
    ProviderOverloaded,
    ProviderStalled,
)

FIRST, FALLBACK = "first/model", "second/model"
STALLED = ProviderStalled("quiet")


def speaker(
    *,
    fallback: tuple[str, str] | None = (FALLBACK, "tara"),
    max_tries: int = 3,
    recover_after: int = 2,
    model: str = FIRST,
) -> Speaker:
    rules = Rules(
        max_tries=max_tries,
        patience=15.0,
        max_executions=5,
        fallback=fallback,
        recover_after=recover_after,
        max_characters=50_000,
        code_blocks="skip",
        store_again=3.0,
        store_give_up=3600.0,
        store_refused=60.0,
    )
    return Speaker(VoiceParams(model=model, voice="v", speed=1.5), rules)


def heard(speaker: Speaker) -> tuple[str, str, float]:
    return speaker.params.model, speaker.params.voice, speaker.params.speed


def after(found: Speaker, error: ProviderError = STALLED, *, now: float = 0.0, **how: bool) -> Next:
    how = {"asked": True, "heard": False} | how
    return found.after(error, now=now, asked=how["asked"], heard=how["heard"])


def test_the_first_model_is_asked_as_often_as_the_rules_allow() -> None:
    found = speaker()
    assert [after(found) for _ in range(2)] == [Next.AGAIN, Next.AGAIN]
    assert heard(found) == (FIRST, "v", 1.5)


def test_then_the_fallback_says_it_with_a_voice_of_its_own() -> None:
    found = speaker(max_tries=1)
    assert after(found) is Next.FALLBACK
    assert heard(found) == (FALLBACK, "tara", 1.5)


def test_what_no_repeating_mends_goes_to_the_fallback_at_once() -> None:
    assert after(speaker(), ProviderAuth("refused")) is Next.FALLBACK


def test_after_the_fallback_there_is_nobody() -> None:
    found = speaker()
    tries = [after(found) for _ in range(6)]
    again = [Next.AGAIN, Next.AGAIN]
    assert tries == [*again, Next.FALLBACK, *again, Next.NOBODY]


@pytest.mark.parametrize(
    "without",
    [speaker(fallback=None, max_tries=1), speaker(model=FALLBACK, max_tries=1)],
)
def test_without_another_model_there_is_nobody(without: Speaker) -> None:
    assert after(without) is Next.NOBODY


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (ProviderBroken("ConnectionRefusedError"), False),
        (ProviderStalled("no session"), False),
        (ProviderOverloaded("503"), False),
        (ProviderOverloaded("503"), True),
        (ConnectionLost("the socket was closed"), True),
    ],
)
def test_a_provider_that_is_away_is_tried_for_as_long_as_anybody_waits(
    error: ProviderError, *, asked: bool
) -> None:
    found = speaker(fallback=None, max_tries=2)
    tries = [after(found, error, asked=asked, now=100.0 + now) for now in (0.0, 5.0, 14.9, 15.0)]
    assert tries == [Next.AGAIN, Next.AGAIN, Next.AGAIN, Next.NOBODY]


def test_each_piece_is_waited_for_anew() -> None:
    found = speaker(fallback=None, max_tries=1)
    away = ProviderOverloaded("503")
    assert after(found, away, now=0.0) is Next.AGAIN
    found.said()
    assert after(found, away, now=20.0) is Next.AGAIN


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        (Unvoiced("done"), False),
        (ProviderBroken("failed"), False),
        (STALLED, False),
        (ConnectionLost("cut"), True),
    ],
)
def test_a_provider_that_is_there_is_asked_so_often_and_no_more(
    error: ProviderError, *, heard: bool
) -> None:
    found = speaker(fallback=None, max_tries=2)
    assert [after(found, error, heard=heard) for _ in range(2)] == [Next.AGAIN, Next.NOBODY]


def test_while_there_is_another_model_nobody_waits_for_one_that_is_away() -> None:
    found = speaker(max_tries=2)
    away = ProviderOverloaded("503")
    assert [after(found, away) for _ in range(2)] == [Next.AGAIN, Next.FALLBACK]
    assert [after(found, away) for _ in range(9)] == [Next.AGAIN] * 9


def test_pauses_grow_to_two_seconds_and_are_as_long_as_was_asked_for() -> None:
    found, longest = speaker(fallback=None), []
    for _ in range(6):
        after(found, ProviderOverloaded("503"))
        longest.append(found.pause(STALLED, lambda _low, high: high))
    assert longest == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert found.pause(ProviderOverloaded("503", wait=3.0), lambda low, _high: low) == 3.0


def test_the_first_model_is_due_back_after_a_few_pieces_of_the_fallback() -> None:
    found = speaker(max_tries=1)
    found.said()
    after(found)
    assert not found.is_due_back
    found.said()
    assert not found.is_due_back
    found.said()
    assert found.is_due_back
    found.go_back()
    assert heard(found) == (FIRST, "v", 1.5)
    found.said()
    assert not found.is_due_back


def test_a_failure_of_the_fallback_does_not_put_the_way_back_off() -> None:
    found = speaker(max_tries=2)
    after(found)
    after(found)
    found.said()
    assert after(found) is Next.AGAIN
    found.said()
    assert found.is_due_back
