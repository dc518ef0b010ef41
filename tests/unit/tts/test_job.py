from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.tts.job import Defaults, Job, seconds_between
from services.tts.ports import VoiceParams
from shared.contract import Alignment, AudioFormat, Speech, SpeechRequest

TAKEN_AT = datetime(2026, 1, 2, 3, 4, 5, 60_000, UTC)
DEFAULTS = Defaults(
    model="some/model",
    voice="af_heart",
    language="en",
    speed=1.25,
    alignment=Alignment.WORD,
    pronunciations={"NATS": "nats", "SQL": "sequel"},
    max_partial_length=250,
    format=AudioFormat.OPUS,
)


def job(speech: Speech) -> Job:
    request = SpeechRequest("c", "t", speech)
    return DEFAULTS.job(request, execution="w1", sequence=7, taken_at=TAKEN_AT)


def test_what_a_request_leaves_open_is_spoken_as_the_service_does() -> None:
    assert job(Speech()) == Job(
        conversation_id="c",
        turn_id="t",
        execution="w1",
        sequence=7,
        taken_at=TAKEN_AT,
        params=VoiceParams(
            model="some/model",
            voice="af_heart",
            language="en",
            speed=1.25,
            word_timestamps=True,
            pronunciations=(("NATS", "nats"), ("SQL", "sequel")),
            max_partial_length=250,
        ),
        format=AudioFormat.OPUS,
    )


def test_what_a_request_says_counts() -> None:
    asked = job(
        Speech(
            model="other/model",
            voice="tara",
            language="fr",
            speed=0.5,
            alignment=Alignment.NONE,
            max_partial_length=90,
            format=AudioFormat.WAV,
        )
    )
    assert asked.params == VoiceParams(
        model="other/model",
        voice="tara",
        language="fr",
        speed=0.5,
        word_timestamps=False,
        pronunciations=(("NATS", "nats"), ("SQL", "sequel")),
        max_partial_length=90,
    )
    assert asked.format is AudioFormat.WAV


def test_a_request_s_pronunciations_are_added_to_the_service_s_and_go_before_them() -> None:
    asked = job(Speech(pronunciations={"SQL": "S Q L", "k8s": "kubernetes"}))
    assert dict(asked.params.pronunciations) == {
        "NATS": "nats",
        "SQL": "S Q L",
        "k8s": "kubernetes",
    }


def test_nothing_of_the_voice_is_older_than_its_request() -> None:
    assert job(Speech()).since == "2026-01-02T03:04:05.060000Z"


@pytest.mark.parametrize(
    ("now", "seconds"),
    [("2026-01-02T03:04:05.060Z", 0.0), ("2026-01-02T04:04:05.060Z", 3600.0)],
)
def test_times_have_seconds_between_them(now: str, seconds: float) -> None:
    assert seconds_between("2026-01-02T03:04:05.060000Z", now) == seconds


@pytest.mark.parametrize(
    ("model", "voice"),
    [
        ("hexgrad/Kokoro-82M", "af_heart"),
        ("canopylabs/orpheus-3b-0.1-ft", "tara"),
        ("cartesia/sonic-2", ""),
        ("some/model", "the-service-s"),
        (None, "the-service-s"),
    ],
)
def test_a_model_without_a_voice_is_spoken_with_its_own(model: str | None, voice: str) -> None:
    defaults = replace(DEFAULTS, voice="the-service-s")
    request = SpeechRequest("c", "t", Speech(model=model))
    asked = defaults.job(request, execution="w1", taken_at=TAKEN_AT, sequence=7)
    assert asked.params.voice == voice
