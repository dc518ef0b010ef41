"""Log lines: a fixed name plus fields; never the text of a user, never a key.

Each line about a turn has `conversation_id`, `turn_id`, `attempt` (0 as long as this worker has
begun none) and `trace_id`, where the request has a trace. Who takes a message up says so once, by
`concerning`; nothing is looked up until a line is written.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from shared.contract import TRACEPARENT
from shared.errors import NatsError
from shared.process.tracing import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


# Exceptions whose words are the interpreter's, the system's or our own. Those of any other may hold
# what a user or the provider has said: of those the name is told, and where they came from.
_TELLING: Final = (
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    NatsError,
)
_OURS: Final = ("shared.nats.", "shared.process.")


class _Concern:
    """What the lines of a task are about: `find` gives fields, `noted` are those known since."""

    __slots__ = ("find", "noted")

    def __init__(self, find: Callable[[], Mapping[str, object]]) -> None:
        self.find = find
        self.noted: dict[str, object] = {}

    def fields(self) -> dict[str, object]:
        return {**self.find(), **self.noted}


_concern: ContextVar[_Concern | None] = ContextVar("concern", default=None)


@contextlib.contextmanager
def concerning(find: Callable[[], Mapping[str, object]]) -> Iterator[None]:
    """Each line that is written meanwhile, here or in tasks begun here, has what `find` gives."""
    before = _concern.set(_Concern(find))
    try:
        yield
    finally:
        _concern.reset(before)


def note(**fields: object) -> None:
    """What is known only by now of what the lines are about; nothing where they are about none."""
    concern = _concern.get()
    if concern is not None:
        concern.noted.update((name, value) for name, value in fields.items() if value is not None)


def ids(
    conversation_id: str | None, turn_id: str | None, headers: Mapping[str, str] | None
) -> dict[str, object]:
    """The fields of a line about a turn, before any attempt; `headers` are its request's."""
    return {
        "conversation_id": conversation_id,
        "turn_id": turn_id,
        "attempt": 0,
        "trace_id": trace_id(headers or {}),
    }


def trace_id(headers: Mapping[str, str]) -> str | None:
    """Of a `traceparent`, which is version-trace-span-flags; of one that is none, nothing."""
    context = carried(headers)
    return context[TRACEPARENT].split("-")[1] if context else None


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    concern = _concern.get()
    known = {} if concern is None else concern.fields()
    own = {k: v for k, v in vars(record).items() if k not in _STANDARD}
    return {k: v for k, v in {**known, **own}.items() if v is not None}


def _told(exc: BaseException, seen: frozenset[int] = frozenset()) -> str:
    """Its traceback and those of what it came from, in the order in which they happened."""
    before = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    earlier = [before, *getattr(exc, "exceptions", ())]
    seen |= {id(exc)}
    lines = [_told(each, seen) for each in earlier if each is not None and id(each) not in seen]
    kind = type(exc)
    tells = isinstance(exc, _TELLING) or kind.__module__.startswith(_OURS)
    words = f"{kind.__qualname__}: {exc}" if tells else kind.__qualname__
    return "\n".join([*lines, "".join(traceback.format_tb(exc.__traceback__)) + words])


def _exception(record: logging.LogRecord) -> str:
    exc = record.exc_info[1] if record.exc_info else None
    return "" if exc is None else _told(exc)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = _exception(record)
        return json.dumps(line, default=str, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={v}" for k, v in _fields(record).items()).replace("\n", "\\n")
        clock = time.strftime("%H:%M:%S", time.gmtime(record.created))
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
        if record.exc_info:
            line += "\n" + _exception(record)
        return line


def configure(level: str, form: str) -> None:
    """Lines on standard error, JSON or text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "websockets", "urllib3", "asyncio", "uvicorn", "together"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
