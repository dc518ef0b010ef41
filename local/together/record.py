"""What the emulated provider was asked and what it did. Never holds a key.

Times are seconds of this machine's monotonic clock, the same in every process on Linux.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

_ENTRIES = 200_000
_CHAT_ENTRIES = 20_000  # these hold whole histories


@dataclass(slots=True, kw_only=True)
class ChatCall:
    """One request for a completion."""

    id: int
    at: float
    has_key: bool
    key_in_url: bool
    params: dict[str, Any]  # all of the request but its messages
    messages: list[Any]
    status: int = 0
    first_token: float | None = None
    ended: float | None = None
    # finished, refused, cut, closed_by_client, unfinished, error; empty while it runs
    how: str = ""
    text: str = ""  # of the answer, as far as it was sent
    tokens: int = 0
    faults: list[str] = field(default_factory=list)
    # When each chunk was handed to the socket, and its characters; where the script wants it.
    wire: list[tuple[float, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class SocketCall:
    """One handshake, and the connection that came of it."""

    id: int
    at: float
    has_key: bool
    key_in_url: bool
    query: dict[str, str]  # without the key
    status: int = 0
    ended: float | None = None
    # client, idle, lifetime, refused, aborted, closed, dead, failed, stopped; empty while open
    how: str = ""
    close_code: int | None = None
    pings: int = 0
    contexts: int = 0  # opened in all
    peak_contexts: int = 0
    characters_submitted: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Commit:
    """One text to be spoken, by a commit or because the server cut it off itself."""

    id: int
    socket: int
    context: str
    at: float
    because: str  # commit, sentence, partial, immediate
    text: str  # as submitted
    spoken: str  # after the pronunciation dictionary
    model: str
    voice: str
    language: str
    speed: float
    first_audio: float | None = None
    ended: float | None = None
    samples: int = 0  # sent
    dones: int = 0
    # complete, cancelled, stalled, failed, lost (with its socket); empty while it runs
    how: str = ""
    faults: list[str] = field(default_factory=list)
    # When each delta was handed to the socket, and its bytes; where the script wants it.
    wire: list[tuple[float, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Context:
    """One context of one socket."""

    socket: int
    context: str
    at: float
    ended: float | None = None
    how: str = ""  # cancelled, or lost with its socket; empty while it lives
    characters_submitted: int = 0
    characters_committed: int = 0
    samples: int = 0


@dataclass(slots=True, kw_only=True)
class Totals:
    """Counted from the start or the last clearing; not bounded by what is kept."""

    chats: int = 0
    tokens: int = 0
    sockets: int = 0
    commits: int = 0
    cancels: int = 0
    contexts: int = 0
    refused_contexts: int = 0
    peak_contexts: int = 0  # of one socket
    open_sockets: int = 0
    peak_sockets: int = 0
    characters_submitted: int = 0
    characters_committed: int = 0
    seconds_of_audio: float = 0.0
    pings: int = 0
    unknown_messages: int = 0
    keys_in_urls: int = 0
    requests_without_key: int = 0


class Record:
    """Keeps the last entries of each kind."""

    def __init__(self) -> None:
        self.chats: deque[ChatCall] = deque(maxlen=_CHAT_ENTRIES)
        self.sockets: deque[SocketCall] = deque(maxlen=_ENTRIES)
        self.commits: deque[Commit] = deque(maxlen=_ENTRIES)
        self.contexts: deque[Context] = deque(maxlen=_ENTRIES)
        self.cancels: deque[dict[str, Any]] = deque(maxlen=_ENTRIES)
        self.totals = Totals()
        self._next = 0

    def number(self) -> int:
        """1, 2, 3 …, never again the same, not even after `clear`."""
        self._next += 1
        return self._next

    def clear(self) -> None:
        """Forgets all but what is open at this moment."""
        for entries in (self.chats, self.sockets, self.commits, self.contexts, self.cancels):
            entries.clear()
        still = self.totals.open_sockets
        self.totals = Totals(open_sockets=still, peak_sockets=still)

    def as_json(self, match: str = "") -> dict[str, Any]:
        """Everything; with `match` only the chats and commits in whose texts it occurs."""
        return {
            "clock": {"monotonic": time.monotonic(), "unix": time.time()},
            "totals": asdict(self.totals),
            "chats": [asdict(c) for c in list(self.chats) if not match or match in str(c.messages)],
            "sockets": [asdict(s) for s in list(self.sockets)],
            "commits": [asdict(c) for c in list(self.commits) if match in c.text],
            "contexts": [asdict(c) for c in list(self.contexts)],
            "cancels": list(self.cancels),
        }
