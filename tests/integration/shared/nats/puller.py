"""A work queue Q for tests of the pull and of the lease, and a pull that keeps what comes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from shared.nats.lease import Delivery
from shared.nats.provision import Consumer, ensure
from shared.nats.pull import Pull
from tests.integration.harness import soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.nats.connection import Connection

LEASE = 0.45


def of_queue(**more: object) -> Consumer:
    """The consumer `w` of the queue Q."""
    config = {
        "durable_name": "w",
        "ack_policy": "explicit",
        "ack_wait": int(LEASE * 1e9),
        "max_deliver": -1,
        "filter_subject": "q.>",
    }
    return Consumer("Q", config | more)


PINNED = of_queue(
    priority_policy="pinned_client", priority_groups=["g"], priority_timeout=int(LEASE * 1e9)
)


async def queue(connection: Connection, consumer: Consumer | None = None) -> None:
    config = {"name": "Q", "subjects": ["q.>"], "retention": "workqueue"}
    await connection.api("STREAM.CREATE.Q", config)
    await ensure(connection, consumer or of_queue())


class Puller:
    """A pull that keeps what it was given."""

    def __init__(
        self,
        connection: Connection,
        consumer: Consumer | None = None,
        *,
        room: int = 10,
        bytes_room: int = 100 * 1024 * 1024,
        **seconds: float,
    ) -> None:
        self.taken: list[Delivery] = []
        self.pins = 0
        self.pull = Pull(
            connection,
            consumer or of_queue(),
            self.taken.append,
            room=lambda: room - len([d for d in self.taken if not d.settled]),
            bytes_room=lambda: bytes_room - sum(len(d.data) for d in self.taken if not d.settled),
            on_pinned=self._on_pinned,
            **seconds,
        )

    def _on_pinned(self) -> None:
        self.pins += 1

    @property
    def bodies(self) -> list[bytes]:
        return [d.data for d in self.taken]

    async def got(self, count: int, seconds: float = 60.0) -> list[Delivery]:
        await soon(lambda: len(self.taken) >= count, seconds)
        return self.taken


@contextlib.asynccontextmanager
async def pulling(
    connection: Connection,
    consumer: Consumer | None = None,
    *,
    room: int = 10,
    bytes_room: int = 100 * 1024 * 1024,
    **seconds: float,
) -> AsyncIterator[Puller]:
    puller = Puller(connection, consumer, room=room, bytes_room=bytes_room, **seconds)
    task = asyncio.create_task(puller.pull.run())
    try:
        yield puller
    finally:
        task.cancel()
        await puller.pull.drain()
