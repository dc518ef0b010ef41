"""A store that does not do what it is asked: told once when that begins, once when it ends."""

from __future__ import annotations

import logging
import time
from typing import Final

log = logging.getLogger(__name__)

# A request now and then fails and is repeated: nobody has to know. A second failure in a row tells.
TOLD_FROM: Final = 2


class Outage:
    """From one request that works to the next one. `standing`: somebody has waited in vain."""

    def __init__(self) -> None:
        self.standing = False
        self._failures = 0
        self._since = 0.0

    @property
    def is_on(self) -> bool:
        """From where it is told."""
        return self._failures >= TOLD_FROM

    def failed(self, what: str, reason: str) -> None:
        """One more request came to nothing."""
        if self._failures == 0:
            self._since = time.monotonic()
        self._failures += 1
        if self._failures == TOLD_FROM:
            log.warning("store.away", extra={"what": what, "reason": reason})

    def gave_up(self, what: str, reason: str) -> None:
        """And nobody repeats it here."""
        if not self.standing and self._failures < TOLD_FROM:
            log.warning("store.away", extra={"what": what, "reason": reason})
            self._failures = TOLD_FROM
        self.standing = True

    def over(self) -> None:
        """A request has worked."""
        if self.is_on:
            seconds = round(time.monotonic() - self._since, 1)
            log.info("store.back", extra={"failures": self._failures, "seconds": seconds})
        self.standing, self._failures = False, 0
