"""A value changed by compare-and-set: read again after each race that was lost, not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Conflict, NatsError, Superseded
from shared.nats.documents import AMEND_TRIES, Held, amend


class Document:
    """A list under revisions; `rivals` are what others append just before our next saves."""

    def __init__(self, *value: str, rivals: tuple[str, ...] = ()) -> None:
        self.value = list(value)
        self.revision = len(value)
        self.rivals = list(rivals)
        self.loads = self.saves = 0

    async def load(self) -> Held[list[str]]:
        self.loads += 1
        return Held(list(self.value), self.revision)

    async def save(self, value: list[str], revision: int) -> int:
        self.saves += 1
        if self.rivals:
            self._set([*self.value, self.rivals.pop(0)])
        if revision != self.revision:
            raise Conflict
        self._set(value)
        return self.revision

    def _set(self, value: list[str]) -> None:
        self.value = value
        self.revision += 1


def ours(value: list[str]) -> list[str]:
    return [*value, "ours"]


async def test_a_value_is_read_changed_and_saved() -> None:
    document = Document("a")

    assert await amend(document.load, ours, document.save) == Held(["a", "ours"], 2)
    assert document.value == ["a", "ours"]


async def test_what_is_held_need_not_be_read() -> None:
    document = Document("a")
    held = await document.load()
    for _ in range(3):
        held = await amend(document.load, ours, document.save, held)

    assert document.value == ["a", "ours", "ours", "ours"]
    assert document.loads == 1


async def test_a_change_that_changes_nothing_is_not_saved() -> None:
    document = Document("a")

    assert await amend(document.load, lambda value: value, document.save) == Held(["a"], 1)
    assert document.saves == 0


async def test_after_a_lost_race_the_change_is_made_to_what_the_other_wrote() -> None:
    document = Document("a", rivals=("theirs", "theirs too"))
    await amend(document.load, ours, document.save)

    assert document.value == ["a", "theirs", "theirs too", "ours"]
    assert (document.loads, document.saves) == (3, 3)


async def test_what_was_held_and_is_stale_is_read_again() -> None:
    document = Document("a")
    stale = await document.load()
    await amend(document.load, ours, document.save)

    assert await amend(document.load, ours, document.save, stale) == Held(["a", "ours", "ours"], 3)


async def test_the_change_may_find_after_a_lost_race_that_nothing_is_left_to_do() -> None:
    document = Document(rivals=("theirs",))

    def if_nobody_did(value: list[str]) -> list[str]:
        return value or ["ours"]

    assert await amend(document.load, if_nobody_did, document.save) == Held(["theirs"], 1)


async def test_the_change_may_refuse_after_a_lost_race() -> None:
    document = Document(rivals=("theirs",))

    def alone(value: list[str]) -> list[str]:
        if value:
            raise Superseded
        return ["ours"]

    with pytest.raises(Superseded):
        await amend(document.load, alone, document.save)
    assert document.value == ["theirs"]


async def test_who_loses_every_race_gives_up() -> None:
    document = Document(rivals=("theirs",) * 1_000)
    with pytest.raises(NatsError, match="could not be saved") as lost:
        await amend(document.load, ours, document.save)

    assert not isinstance(lost.value, Conflict)
    assert document.saves == AMEND_TRIES
    assert "ours" not in document.value


@given(rivals=st.integers(0, AMEND_TRIES - 1), held=st.booleans())
async def test_nobody_s_change_is_lost(rivals: int, held: bool) -> None:
    document = Document("a", rivals=("theirs",) * rivals)
    await amend(document.load, ours, document.save, await document.load() if held else None)

    assert document.value == ["a", *["theirs"] * rivals, "ours"]
