"""A service as a process, beside others on the same machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from local.process import NotStarted
from local.service import Service
from local.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path


async def test_who_answers_on_the_port_of_a_service_is_not_taken_for_it(tmp_path: Path) -> None:
    async def ready(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/readyz", ready)
    other = web.AppRunner(app)
    await other.setup()
    try:
        site = web.TCPSite(other, "127.0.0.1", 0)
        await site.start()
        port = other.addresses[0][1]
        async with Stack(data=tmp_path) as stack:
            service = Service("chat", stack.process_environment("chat", HTTP_PORT=str(port)))
            with pytest.raises(NotStarted, match="HTTP_PORT"):
                async with service:
                    pass
    finally:
        await other.cleanup()
