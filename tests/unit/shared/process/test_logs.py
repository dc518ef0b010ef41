"""Log lines are a name and fields, and go to standard error once."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import NatsError, ProviderBroken
from shared.process.logs import _Json, _Text, concerning, configure, ids, note, trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def record(name: str = "chat.turn_ended", **fields: Any) -> logging.LogRecord:
    logger = logging.getLogger("services.chat.app")
    return logger.makeRecord(
        logger.name, logging.INFO, __file__, 1, name, (), None, extra=dict(fields)
    )


def as_json(found: logging.LogRecord) -> dict[str, Any]:
    line = _Json().format(found)
    assert "\n" not in line
    fields: dict[str, Any] = json.loads(line)
    return fields


# ---------------------------------------------------------------- JSON


def test_a_json_line_is_a_name_a_time_and_its_fields() -> None:
    found = record(conversation_id="c1", seconds=0.25)
    found.created, found.msecs = 1767323045.678, 678.0

    assert as_json(found) == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "logger": "services.chat.app",
        "event": "chat.turn_ended",
        "conversation_id": "c1",
        "seconds": 0.25,
    }


def test_a_field_without_a_value_is_left_out() -> None:
    assert "reason" not in as_json(record(reason=None))


def test_a_json_line_stays_one_line_whatever_a_field_holds() -> None:
    evil = 'a\nb\r{"event": "forged"} ü \0'

    assert as_json(record(reason=evil))["reason"] == evil


def test_a_value_that_json_does_not_know_is_told_as_text() -> None:
    assert as_json(record(where=ValueError("x")))["where"] == "x"


def test_an_exception_is_a_field_of_its_line() -> None:
    found = record()
    try:
        raise RuntimeError("lost")  # noqa: TRY301  an exception with a traceback
    except RuntimeError:
        found.exc_info = sys.exc_info()
    line = as_json(found)

    assert line["exception"].endswith("RuntimeError: lost")
    assert line["event"] == "chat.turn_ended"


def test_a_line_holds_no_field_that_nobody_gave() -> None:
    assert set(as_json(record())) == {"time", "level", "logger", "event"}


# ---------------------------------------------------------------- what it is about

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def about(**fields: Any) -> dict[str, Any]:
    """The fields of a line beside its name, its time and who writes it."""
    line = as_json(record(**fields))
    return {k: v for k, v in line.items() if k not in {"time", "level", "logger", "event"}}


def test_each_line_says_which_turn_it_is_about() -> None:
    with concerning(lambda: ids("c1", "t1", {"traceparent": TRACE})):
        before = about(reason="x")
        note(attempt=2, trace_id=None)
        after = about()
    known = {
        "conversation_id": "c1",
        "turn_id": "t1",
        "attempt": 0,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }

    assert before == {**known, "reason": "x"}
    assert after == {**known, "attempt": 2}
    assert about() == {}


def test_what_a_line_says_itself_counts_above_what_it_is_about() -> None:
    with concerning(lambda: ids("c1", "t1", None)):
        assert about(attempt=3) == {"conversation_id": "c1", "turn_id": "t1", "attempt": 3}


@pytest.mark.parametrize(
    "given", ["", "x", "00-../../etc-b7ad6b7169203331-01", "00-mypassword-x-01"]
)
def test_what_is_no_trace_has_no_id(given: str) -> None:
    assert trace_id({"traceparent": given}) is None


def test_nothing_is_looked_up_until_a_line_is_written() -> None:
    looked: list[int] = []

    def look() -> dict[str, object]:
        looked.append(1)
        return {}

    with concerning(look):
        note(attempt=1)
        assert looked == []
        as_json(record())
        assert looked == [1]


def test_what_is_known_of_nothing_goes_nowhere() -> None:
    note(attempt=1)

    assert about() == {}


async def test_each_task_has_lines_of_its_own() -> None:
    async def told(name: str) -> str:
        with concerning(lambda: {"turn_id": name}):
            await asyncio.sleep(0)
            return str(about()["turn_id"])

    first, second = await asyncio.gather(told("t1"), told("t2"))

    assert (first, second) == ("t1", "t2")


# ---------------------------------------------------------------- exceptions


def exception_of(raising: Callable[[], object]) -> str:
    found = record()
    try:
        raising()
    except Exception:  # noqa: BLE001  whichever: it is looked at
        found.exc_info = sys.exc_info()
    return str(as_json(found)["exception"])


def test_what_an_exception_may_have_of_a_user_s_words_is_not_told() -> None:
    def quoting() -> None:
        try:
            int("a secret of mine")
        except ValueError as exc:
            raise ProviderBroken("a secret of mine") from exc

    told = exception_of(quoting)

    assert "of mine" not in told.replace('"a secret of mine"', "")  # but for the source of this
    assert re.findall(r"^\w+$", told, re.MULTILINE) == ["ValueError", "ProviderBroken"]


def test_what_an_exception_says_of_itself_is_told() -> None:
    def asking() -> None:
        raise NatsError("$JS.API.INFO: no answer in time")

    assert exception_of(asking).endswith("NatsError: $JS.API.INFO: no answer in time")
    assert exception_of(lambda: len(3)).endswith(  # type: ignore[arg-type]  # a bug
        "TypeError: object of type 'int' has no len()"
    )


def test_those_of_a_group_are_told_one_by_one() -> None:
    def failing() -> None:
        raise ExceptionGroup("two", [RuntimeError("one"), KeyError("a secret")])

    told = exception_of(failing)

    assert told.splitlines()[:2] == ["RuntimeError: one", "KeyError"]
    assert told.endswith("ExceptionGroup")


# ---------------------------------------------------------------- text


def test_a_text_line_is_for_people() -> None:
    found = record(conversation_id="c1", seconds=0.25)
    found.created = 1767323045.678

    assert (
        _Text().format(found) == "03:04:05 info    chat.turn_ended conversation_id=c1 seconds=0.25"
    )


def test_a_text_line_without_fields_ends_with_its_name() -> None:
    assert _Text().format(record()).endswith("chat.turn_ended")


# ---------------------------------------------------------------- where they go


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = before[0]
    logger.setLevel(before[1])


@pytest.mark.parametrize("form", ["json", "text"])
def test_lines_go_to_standard_error_once(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    configure("info", form)
    configure("info", form)
    logging.getLogger("parley.test").info("test.happened", extra={"turn_id": "t1"})
    logging.getLogger("parley.test").debug("test.not_shown")
    out, err = capsys.readouterr()

    assert out == ""
    assert err.count("test.happened") == 1
    assert "t1" in err
    assert "test.not_shown" not in err


def test_libraries_that_tell_urls_are_silent_below_a_warning(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("debug", "json")
    for name in ("httpx", "httpcore.http11", "websockets.client", "urllib3", "together"):
        logging.getLogger(name).info("GET https://host/?api_key=secret")

    assert "secret" not in capsys.readouterr().err
