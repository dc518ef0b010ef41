"""Log lines are a name and fields, and go to standard error once."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from shared.process.logs import _Json, _Text, configure

if TYPE_CHECKING:
    from collections.abc import Iterator


def record(name: str = "chat.turn_ended", **fields: object) -> logging.LogRecord:
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
    found = record(conversation="c1", seconds=0.25)
    found.created, found.msecs = 1767323045.678, 678.0

    assert as_json(found) == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "logger": "services.chat.app",
        "event": "chat.turn_ended",
        "conversation": "c1",
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
        raise LookupError("lost")  # noqa: TRY301  an exception with a traceback
    except LookupError:
        found.exc_info = sys.exc_info()
    line = as_json(found)

    assert line["exception"].endswith("LookupError: lost")
    assert line["event"] == "chat.turn_ended"


def test_a_line_holds_no_field_that_nobody_gave() -> None:
    assert set(as_json(record())) == {"time", "level", "logger", "event"}


# ---------------------------------------------------------------- text


def test_a_text_line_is_for_people() -> None:
    found = record(conversation="c1", seconds=0.25)
    found.created = 1767323045.678

    assert _Text().format(found) == "03:04:05 info    chat.turn_ended conversation=c1 seconds=0.25"


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
    logging.getLogger("parley.test").info("test.happened", extra={"turn": "t1"})
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
