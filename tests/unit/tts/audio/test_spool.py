from __future__ import annotations

import pytest

from services.tts.audio import spool
from services.tts.audio.spool import Shelf, Spool


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


def test_a_long_one_lies_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 1000)
    kept = Spool()
    for n in range(100):
        kept.append(bytes([n]) * 100)
    kept.cut(2500)
    assert kept.samples == 2500
    assert kept.open().read() == b"".join(bytes([n]) * 100 for n in range(50))
    kept.close()


def test_a_shelf_gives_each_thing_back_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_IN_MEMORY", 100)
    shelf = Shelf()
    places = [shelf.put(bytes([n]) * n) for n in range(50)]
    assert [shelf.get(place) for place in reversed(places)] == [
        bytes([n]) * n for n in reversed(range(50))
    ]
    assert shelf.get(shelf.put(b"one more")) == b"one more"
    shelf.close()
