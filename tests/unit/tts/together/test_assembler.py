"""Items of audio and words in, samples and placed words out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.tts.audio import pcm
from services.tts.ports import SpokenWord
from services.tts.together.assembler import Assembler
from services.tts.together.protocol import Words

SECOND = b"\1\2" * pcm.SAMPLE_RATE


def one_piece() -> Assembler:
    assembler = Assembler()
    assembler.next_piece()
    return assembler


def words(item: str | None, *starts: float) -> Words:
    return Words(None, item, [f"w{s:g}" for s in starts], list(starts), [s + 0.2 for s in starts])


def starts(found: list[SpokenWord] | None) -> list[float]:
    assert found is not None
    return [round(word.start, 3) for word in found]


def test_each_item_has_its_own_odd_byte_and_its_own_header() -> None:
    assembler = one_piece()
    header = pcm.wav_header(100)
    assert assembler.audio("a", header[:20], begins=True) == b""
    assert assembler.audio("a", header[20:] + b"123", begins=True) == b"12"
    assert assembler.audio("b", header + b"abc", begins=True) == b"ab"
    assert assembler.audio("a", b"4", begins=False) == b"34"
    assert assembler.audio("b", b"d", begins=False) == b"cd"
    assert assembler.heard == 8


def test_what_looked_like_a_header_is_heard_when_its_item_ends() -> None:
    assembler = one_piece()
    assert assembler.audio("a", b"RI", begins=True) == b""
    assert assembler.done("a") == b"RI"
    assert assembler.done("a") == b""
    assert assembler.done("unknown") == b""


def test_audio_without_names_has_a_header_for_each_item() -> None:
    assembler = one_piece()
    header = pcm.wav_header(100)
    assert assembler.audio(None, header + b"12", begins=True) == b"12"
    assembler.done("tts_1")
    assert assembler.audio(None, header + b"34", begins=True) == b"34"
    # No done told that a new item begins, but its header does.
    assert assembler.audio(None, header + b"56", begins=False) == b"56"


def test_a_name_that_comes_again_with_the_next_piece_begins_anew() -> None:
    assembler = one_piece()
    header = pcm.wav_header(100)
    assert assembler.audio("only", header + b"12", begins=True) == b"12"
    assembler.next_piece()
    assert assembler.heard == 0
    assert assembler.audio("only", header + b"34", begins=True) == b"34"
    assert starts(assembler.words(words("only", 0.5))) == [0.5]


def test_words_of_the_first_item_are_where_they_say() -> None:
    assembler = one_piece()
    assembler.audio("a", SECOND, begins=True)
    assert assembler.words(Words(None, "a", ["Hi"], [0.1], [0.3])) == [SpokenWord("Hi", 0.1, 0.3)]


def test_words_of_a_second_item_come_after_the_first() -> None:
    assembler = one_piece()
    assembler.audio("a", SECOND * 2, begins=True)
    assembler.audio("b", SECOND, begins=True)
    assert starts(assembler.words(words("b", 0.0, 0.5))) == [2.0, 2.5]


def test_words_that_count_from_the_start_of_the_context_are_recognised() -> None:
    assembler = one_piece()
    assembler.audio("a", SECOND * 2, begins=True)
    assembler.next_piece()
    assembler.audio("b", SECOND, begins=True)
    assert starts(assembler.words(words("b", 2.1, 2.5))) == [0.1, 0.5]
    assembler.audio("c", SECOND * 3, begins=True)
    assert starts(assembler.words(words("c", 3.0, 5.5))) == [1.0, 3.5]


def test_later_words_of_an_item_do_not_change_what_its_first_ones_told() -> None:
    assembler = one_piece()
    assembler.audio("a", SECOND * 2, begins=True)
    assembler.audio("b", SECOND * 4, begins=True)
    assert starts(assembler.words(words("b", 0.0))) == [2.0]
    assert starts(assembler.words(words("b", 2.5))) == [4.5]


def test_words_may_come_before_their_audio() -> None:
    assembler = one_piece()
    assembler.audio("a", SECOND, begins=True)
    assert starts(assembler.words(words("b", 0.0))) == [1.0]
    assert assembler.audio("b", SECOND, begins=True) == SECOND


def test_words_of_an_earlier_piece_have_no_place_in_this_one() -> None:
    assembler = one_piece()
    assembler.audio("a", SECOND, begins=True)
    assembler.next_piece()
    assert assembler.words(words("a", 0.0, 0.5)) is None


def test_words_without_an_item_belong_to_the_audio_without_one() -> None:
    assembler = one_piece()
    assembler.audio(None, SECOND, begins=True)
    assert starts(assembler.words(words(None, 0.25))) == [0.25]
    assert starts(assembler.words(words("tts_1", 0.5))) == [0.5]


def test_lists_of_unequal_length_give_what_is_whole() -> None:
    assembler = one_piece()
    assembler.audio("a", SECOND, begins=True)
    whole = [SpokenWord("x", 0.0, 0.1)]
    assert assembler.words(Words(None, "a", ["x", "y"], [0.0], [0.1, 0.2])) == whole
    assert assembler.words(Words(None, "a", [], [], [])) == []


@given(st.lists(st.binary(max_size=60), max_size=20), st.booleans(), st.booleans())
def test_however_audio_is_cut_its_whole_samples_are_heard(
    cuts: list[bytes], header: bool, beside: bool
) -> None:
    samples = b"\0\0" + b"".join(cuts)  # no header of its own
    whole = (pcm.wav_header(100) if header else b"") + samples
    assembler, heard, at = one_piece(), b"", 0
    for cut in [*cuts, whole]:
        part, at = whole[at : at + len(cut)], at + len(cut)
        heard += assembler.audio("a", part, begins=at == len(part))
        if beside:  # another item, with a byte of its own that waits for its second half
            assembler.audio("b", b"x", begins=False)
    heard += assembler.done("a")
    assert heard == samples[: len(samples) // 2 * 2]
