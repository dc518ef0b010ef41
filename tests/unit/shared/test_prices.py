"""What a turn costs."""

from __future__ import annotations

import pytest

from shared.prices import Prices, TokenPrice


def test_a_model_costs_by_the_characters() -> None:
    assert Prices({"some/model": 4.0}).of("some/model", 500_000) == pytest.approx(2.0)


def test_tokens_given_and_made_may_have_a_price_each() -> None:
    prices = Prices({"one": 2.0, "two": TokenPrice(1.0, 3.0)})
    assert prices.of("one", 100_000, 400_000) == pytest.approx(1.0)
    assert prices.of("two", 100_000, 400_000) == pytest.approx(1.3)


def test_the_default_models_have_a_price() -> None:
    prices = Prices.default()
    assert prices.of("hexgrad/Kokoro-82M", 250_000) == pytest.approx(1.0)
    assert prices.of("meta-llama/Llama-3.3-70B-Instruct-Turbo", 1, 1)


def test_the_longest_name_that_matches_counts() -> None:
    prices = Prices({"cartesia/sonic": 65.0, "cartesia/sonic-2": 50.0})
    assert prices.of("cartesia/sonic-2-turbo", 1_000_000) == pytest.approx(50.0)
    assert prices.of("cartesia/sonic", 1_000_000) == pytest.approx(65.0)


def test_a_model_without_a_price_costs_nobody_knows_what() -> None:
    assert Prices.default().of("unheard/of", 1000) is None


def test_a_table_is_replaced_as_a_whole() -> None:
    table = b'{"some/model": 2, "other/model": {"prompt": 1.5, "completion": 3}}'
    assert Prices.from_json(table) == Prices(
        {"some/model": 2.0, "other/model": TokenPrice(1.5, 3.0)}
    )


@pytest.mark.parametrize(
    "table", [b"", b"[]", b'{"m": "dear"}', b'{"m": -1}', b'{"m": {"prompt": 1}}', b"\xff"]
)
def test_a_table_that_makes_no_sense_is_a_value_error(table: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Prices.from_json(table)
