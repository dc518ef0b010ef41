"""Tokens and dollars of a turn, over all its tries."""

from __future__ import annotations

from services.chat.spent import Spent
from shared.contract import Usage


def price(model: str, given: int, made: int) -> float | None:
    return None if model == "free" else given * 1.0 + made * 10.0


def spent(*tries: tuple[str, list[Usage]]) -> Spent:
    found = Spent(price)
    for model, told in tries:
        found.begin(model)
        for usage in told:
            found.told(usage)
    return found


def test_who_tried_nothing_has_told_nothing() -> None:
    assert spent().usage == Usage(None, None)
    assert spent().cost is None


def test_tries_are_added() -> None:
    found = spent(("a", [Usage(5, 2)]), ("a", []), ("a", [Usage(7, 3)]))

    assert found.usage == Usage(12, 5)
    assert found.cost == 12 + 50


def test_within_a_try_the_last_one_told_counts() -> None:
    assert spent(("a", [Usage(5, 1), Usage(5, 2)])).usage == Usage(5, 2)


def test_what_is_told_in_part_is_known_in_part() -> None:
    found = spent(("a", [Usage(5, None)]), ("a", [Usage(7, 3)]))

    assert found.usage == Usage(12, 3)
    assert found.cost == 12 + 30


def test_what_has_no_price_costs_what_is_known_of_the_rest() -> None:
    assert spent(("free", [Usage(5, 2)])).cost is None
    assert spent(("free", [Usage(5, 2)]), ("a", [Usage(1, 1)])).cost == 11
