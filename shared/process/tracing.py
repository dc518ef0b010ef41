"""Spans, when `OTEL_EXPORTER_OTLP_ENDPOINT` is set; else the trace context is only carried on.

A turn is one span in each service, a child of what the request's `traceparent` names; what follows
from it carries the span's own context.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from shared.contract import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# version-traceid-spanid-flags, as the W3C has it
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """The trace context of a message, to be put on what follows from it."""
    value = headers.get(TRACEPARENT, "")
    return {TRACEPARENT: value} if _TRACEPARENT.fullmatch(value) else {}


_shutdown: list[Callable[[], None]] = []
_tracer: list[Any] = []


def configure(endpoint: str | None, service: str) -> None:
    """Spans go to `endpoint` + /v1/traces, by OTLP over HTTP, in batches of their own thread."""
    if endpoint is None:
        return
    # Loaded only by those who trace: 30 MB and a quarter of a second.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource.create({"service.name": f"parley-{service}"}))
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer.append(provider.get_tracer("parley"))
    _shutdown.append(provider.shutdown)


def stop() -> None:
    """Sends what is left; blocks for some seconds at most."""
    while _shutdown:
        _shutdown.pop()()
    _tracer.clear()


class Span:
    """A turn's span; `headers` go on whatever follows from it."""

    def __init__(self, headers: dict[str, str], span: Any = None) -> None:
        self.headers = headers
        self._span = span

    def note(self, **attributes: str | float) -> None:
        """Attributes without user text; names with `__` for dots."""
        if self._span is not None:
            for name, value in attributes.items():
                self._span.set_attribute(name.replace("__", "."), value)


@contextlib.contextmanager
def span(name: str, headers: Mapping[str, str]) -> Iterator[Span]:
    if not _tracer:
        yield Span(carried(headers))
        return
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    propagator = TraceContextTextMapPropagator()
    parent = propagator.extract(carried(headers))
    with _tracer[0].start_as_current_span(name, context=parent) as current:
        own: dict[str, str] = {}
        propagator.inject(own)
        yield Span(carried(own), current)
