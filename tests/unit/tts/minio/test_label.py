from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.minio.label import audio_key, captions_key, metadata
from services.tts.ports import Label
from shared.contract import AudioFormat

LABEL = Label(
    conversation_id="c1",
    turn_id="t1",
    attempt=2,
    model="some/model",
    voice="af_heart",
    text="Grüße, Welt",
    format=AudioFormat.OPUS,
)


def test_the_captions_lie_beside_the_audio_of_their_attempt() -> None:
    assert (audio_key(LABEL), captions_key(LABEL)) == ("c1/t1/2.opus", "c1/t1/2.vtt")


def test_an_object_tells_whose_it_is_and_what_is_said_in_it() -> None:
    assert metadata(LABEL, 29_616) == {
        "x-amz-meta-conversation": "c1",
        "x-amz-meta-turn": "t1",
        "x-amz-meta-model": "some/model",
        "x-amz-meta-voice": "af_heart",
        "x-amz-meta-sha256": hashlib.sha256("Grüße, Welt".encode()).hexdigest(),
        "x-amz-meta-duration-ms": "1234",
        "x-amz-meta-samples": "29616",
    }


@pytest.mark.parametrize(
    ("voice", "told"),
    [(" Zoë \r\n x-evil:  1 ", "Zo_ __ x-evil: 1"), ("\0", "_"), ("女", "_"), ("", "")],
)
def test_what_no_header_may_hold_is_told_in_ascii(voice: str, told: str) -> None:
    assert metadata(replace(LABEL, voice=voice), 0)["x-amz-meta-voice"] == told


@given(st.text(st.characters(exclude_categories=())), st.text())
def test_whatever_it_is_called_it_makes_a_header(text: str, voice: str) -> None:
    for value in metadata(replace(LABEL, text=text, voice=voice), 0).values():
        assert value == " ".join(value.split())
        assert value.isascii()
        assert value == "" or value.isprintable()
