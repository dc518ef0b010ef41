"""The web page, served with the address that it has to connect to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from local.ports import preferred
from local.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "web" / "dist"
PAGE_PORT = 8000


class Page:
    """The web page, when it has been built, with the address it has to connect to."""

    def __init__(self, folder: Path, websocket_url: str) -> None:
        self._folder = folder
        self._config = {"nats_url": websocket_url}
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Does nothing where no page has been built."""
        if not (self._folder / "index.html").is_file():
            return
        app = web.Application()
        app.router.add_get("/config.json", self._on_config)
        app.router.add_get("/", self._on_index)
        app.router.add_static("/", self._folder)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", preferred(PAGE_PORT))
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def _on_config(self, _request: web.Request) -> web.Response:
        return web.json_response(self._config)

    async def _on_index(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._folder / "index.html")

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
