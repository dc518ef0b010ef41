"""The parameters of a speech session, and what they do to text and sound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.together.http import Refused
from local.together.session import Session, cut, delta_bytes, sentences, wav_header


def test_the_defaults_are_those_of_the_documents() -> None:
    session = Session()
    assert (session.model, session.voice) == ("hexgrad/Kokoro-82M", "tara")
    assert (session.segment, session.max_partial_length) == ("sentence", 250)


def test_parameters_of_a_query_are_text_and_older_names_are_known() -> None:
    session = Session().changed({"model_id": "cartesia/sonic-2", "speed": "1.5", "unknown": "x"})
    assert (session.model, session.speed) == ("cartesia/sonic-2", 1.5)
    assert session.changed({"sample_rate": 16_000}).rate == 16_000
    assert Session().changed({"sample_rate": 16_000}).rate == 24_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("speed", "fast"),
        ("speed", 0),
        ("speed", "nan"),
        ("voice", ""),
        ("voice", 3),
        ("segment", "word"),
        ("response_format", "mp3"),
        ("extra_params", "[1]"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(Refused) as refused:
        Session().changed({name: value})
    assert refused.value.error["param"] == name


@pytest.mark.parametrize(
    ("buffer", "spoken", "rest"),
    [
        ("One. Two", ["One. "], "Two"),
        ("Pi is 3.14", [], "Pi is 3.14"),  # no sentence ends before white space
        ("One.", [], "One."),
        ('He said "no." And', ['He said "no." '], "And"),
        ("一。二", ["一。"], "二"),
        ("word " * 60, ["word " * 50], "word " * 10),
        ("   ", [], "   "),
    ],
)
def test_sentences_are_cut_off_when_they_are_over(
    buffer: str, spoken: list[str], rest: str
) -> None:
    parts, left = cut(Session(), buffer)
    assert ([text for text, _ in parts], left) == (spoken, rest)
    assert "".join(sentences(buffer)) == buffer


def test_never_waits_and_immediate_does_not() -> None:
    assert cut(Session(segment="never"), "One. Two. ") == ([], "One. Two. ")
    assert cut(Session(segment="immediate"), "One") == ([("One", "immediate")], "")


def test_pronunciations_replace_whole_words() -> None:
    session = Session(extra_params={"pronunciation_dict": ["omg/oh my god", "C++/see plus"]})
    assert session.pronounced("OMG, omgs in C++.") == "oh my god, omgs in see plus."


def test_deltas_and_headers() -> None:
    assert delta_bytes(Session(), 100, odd=False) == 4800
    assert delta_bytes(Session(), 100, odd=True) == 4799
    assert len(wav_header(24_000)) == 44


@given(
    st.text(st.sampled_from("ab .!?\n。…\"') ")),
    st.sampled_from(["sentence", "immediate", "never"]),
    st.integers(1, 30),
)
def test_what_is_cut_off_and_what_is_left_are_the_buffer(
    buffer: str, segment: str, limit: int
) -> None:
    spoken, rest = cut(Session(segment=segment, max_partial_length=limit), buffer)
    assert "".join(text for text, _ in spoken) + rest == buffer
    assert all(text for text, _ in spoken)
