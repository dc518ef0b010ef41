"""What the provider takes for speech, in dollars per million characters submitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_Dollars: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]

# By the longest beginning of the model's name that matches.
_PER_MILLION = {
    "hexgrad/Kokoro-82M": 4.0,
    "canopylabs/orpheus-3b-0.1-ft": 15.0,
    "cartesia/sonic": 65.0,
}


@dataclass(frozen=True, slots=True)
class Prices:
    per_million: Mapping[str, float]

    @classmethod
    def default(cls) -> Prices:
        return cls(_PER_MILLION)

    @classmethod
    def read(cls, path: Path) -> Prices:
        """A JSON object of model to dollars. Raises OSError, ValueError."""
        return cls(msgspec.json.decode(path.read_bytes(), type=dict[str, _Dollars]))

    def of(self, model: str, characters: int) -> float | None:
        """Dollars; None for a model without a price."""
        names = [name for name in self.per_million if model.startswith(name)]
        if not names:
            return None
        return self.per_million[max(names, key=len)] * characters / 1_000_000
