"""How long to wait before something is tried again: bounded, scattered, as the other side asks."""

from __future__ import annotations

import contextlib
import email.utils
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

MAX_ASKED_SECONDS: Final = 30.0  # a longer pause than this is a refusal in other words


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from `first` to `longest`, in seconds."""

    first: float
    longest: float

    def ceiling(self, failures: int) -> float:
        """The longest pause after so many failures in a row: 1, 2 …"""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 64))

    def pauses(self) -> Iterator[float]:
        """Without end, and not scattered: for what nobody else does at the same time."""
        failures = 0
        while True:
            failures += 1
            yield self.ceiling(failures)

    def scattered(
        self, failures: int, asked: float | None, *, uniform: Callable[[float, float], float]
    ) -> float:
        """Seconds to wait after so many failures; `asked` is what the other side wants us to wait.

        Full jitter scatters replicas that were refused together; what was asked for is the least.
        """
        if asked is not None:
            return asked + uniform(0, self.first)
        return uniform(0, self.ceiling(failures))


PROVIDER: Final = Backoff(first=0.25, longest=2.0)
NATS: Final = Backoff(first=0.05, longest=1.0)  # a server that restarts is back within seconds
LOOKS: Final = Backoff(first=0.05, longest=0.25)  # at what another process is about to do


class Clock(Protocol):
    """As much of a clock as is needed to wait."""

    def monotonic(self) -> float: ...

    async def pause(self, seconds: float) -> None: ...


async def wait_until(so: Callable[[], Awaitable[bool]], seconds: float, *, clock: Clock) -> bool:
    """Looks again and again; whether it came to be so within the time."""
    until = clock.monotonic() + seconds
    pauses = LOOKS.pauses()
    while not await so():
        if clock.monotonic() > until:
            return False
        await clock.pause(next(pauses))
    return True


def worth_waiting(asked: float | None, left: float) -> bool:
    """False when the pause asked for would eat what is left of the turn."""
    return asked is None or asked <= min(MAX_ASKED_SECONDS, left)


def asked_pause(headers: Mapping[str, str], *, now: float) -> float | None:
    """The seconds that an HTTP answer asks us to wait, if it does; `now` is Unix time."""
    for name in ("retry-after", "x-ratelimit-reset"):
        value = headers.get(name, "")
        with contextlib.suppress(ValueError):
            return max(0.0, float(value))
        with contextlib.suppress(ValueError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    return None
