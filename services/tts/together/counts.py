"""What happens on the provider's sockets that an operator counts, each under its own name."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable


class Happened(enum.StrEnum):
    """The values are those of the metric's label."""

    CONNECTED = "connected"
    CONNECT_FAILED = "connect_failed"
    LOST = "lost"  # a socket that broke, or that the provider closed
    DEAD = "dead"  # one that looked open and did not answer
    RETIRED = "retired"  # closed by us: old, not needed, or a piece failed on it
    MOVED = "moved"  # a turn went to another socket, before anything of its piece was heard
    RELEASED = "released"  # a turn gave its slot up between two pieces, for one that waited
    STALE_AUDIO = "stale_audio"  # of a turn that is over
    WORDS_LOST = "words_lost"  # came too late to be placed
    UNATTRIBUTED = "unattributed"  # an event that named nobody, and could be anybody's
    UNKNOWN_EVENT = "unknown_event"  # one that no reference names
    GARBLED_EVENT = "garbled_event"  # one that we know, in a form that we do not
    CRASHED = "crashed"  # a task that ended by a bug


Count: TypeAlias = "Callable[[Happened], None]"
