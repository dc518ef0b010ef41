from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.tts.prices import Prices

if TYPE_CHECKING:
    from pathlib import Path


def test_a_model_costs_by_the_characters() -> None:
    assert Prices({"some/model": 4.0}).of("some/model", 500_000) == pytest.approx(2.0)


def test_the_longest_name_that_matches_counts() -> None:
    prices = Prices({"cartesia/sonic": 65.0, "cartesia/sonic-2": 50.0})
    assert prices.of("cartesia/sonic-2-turbo", 1_000_000) == pytest.approx(50.0)
    assert prices.of("cartesia/sonic", 1_000_000) == pytest.approx(65.0)


def test_a_model_without_a_price_costs_nobody_knows_what() -> None:
    assert Prices.default().of("unheard/of", 1000) is None


def test_they_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"some/model": 2, "other/model": 1.5}')
    assert Prices.read(file) == Prices({"some/model": 2.0, "other/model": 1.5})


@pytest.mark.parametrize("text", ["", "[]", '{"m": "dear"}', '{"m": -1}', "\xff"])
def test_a_file_that_makes_no_sense_is_a_value_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"\w"):
        Prices.read(file)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"prices\.json"):
        Prices.read(tmp_path / "prices.json")
