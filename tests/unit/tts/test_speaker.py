from __future__ import annotations

import pytest

from services.tts.job import Rules
from services.tts.ports import VoiceParams
from services.tts.speaker import Next, Speaker
from shared.errors import ProviderAuth, ProviderStalled

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
        max_executions=5,
        fallback=fallback,
        recover_after=recover_after,
        max_characters=50_000,
        code_blocks="skip",
        store_again=3.0,
        store_give_up=3600.0,
    )
    return Speaker(VoiceParams(model=model, voice="v", speed=1.5), rules)


def heard(speaker: Speaker) -> tuple[str, str, float]:
    return speaker.params.model, speaker.params.voice, speaker.params.speed


def test_the_first_model_is_asked_as_often_as_the_rules_allow() -> None:
    found = speaker()
    assert [found.after(STALLED, n) for n in (1, 2)] == [Next.AGAIN, Next.AGAIN]
    assert heard(found) == (FIRST, "v", 1.5)


def test_then_the_fallback_says_it_with_a_voice_of_its_own() -> None:
    found = speaker()
    assert found.after(STALLED, 3) is Next.FALLBACK
    assert heard(found) == (FALLBACK, "tara", 1.5)


def test_what_no_repeating_mends_goes_to_the_fallback_at_once() -> None:
    assert speaker().after(ProviderAuth("refused"), 1) is Next.FALLBACK


def test_after_the_fallback_there_is_nobody() -> None:
    found = speaker()
    found.after(STALLED, 3)
    assert [found.after(STALLED, n) for n in (1, 2, 3)] == [Next.AGAIN, Next.AGAIN, Next.NOBODY]


@pytest.mark.parametrize("without", [speaker(fallback=None), speaker(model=FALLBACK)])
def test_without_another_model_there_is_nobody(without: Speaker) -> None:
    assert without.after(STALLED, 3) is Next.NOBODY


def test_the_first_model_is_due_back_after_a_few_pieces_of_the_fallback() -> None:
    found = speaker()
    found.said()
    found.after(STALLED, 3)
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
    found = speaker()
    found.after(STALLED, 3)
    found.said()
    found.after(STALLED, 1)
    found.said()
    assert found.is_due_back
