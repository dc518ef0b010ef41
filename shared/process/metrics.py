"""What both services count; what one of them alone counts stands in its own `process/metrics.py`.

Labels hold no ids: a series for each conversation would be too many. docs/operations.md says what
each means. On a hot path nothing is counted but integers, which are read when somebody asks.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram

from shared.contract import Code
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 40, 90, 180, 600)
FAILED: Final = "failed"

TURNS = Counter("parley_turns", "Turns, or voices, ended", ["service", "outcome", "code"])
TURNS_UNDER_WAY = Gauge("parley_turns_under_way", "Turns in hand now", ["service"])
WAITING = Gauge("parley_requests_waiting", "Requests held that wait for their turn", ["service"])
QUEUE_WAIT = Histogram(
    "parley_queue_wait_seconds", "From the stream to a worker", ["service"], buckets=SECONDS
)
TURN_SECONDS = Histogram("parley_turn_seconds", "Whole turns", ["service"], buckets=SECONDS)
COST = Counter("parley_cost_usd", "Dollars, by the table of prices", ["service"])
ATTEMPTS = Counter("parley_attempts", "Attempts begun", ["service"])
PROVIDER_RETRIES = Counter(
    "parley_provider_retries", "Requests to the provider made again", ["service", "code"]
)
REDELIVERIES = Counter("parley_redeliveries", "Messages that came again", ["service"])
HANDED_BACK = Counter(
    "parley_handed_back", "Messages handed back to their queue", ["service", "reason"]
)
FENCED_WRITES = Counter(
    "parley_fenced_writes", "Writes not done, since another worker holds the turn", ["service"]
)
DEAD_LETTERS = Counter("parley_dead_letters", "Messages buried", ["service", "code"])
REFUSED = Counter("parley_refused", "Messages that were not understood", ["subject", "code"])
NATS_CONNECTED = Gauge("parley_nats_connected", "Whether NATS is connected")
NATS_RECONNECTS = Counter("parley_nats_reconnects", "Connections to NATS made anew")
PUBLISH_WINDOW = Gauge("parley_publish_window", "Publishes that wait for their ack")
DRAINING = Gauge("parley_draining", "Whether the process finishes its work and takes none")
CLOCK = Gauge("parley_clock_seconds", "What the process takes for the time, since 1970")
CLOCK.set_function(time.time)  # when somebody asks
BUILD_INFO = Gauge("parley_build_info", "What runs", ["version", "python"])

# Why a worker gives a message back.
STOPPING, NO_ROOM, NO_NATS, BROKEN, NO_STORE = "stopping", "room", "nats", "failed", "store"
HAND_BACKS: Final = (STOPPING, NO_ROOM, NO_NATS, BROKEN)


def begin(service: str, *, outcomes: Iterable[str], reasons: Iterable[str] = HAND_BACKS) -> None:
    """Series that are rare are there from the start: a rate does not see the first of a series."""
    BUILD_INFO.labels(VERSION, platform.python_version()).set(1)
    for metric in (ATTEMPTS, COST, REDELIVERIES, FENCED_WRITES):
        metric.labels(service)
    for outcome in outcomes:
        TURNS.labels(service, outcome, "")
    for code in Code:
        TURNS.labels(service, FAILED, code.value)
        DEAD_LETTERS.labels(service, code.value)
        if code.value.startswith("provider_"):
            PROVIDER_RETRIES.labels(service, code.value)
    for reason in reasons:
        HANDED_BACK.labels(service, reason)
