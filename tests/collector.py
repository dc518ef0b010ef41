"""A collector of traces: takes spans by OTLP over HTTP, as any backend does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

_GZIP: Final = b"\x1f\x8b"
_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUS: Final = ("unset", "ok", "error")


@dataclass(frozen=True, slots=True)
class Spanned:
    """A span as it came; ids in hex, `parent` is "" for a root; times in nanoseconds."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: str
    start: int
    end: int
    status: str
    message: str  # of the status
    attributes: dict[str, Any]
    events: dict[str, int]  # when, by name


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def spans_of(body: bytes) -> list[Spanned]:
    """Of one request, in the order in which they ended."""
    told = ExportTraceServiceRequest.FromString(body)
    return [
        Spanned(
            service=_attributes(each.resource.attributes).get("service.name", ""),
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            kind=_KINDS[span.kind],
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            status=_STATUS[span.status.code],
            message=span.status.message,
            attributes=_attributes(span.attributes),
            events={event.name: event.time_unix_nano for event in span.events},
        )
        for each in told.resource_spans
        for scope in each.scope_spans
        for span in scope.spans
    ]


@dataclass(slots=True)
class Collector:
    """`bodies` are the requests as they came; while `open` is not set it answers nobody."""

    endpoint: str = ""
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Spanned] = field(default_factory=list)
    status: int = 200
    open: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, trace: str) -> list[Spanned]:
        return [span for span in self.spans if span.trace == trace]

    async def until(self, found: Callable[[], bool], seconds: float = 60.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not found():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            names = [(span.name, span.trace) for span in self.spans]
            raise AssertionError(f"not in time; there are {names}") from None

    async def turn(self, trace: str, *names: str) -> Sequence[Spanned]:
        """The spans of a trace, once spans of all these names have come."""
        await self.until(lambda: set(names) <= {span.name for span in self.of(trace)})
        return self.of(trace)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.waiting += 1
        self._changed.set()
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        if self.status == 200:
            body = gzip.decompress(body) if body[:2] == _GZIP else body
            self.bodies.append(body)
            self.spans += spans_of(body)
        self._changed.set()
        return web.Response(status=self.status)


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Listens on a port that it picks."""
    found = Collector()
    found.open.set()
    app = web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        found.open.set()
        await runner.cleanup()
