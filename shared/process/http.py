"""What a service answers over HTTP: probes, metrics, and the contract as AsyncAPI."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import uvicorn
from prometheus_client import disable_created_metrics, make_asgi_app

from shared.process.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

ASGIApp: TypeAlias = "Callable[[Any, Any, Any], Awaitable[None]]"

# When each series began: one more for each of them, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]  # of prometheus_client

STOP_SECONDS: Final = 5.0  # for answers under way
# Of the repository and the images; of a wheel that was installed (setup.py).
_DOCS: Final = (
    Path(__file__).resolve().parents[2] / "docs",
    Path(sys.prefix) / "share" / "parley",
)


class Probes:
    """`/livez`, `/readyz`, `/metrics`, `/asyncapi`, `/asyncapi.html`.

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

    def routes(self) -> list[tuple[str, ASGIApp]]:
        """Paths and what answers there: for FastStream's application, or for `routed`."""

        async def livez() -> tuple[int, bytes]:
            return 200, b"ok\n"

        async def readyz() -> tuple[int, bytes]:
            why = await self._why_not()
            return 503 if why else 200, (why or "ok").encode() + b"\n"

        return [
            ("/livez", _get(livez)),
            ("/readyz", _get(readyz)),
            ("/asyncapi", _get(_document("asyncapi.json"), "application/json")),
            ("/asyncapi.html", _get(_document("asyncapi.html"), "text/html; charset=utf-8")),
            ("/metrics", make_asgi_app()),
        ]


def _document(name: str) -> Callable[[], Awaitable[tuple[int, bytes]]]:
    """Read when it is asked for: hardly anybody does, and a page that is kept takes memory."""

    def read() -> tuple[int, bytes]:
        for folder in _DOCS:
            with contextlib.suppress(OSError):
                return 200, (folder / name).read_bytes()
        return 404, b"not installed here\n"

    async def answer() -> tuple[int, bytes]:
        return await asyncio.to_thread(read)

    return answer


def _get(
    answer: Callable[[], Awaitable[tuple[int, bytes]]], content_type: str = "text/plain"
) -> ASGIApp:
    """Answers GET and HEAD with a status and a body."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        known = scope["method"] in {"GET", "HEAD"}
        status, body = await answer() if known else (405, b"only GET\n")
        headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def routed(routes: Sequence[tuple[str, ASGIApp]]) -> ASGIApp:
    """An application of these paths, for a service that has no FastStream."""

    async def nothing() -> tuple[int, bytes]:
        return 404, b"there is nothing here\n"

    known, unknown = dict(routes), _get(nothing)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await known.get(scope["path"], unknown)(scope, receive, send)

    return app


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
