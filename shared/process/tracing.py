"""Spans, when `OTEL_EXPORTER_OTLP_ENDPOINT` is set; else the trace context is only carried on.

A turn is one span in each service for each worker that takes it up, a child of what the request's
`traceparent` names; what follows from it carries the span's own context.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from shared.contract import TRACEPARENT
from shared.spans import OFF, Span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.process.spans import Exporter

# version-traceid-spanid-flags, as the W3C has it
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """The trace context of a message, to be put on what follows from it."""
    value = headers.get(TRACEPARENT, "")
    return {TRACEPARENT: value} if _TRACEPARENT.fullmatch(value) else {}


def onward(span: Span, headers: Mapping[str, str]) -> dict[str, str]:
    """What follows from a message belongs to `span`; without tracing, to what the message names."""
    return carried(headers) if span is OFF else dict(span.headers)


_exporter: list[Exporter] = []


def configure(endpoint: str | None, service: str) -> None:
    if endpoint is None:
        return
    from shared.process.spans import Exporter  # noqa: PLC0415  see there

    _exporter.append(Exporter(endpoint, service))


def stop() -> None:
    """Sends what is left; blocks for some seconds at most."""
    while _exporter:
        _exporter.pop().stop()


class Tracing:
    """Of one service; `provider_url` is where its model is asked."""

    def __init__(self, service: str, provider_url: str) -> None:
        self._service, self._provider_url = service, provider_url

    def turn(
        self,
        headers: Mapping[str, str],
        conversation_id: str,
        turn_id: str,
        asked_at: datetime,
        deliveries: int,
    ) -> Span:
        """The span of a turn that a worker takes up now, or refuses; `headers` are the request's.

        An id that is not known is "".
        """
        if not _exporter:
            return OFF
        from shared.process.spans import Asked, begin  # noqa: PLC0415  see there

        asked = Asked(
            self._service, self._provider_url, conversation_id, turn_id, asked_at, deliveries
        )
        return begin(_exporter[0], asked, carried(headers))
