"""An outage of the store is one from where it is told to where a request works again."""

from __future__ import annotations

from services.tts.minio.outage import Outage


def test_one_failure_is_no_outage() -> None:
    outage = Outage()
    outage.failed("storing", "HTTP 503")

    assert not outage.is_on


def test_the_second_in_a_row_is_one_until_something_works() -> None:
    outage = Outage()
    outage.failed("storing", "HTTP 503")
    outage.failed("storing", "HTTP 503")
    assert outage.is_on
    outage.over()

    assert not outage.is_on


def test_so_is_what_nobody_repeats() -> None:
    outage = Outage()
    outage.failed("storing", "the key is refused")
    outage.gave_up("storing", "the key is refused")

    assert outage.is_on
