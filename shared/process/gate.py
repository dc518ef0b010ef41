"""Lets tries through to an endpoint, few while nobody is there: a breaker that is waited for.

Nobody fails on hearsay: who has waited for as long as it may, tries itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import OrderedDict
from typing import Final

from shared.breaker import Breaker

MAX_GATES: Final = 64  # names come from requests; the one that was used last stays


class Gate:
    """Of one endpoint. Each try enters it, then tells what became of it."""

    def __init__(self, breaker: Breaker | None = None) -> None:
        self._breaker = breaker or Breaker(uniform=random.uniform)
        self._changed = asyncio.Event()

    async def enter(self, until: float) -> None:
        """Returns when a try may be made, at `until` (monotonic) at the latest."""
        while (seconds := self._breaker.wait(time.monotonic())) > 0:
            left = until - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, left)):
                    await self._changed.wait()

    def succeeded(self) -> None:
        """Somebody is there."""
        self._breaker.succeeded()
        self._tell()

    def failed(self) -> None:
        """Nobody is there."""
        self._breaker.failed(time.monotonic())
        self._tell()

    def left(self) -> None:
        """The try ended before it could tell."""
        self._breaker.left(time.monotonic())
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Gates:
    """One for each model of an endpoint: where one is away, the others need not be."""

    def __init__(self) -> None:
        self._gates: OrderedDict[str, Gate] = OrderedDict()

    def of(self, name: str) -> Gate:
        gate = self._gates.pop(name, None) or Gate()
        self._gates[name] = gate
        if len(self._gates) > MAX_GATES:
            self._gates.popitem(last=False)
        return gate
