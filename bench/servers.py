"""The ways in which NATS is run, from the fastest to the one that loses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from local.nats_cluster import NatsCluster
from local.nats_server import NatsServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ALWAYS: Final = "sync_interval: always"


def setups(folder: Path) -> Iterator[tuple[str, NatsServer | NatsCluster, str]]:
    """What it is called, the server, and the replicas that its streams have."""
    yield "one server", NatsServer(websocket=False), "1"
    yield "one, always on disk", NatsServer(websocket=False, jetstream=_ALWAYS), "1"
    yield "three, always on disk", NatsCluster(folder, jetstream=_ALWAYS), "3"
