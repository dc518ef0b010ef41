from __future__ import annotations

from services.tts.audio.spool import ReplaySpool, Spool


def test_it_gives_back_what_was_appended() -> None:
    kept = Spool()
    kept.append(b"abcd")
    kept.append(b"ef")
    assert kept.samples == 3
    assert kept.open().read() == b"abcdef"
    assert kept.open().read() == b"abcdef"


def test_what_is_cut_off_is_replaced_by_what_comes_then() -> None:
    kept = Spool()
    kept.append(b"abcdef")
    kept.cut(1)
    assert kept.samples == 1
    kept.append(b"xy")
    assert kept.open().read() == b"abxy"


def test_a_cut_behind_the_end_cuts_nothing() -> None:
    kept = Spool()
    kept.append(b"ab")
    kept.cut(100)
    assert kept.samples == 1
    kept.append(b"cd")
    assert kept.open().read() == b"abcd"


def test_more_may_come_after_it_was_read() -> None:
    kept = Spool()
    kept.append(b"abcd")
    kept.open().read(2)
    kept.append(b"ef")
    assert kept.open().read() == b"abcdef"


def test_a_long_one_lies_on_disk() -> None:
    kept = Spool(max_in_memory=1000)
    for n in range(100):
        kept.append(bytes([n]) * 100)
    kept.cut(2500)
    assert kept.samples == 2500
    assert kept.open().read() == b"".join(bytes([n]) * 100 for n in range(50))
    kept.close()


def test_a_replay_is_read_back_in_any_order() -> None:
    kept = ReplaySpool(max_in_memory=100)
    numbers = [kept.put(bytes([n]) * n) for n in range(50)]
    assert [kept.get(number) for number in reversed(numbers)] == [
        bytes([n]) * n for n in reversed(range(50))
    ]
    assert kept.get(kept.put(b"one more")) == b"one more"
    kept.close()


def test_a_part_is_read_while_the_recording_goes_on() -> None:
    spool = Spool(max_in_memory=4)
    spool.append(b"aabbcc")
    assert spool.read(1, 2) == b"bbcc"
    spool.append(b"dd")
    assert spool.read(0, 4) == b"aabbccdd"
    spool.close()
