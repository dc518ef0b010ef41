"""Ports of this machine that nobody listens on."""

from __future__ import annotations

import random
import socket

_HOST = "127.0.0.1"
# Below those that outgoing connections get: a server that is away for a while finds its own again.
_LOWEST, _HIGHEST = 10_000, 21_999
_TRIES = 200
# Servers with gRPC listen there beside each port of theirs.
GRPC_OFFSET = 10_000


def is_free(port: int) -> bool:
    """Whether a server could listen there at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port nobody listens on at this moment; it may be taken a moment later."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ports, each with a free one `GRPC_OFFSET` above it.

    Raises: OSError, when there are not so many.
    """
    found: set[int] = set()
    for port in random.sample(range(_LOWEST, _HIGHEST), _TRIES + count):
        if is_free(port) and is_free(port + GRPC_OFFSET):
            found.add(port)
        if len(found) == count:
            return list(found)
    raise OSError(f"fewer than {count} ports between {_LOWEST} and {_HIGHEST} are free")


def preferred(port: int) -> int:
    """This port when nobody has it, else a free one."""
    return port if is_free(port) else free_port()
