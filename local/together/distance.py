"""How far away the provider is: what a new connection costs before anything is said on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakSet

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local.together.provider import Provider


class Distance:
    """Lets the first request of each connection wait; it is counted from when that comes."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._known: WeakSet[object] = WeakSet()

    @property
    def late(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        @web.middleware
        async def late(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            connection = request.transport
            if connection is not None and connection not in self._known:
                self._known.add(connection)
                if self._provider.connect_ms and request.path.startswith("/v1/"):
                    await asyncio.sleep(self._provider.connect_ms / 1000)
            return await handler(request)

        return late
