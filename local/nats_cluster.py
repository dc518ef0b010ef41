"""Three real nats-servers that are one: streams of three replicas outlive any one of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from local.nats_server import NatsServer
from local.ports import free_ports
from local.process import Started, start_all

SIZE: Final = 3
SYSTEM_LOGIN: Final = "system"  # user and password of who may move the cluster's own leader
_ACCOUNTS: Final = f"""
accounts {{
  PARLEY {{ jetstream: enabled, users: [{{ user: parley, password: parley }}] }}
  $SYS {{ users: [{{ user: {SYSTEM_LOGIN}, password: {SYSTEM_LOGIN} }}] }}
}}
no_auth_user: parley
"""


class NatsCluster(Started):
    """The servers find each other by routes on ports that are picked beforehand.

    `start` returns when each of them listens; a leader is elected within a second or two.
    `jetstream` are settings for that part of each, as with NatsServer.
    """

    def __init__(
        self, store_dir: str | Path, *, accounts: str = _ACCOUNTS, jetstream: str = ""
    ) -> None:
        ports = free_ports(SIZE)
        self.servers = [
            NatsServer(
                Path(store_dir) / f"n{number}",
                websocket=False,
                config=_member(number, ports, accounts),
                jetstream=jetstream,
            )
            for number in range(SIZE)
        ]

    @property
    def url(self) -> str:
        """Of all of them, with commas in between."""
        return ",".join(server.url for server in self.servers)

    async def start(self) -> None:
        await start_all(self.servers)

    async def close(self) -> None:
        for server in self.servers:
            server.thaw()
        await asyncio.gather(*(server.close() for server in self.servers))


def _member(number: int, ports: list[int], accounts: str) -> str:
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    return "\n".join(
        [
            f"server_name: n{number}",
            "cluster {",
            "  name: parley",
            "  host: 127.0.0.1",
            f"  port: {ports[number]}",
            f"  routes: [{routes}]",
            "}",
            accounts,
        ]
    )
