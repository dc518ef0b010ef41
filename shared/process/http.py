"""What a service answers over HTTP: probes, metrics, and the AsyncAPI document."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from faststream.asgi import AsgiResponse
from faststream.asgi import get as http_get
from prometheus_client import make_asgi_app

from shared import asyncapi
from shared.process.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from faststream.asgi.types import ASGIApp, Scope

STOP_SECONDS: Final = 5.0  # for answers under way


class Probes:
    """`/livez`, `/readyz`, `/metrics`, `/asyncapi`.

    Ready while `ready` says so and none of `checks` waits for anything: each gives what is waited
    for, and why, by name.
    """

    def __init__(self) -> None:
        self.ready = False
        self.checks: Sequence[Callable[[], Awaitable[Mapping[str, str]]]] = ()

    async def _why_not(self) -> str:
        if not self.ready:
            return "starting or stopping"
        waiting: dict[str, str] = {}
        for check in self.checks:
            waiting |= await check()
        return "; ".join(f"waiting for {name}: {why}" for name, why in waiting.items())

    def routes(self) -> list[tuple[str, Any]]:
        @http_get
        async def livez(_scope: Scope) -> AsgiResponse:
            return AsgiResponse(b"ok\n", 200)

        @http_get
        async def readyz(_scope: Scope) -> AsgiResponse:
            why = await self._why_not()
            return AsgiResponse((why or "ok").encode() + b"\n", 503 if why else 200)

        @http_get
        async def document(_scope: Scope) -> AsgiResponse:
            headers = {"Content-Type": "application/json"}
            return AsgiResponse(asyncapi.document(), 200, headers=headers)

        return [
            ("/livez", livez),
            ("/readyz", readyz),
            ("/asyncapi", document),
            ("/metrics", make_asgi_app()),
        ]


class _Uvicorn(uvicorn.Server):
    """Leaves signals alone: SIGTERM begins a drain during which the probes must still answer."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class HttpServer:
    """Answers from `start` to `stop`. Raises BadSetting when it cannot listen."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none")
        self._server = _Uvicorn(config)
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def stop(self) -> None:
        self._server.should_exit = True
        with contextlib.suppress(Exception):  # going down anyhow
            async with asyncio.timeout(STOP_SECONDS):
                await self._task


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # who asks before the server serves is answered then
    except OSError as exc:
        listener.close()
        raise BadSetting(f"HTTP_PORT: cannot listen on {host}:{port}: {exc.strerror}") from None
    return listener
