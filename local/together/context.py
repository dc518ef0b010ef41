"""One context of a speech socket: what is buffered, what is queued, what is being said."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from local.together.faults import Fault, FaultKind
    from local.together.record import Commit, Context
    from local.together.session import Session


@dataclass(slots=True)
class Item:
    """Audio under one item id."""

    text: str
    seconds: float
    header: int  # bytes in front of the samples
    frames: deque[bytes]  # what is not sent yet, as deltas
    id: str = ""
    sent: int = 0  # bytes

    @property
    def samples(self) -> int:
        return max(self.sent - self.header, 0) // 2


@dataclass(slots=True)
class Job:
    """A text on its way to being audio."""

    text: str
    session: Session
    commit: Commit
    faults: dict[FaultKind, Fault]
    ready_at: float  # no sound of it before this, on the loop's clock
    items: list[Item] = field(default_factory=list)
    item: Item | None = None  # the one under way

    def settle(self, how: str) -> None:
        """How it came out; the first word counts."""
        if not self.commit.how:
            self.commit.how, self.commit.ended = how, time.monotonic()


@dataclass(slots=True)
class SpeechContext:
    """Named by the client, or the default one of its socket."""

    name: str
    named: bool  # the client sent its id
    session: Session
    record: Context
    buffer: str = ""
    queue: deque[Job] = field(default_factory=deque)
    job: Job | None = None
    task: asyncio.Task[None] | None = None
    free_at: float = 0.0  # when the audio before is out, on the loop's clock
    seconds: float = 0.0  # of audio so far
    item: str = ""  # where a context is one item
    done_given: bool = False

    def end(self, how: str) -> None:
        """Nothing of it is spoken any more."""
        self.record.ended, self.record.how = time.monotonic(), how
        for job in [self.job, *self.queue] if self.job else self.queue:
            job.settle(how)
        self.queue.clear()
        if self.task is not None:
            self.task.cancel()
