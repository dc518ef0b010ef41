"""Looks again and again, until something is so or time is up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOOK_SECONDS: Final = 0.05


async def wait_until(so: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Whether it came to be so within the time."""
    until = time.monotonic() + seconds
    while not await so():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(LOOK_SECONDS)
    return True
