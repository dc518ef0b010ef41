"""Noun: what a turn has used of the models, over all its tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contract import Usage

if TYPE_CHECKING:
    from collections.abc import Callable


class Spent:
    """Tokens and dollars; what the provider did not tell is not known, and is not guessed.

    `price`: model, tokens given and made -> dollars, None for a model without a price.
    """

    def __init__(self, price: Callable[[str, int, int], float | None]) -> None:
        self._price = price
        self._tries: list[tuple[str, Usage]] = []  # of those that told something

    def begin(self, model: str) -> None:
        """Another try, of this model."""
        self._tries.append((model, Usage(None, None)))

    def told(self, usage: Usage) -> None:
        """Of the try under way: what is told last counts for all of it."""
        self._tries[-1] = (self._tries[-1][0], usage)

    @property
    def told_last(self) -> tuple[int | None, int | None]:
        """Tokens given and made, of the try under way."""
        usage = self._tries[-1][1]
        return usage.prompt_tokens, usage.completion_tokens

    @property
    def usage(self) -> Usage:
        return Usage(
            _sum([usage.prompt_tokens for _, usage in self._tries]),
            _sum([usage.completion_tokens for _, usage in self._tries]),
        )

    @property
    def cost(self) -> float | None:
        """Of what was told and has a price; None where that is nothing."""
        costs = [
            self._price(model, usage.prompt_tokens or 0, usage.completion_tokens or 0)
            for model, usage in self._tries
            if usage.prompt_tokens or usage.completion_tokens
        ]
        known = [cost for cost in costs if cost is not None]
        return round(sum(known), 10) if known else None


def _sum(counts: list[int | None]) -> int | None:
    told = [count for count in counts if count is not None]
    return sum(told) if told else None
