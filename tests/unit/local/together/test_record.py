"""The record of the emulated provider."""

from __future__ import annotations

from local.together.record import ChatCall, Record


def call(record: Record, text: str) -> ChatCall:
    one = ChatCall(
        id=record.number(),
        at=0.0,
        has_key=True,
        key_in_url=False,
        params={},
        messages=[{"role": "user", "content": text}],
    )
    record.chats.append(one)
    return one


def test_entries_are_found_by_their_text() -> None:
    record = Record()
    call(record, "one")
    call(record, "two")
    assert len(record.as_json()["chats"]) == 2
    assert [c["id"] for c in record.as_json("two")["chats"]] == [2]


def test_it_keeps_a_bounded_number() -> None:
    record = Record()
    for number in range(20_500):
        call(record, str(number))
    assert len(record.chats) == 20_000
    assert record.chats[-1].id == 20_500


def test_clearing_forgets_all_but_what_is_open() -> None:
    record = Record()
    call(record, "one")
    record.totals.chats = 1
    record.totals.open_sockets = 3
    record.clear()
    assert not record.chats
    assert record.totals.chats == 0
    assert record.totals.open_sockets == record.totals.peak_sockets == 3
    assert record.number() == 2
