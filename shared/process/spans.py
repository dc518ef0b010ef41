"""Spans of OpenTelemetry, with the names and attributes of its conventions for generative AI.

Loaded by those who trace only: 30 MB and a quarter of a second.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.contract import TRACEPARENT
from shared.spans import OFF, Operation, Span, outcome_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

EXPORT_SECONDS: Final = 5.0  # for one batch; what cannot be sent is dropped
STOP_SECONDS: Final = 5.0  # for what is left at the end
PROVIDER: Final = "together_ai"
_OUTPUT: Final = {Operation.CHAT: "text", Operation.SPEECH: "speech"}
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class _Ids(RandomIdGenerator):
    """`trace`, where it is set, is the id of the trace that begins next."""

    trace = 0

    def generate_trace_id(self) -> int:
        return self.trace or super().generate_trace_id()


class Exporter:
    """Sends spans to `endpoint` + /v1/traces, by OTLP over HTTP, in batches of its own thread.

    Sampler, limits, batches and the resource are as the `OTEL_…` variables say.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        # The name of the service is ours only where nobody has given it another one.
        named = Resource.create().attributes.get(SERVICE_NAME, "")
        own = {SERVICE_NAME: f"parley-{service}"} if _is_nobodys(named) else {}
        self.ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource.create(own), id_generator=self.ids, shutdown_on_exit=False
        )
        url = f"{endpoint.rstrip('/')}/v1/traces"
        exporter = OTLPSpanExporter(url, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = self._provider.get_tracer("parley")

    def stop(self) -> None:
        """Sends what is left; blocks for `STOP_SECONDS` at most, whoever hangs."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(STOP_SECONDS)


def _is_nobodys(name: Any) -> bool:
    return str(name).startswith("unknown_service")


class Asked(NamedTuple):
    """Whose turn it is, and since when: what all spans of it have in common."""

    service: str
    provider_url: str
    conversation_id: str
    turn_id: str
    asked_at: datetime  # when the stream took the request; of another machine's clock
    deliveries: int


def begin(exporter: Exporter, asked: Asked, headers: Mapping[str, str]) -> Span:
    """The span of a turn, from its time in the stream on; and how long it waited for a worker.

    Where the request names no trace, the same request makes the same one, whoever takes it up.
    """
    context = _PROPAGATOR.extract(headers, Context())
    now = time.time_ns()
    since = min(int(asked.asked_at.timestamp() * 1e9), now)
    ids: dict[str, Any] = {
        name: value
        for name, value in {
            "gen_ai.conversation.id": asked.conversation_id,
            "parley.conversation": asked.conversation_id,
            "parley.turn": asked.turn_id,
        }.items()
        if value
    }
    named = get_current_span(context).get_span_context().is_valid
    exporter.ids.trace = 0 if named else _trace_of(asked)
    try:
        span = exporter.tracer.start_span(
            f"{asked.service}.turn",
            context,
            kind=SpanKind.CONSUMER,
            attributes={**ids, "parley.deliveries": asked.deliveries},
            start_time=since,
        )
    finally:
        exporter.ids.trace = 0
    if not span.get_span_context().is_valid:
        return OFF  # OTEL_SDK_DISABLED
    turn = TurnSpan(exporter.tracer, span, ids, asked)
    waited = exporter.tracer.start_span(
        f"{asked.service}.queue", turn.context, attributes=ids, start_time=since
    )
    waited.end(now)
    return turn


def _trace_of(asked: Asked) -> int:
    named = f"{asked.conversation_id} {asked.turn_id} {asked.asked_at.timestamp():.6f}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:16])


class TurnSpan(Span):
    """A turn, or a step of it."""

    __slots__ = (
        "_asked",
        "_attempt",
        "_began",
        "_done",
        "_ids",
        "_span",
        "_tracer",
        "context",
        "headers",
    )

    def __init__(
        self, tracer: Tracer, span: OtelSpan, ids: Mapping[str, Any], asked: Asked
    ) -> None:
        self._tracer, self._span, self._ids, self._asked = tracer, span, ids, asked
        self._began = time.monotonic()
        self._attempt: TurnSpan | None = None
        self._done = False
        self.context = set_span_in_context(span, Context())
        told = span.get_span_context()
        # The flags say whether it is sampled, which holds for all that follows.
        self.headers = {
            TRACEPARENT: f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}"
        }

    def _child(
        self,
        name: str,
        attributes: Mapping[str, Any],
        kind: SpanKind = SpanKind.INTERNAL,
        ids: Mapping[str, Any] | None = None,
    ) -> TurnSpan:
        ids = self._ids if ids is None else ids
        span = self._tracer.start_span(
            name, self.context, kind=kind, attributes={**ids, **attributes}
        )
        return TurnSpan(self._tracer, span, ids, self._asked)

    # ------------------------------------------------------------ steps

    def attempt(self, number: int) -> TurnSpan:
        self._end_attempt()
        ids = {**self._ids, "parley.attempt": number}
        self._attempt = self._child(f"{self._asked.service}.attempt", {}, ids=ids)
        return self._attempt

    def call(self, operation: Operation, model: str) -> TurnSpan:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": operation.value,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": True,
            "gen_ai.output.type": _OUTPUT[operation],
            **_address(self._asked.provider_url),
        }
        return self._child(f"{operation.value} {model}", attributes, SpanKind.CLIENT)

    def piece(self, index: int, characters: int) -> TurnSpan:
        attributes = {"parley.piece": index, "parley.characters": characters}
        return self._child(f"{self._asked.service}.piece", attributes)

    def upload(self) -> TurnSpan:
        if self._attempt is not None:
            return self._attempt.upload()
        return self._child(f"{self._asked.service}.upload", {}, SpanKind.CLIENT)

    # ------------------------------------------------------------ what it says

    def first(self, what: str) -> None:
        self._span.add_event(f"first_{what}")
        seconds = round(time.monotonic() - self._began, 6)
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)

    def answered(self, model: str, reason: str) -> None:
        self._span.set_attribute("gen_ai.response.finish_reasons", [reason])
        if model:
            self._span.set_attribute("gen_ai.response.model", model)

    def used(self, given: int | None, made: int | None) -> None:
        if given is not None:
            self._span.set_attribute("gen_ai.usage.input_tokens", given)
        if made is not None:
            self._span.set_attribute("gen_ai.usage.output_tokens", made)

    # ------------------------------------------------------------ the end

    def failed(self, error: BaseException) -> None:
        self._say(*outcome_of(error))

    def ended(self, outcome: str, code: str = "", *, attempt: int = 0) -> None:
        if attempt:
            self._span.set_attribute("parley.attempt", attempt)
        if self._attempt is not None:
            self._attempt.ended(outcome, code)
        self._say(outcome, code)

    def _say(self, outcome: str, code: str) -> None:
        """The code alone: what an exception says may be a user's."""
        if self._done:
            return
        self._done = True
        self._span.set_attribute("parley.outcome", outcome)
        if code:
            self._span.set_attribute("error.type", code)
            self._span.set_status(Status(StatusCode.ERROR))

    def _end_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.__exit__(None, None, None)
            self._attempt = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.ended(*outcome_of(error))
        self._end_attempt()
        self._span.end()


@functools.cache
def _address(url: str) -> dict[str, Any]:
    found = urlsplit(url)
    default = 443 if found.scheme in {"https", "wss"} else 80
    return {"server.address": found.hostname or "", "server.port": found.port or default}
