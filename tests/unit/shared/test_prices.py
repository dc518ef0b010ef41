from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.prices import Prices, TokenPrice
from shared.process.settings import BadSetting, Env

if TYPE_CHECKING:
    from pathlib import Path


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


def test_they_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"some/model": 2, "other/model": {"prompt": 1.5, "completion": 3}}')
    assert Prices.read(file) == Prices({"some/model": 2.0, "other/model": TokenPrice(1.5, 3.0)})


@pytest.mark.parametrize(
    "text", ["", "[]", '{"m": "dear"}', '{"m": -1}', '{"m": {"prompt": 1}}', "\xff"]
)
def test_a_file_that_makes_no_sense_is_a_value_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"\w"):
        Prices.read(file)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"prices\.json"):
        Prices.read(tmp_path / "prices.json")


def test_the_setting_names_the_file_and_is_named_when_it_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"some/model": 2}')
    assert Prices.from_env(Env({"X_PRICES": str(file)}), "X_PRICES").of("some/model", 1) == 2e-6
    assert Prices.from_env(Env({}), "X_PRICES") == Prices.default()
    with pytest.raises(BadSetting, match=r"^X_PRICES: "):
        Prices.from_env(Env({"X_PRICES": str(tmp_path)}), "X_PRICES")
