"""The web page, served with the address that it has to connect to, and a token for that."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Final

from aiohttp import web

from local.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = ROOT / "web" / "dist"
CONTRACT = ROOT / "docs" / "asyncapi.html"
PAGE_PORT = 8000
_HOST: Final = "127.0.0.1"
# Whoever knows the id of a conversation may take part in it, so that it must be hard to guess.
_UNGUESSABLE: Final = re.compile(r"[A-Za-z0-9_-]{22,64}")


class Page:
    """The web page, when it has been built, with the address it has to connect to.

    `token` makes one for a conversation; without it the page connects without any.
    `listening`: where it is served, else where `listen` finds a place.
    """

    def __init__(
        self,
        folder: Path,
        websocket_url: str,
        *,
        token: Callable[[str], str] | None = None,
        listening: socket.socket | None = None,
    ) -> None:
        self._folder = folder
        self._config = {"nats_url": websocket_url} | ({"token_url": "token"} if token else {})
        self._token, self._listening, self._port = token, listening, 0
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Does nothing where no page has been built."""
        if not (self._folder / "index.html").is_file():
            return
        app = web.Application()
        app.router.add_get("/config.json", self._on_config)
        app.router.add_get("/", self._on_index)
        app.router.add_get("/asyncapi.html", self._on_contract)
        app.router.add_post("/token", self._on_token)
        app.router.add_static("/", self._folder)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.SockSite(self._runner, self._listening or listen())
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}/"

    async def _on_config(self, _request: web.Request) -> web.Response:
        return web.json_response(self._config)

    async def _on_token(self, request: web.Request) -> web.Response:
        # Another page of this browser cannot read the answer, unless its host's name leads here.
        if self._token is None or request.host not in hosts(self._port):
            raise web.HTTPNotFound
        try:
            conversation_id = (await request.json())["conversation_id"]
        except (json.JSONDecodeError, LookupError, TypeError):
            raise web.HTTPBadRequest(text="conversation_id is missing") from None
        if not isinstance(conversation_id, str) or not _UNGUESSABLE.fullmatch(conversation_id):
            raise web.HTTPBadRequest(text="a conversation's id has 22 to 64 letters and digits")
        return web.json_response({"token": self._token(conversation_id)})

    async def _on_index(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._folder / "index.html")

    async def _on_contract(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(CONTRACT)

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def listen() -> socket.socket:
    """On the usual port, or on a free one where that is taken; nobody else can have it then."""
    try:
        return socket.create_server((_HOST, PAGE_PORT))
    except OSError:
        return socket.create_server((_HOST, 0))


def hosts(port: int) -> tuple[str, str]:
    """By which a browser on this machine reaches the page."""
    return f"127.0.0.1:{port}", f"localhost:{port}"


def origins(port: int) -> list[str]:
    """What such a browser calls the page that it shows."""
    return [f"http://{host}" for host in hosts(port)]
