"""What the provider takes: dollars per million characters spoken, or tokens read and written.

A table is replaced as a whole by JSON, a number for each model, or two where a model takes more
for what it writes than for what it reads:

    {"hexgrad/Kokoro-82M": 4, "some/model": {"prompt": 0.5, "completion": 1.5}}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_Dollars: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]


class TokenPrice(msgspec.Struct, frozen=True):
    """Of a model that takes more for what it writes than for what it reads."""

    prompt: _Dollars
    completion: _Dollars


# By the longest beginning of the model's name that matches. Prices change: see your account.
_PER_MILLION: dict[str, float | TokenPrice] = {
    # characters
    "hexgrad/Kokoro-82M": 4.0,
    "canopylabs/orpheus-3b-0.1-ft": 15.0,
    "cartesia/sonic": 65.0,
    # tokens
    "meta-llama/Llama-3.3-70B-Instruct-Turbo": 0.88,
    "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo": 0.18,
    "meta-llama/Llama-4-Maverick": TokenPrice(0.27, 0.85),
    "meta-llama/Llama-4-Scout": TokenPrice(0.18, 0.59),
    "openai/gpt-oss-120b": TokenPrice(0.15, 0.60),
    "openai/gpt-oss-20b": TokenPrice(0.05, 0.20),
    "deepseek-ai/DeepSeek-V3": 1.25,
    "deepseek-ai/DeepSeek-R1": TokenPrice(3.0, 7.0),
}


@dataclass(frozen=True, slots=True)
class Prices:
    per_million: Mapping[str, float | TokenPrice]

    @classmethod
    def default(cls) -> Prices:
        return cls(_PER_MILLION)

    @classmethod
    def from_json(cls, table: bytes) -> Prices:
        """Raises ValueError."""
        return cls(msgspec.json.decode(table, type=dict[str, _Dollars | TokenPrice]))

    def of(self, model: str, given: int, made: int = 0) -> float | None:
        """Dollars for characters given, or tokens given and made; None for an unknown model."""
        names = [name for name in self.per_million if model.startswith(name)]
        if not names:
            return None
        price = self.per_million[max(names, key=len)]
        if not isinstance(price, TokenPrice):
            price = TokenPrice(price, price)
        return round((price.prompt * given + price.completion * made) / 1_000_000, 10)
