"""The clock that the wiring gives to verbs, which have none of their own."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime

from shared.process.cancel import CancelToken


class SystemClock:
    """The machine's time; its pauses end with Cancelled when `token` is cancelled."""

    def __init__(self, token: CancelToken | None = None) -> None:
        self._token = token or CancelToken()

    def monotonic(self) -> float:
        return time.monotonic()

    def utc(self) -> str:
        """RFC 3339, milliseconds."""
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    async def pause(self, seconds: float) -> None:
        await self._token.guard(asyncio.sleep(seconds))

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311  jitter, not a secret
