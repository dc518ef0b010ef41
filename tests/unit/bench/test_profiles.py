"""The bench's reading of a profile."""

from __future__ import annotations

from bench.profiles import top

RAW = """\
main (services/chat/__main__.py:1);say (/x/site-packages/nats/client.py:7);pack (/x/shared/a.py:3) 6
main (services/chat/__main__.py:1);say (/x/site-packages/nats/client.py:7) 3
main (services/chat/__main__.py:1);EpollSelector.select (selectors.py:4) 90
main (services/chat/__main__.py:1);loads (/usr/lib/python3.11/json/__init__.py:2) 1
"""


def test_shares_are_of_the_time_in_which_something_was_done() -> None:
    assert top(RAW) == [
        ("`shared/a.py: pack`", "60.0", "60.0"),
        ("`nats/client.py: say`", "30.0", "90.0"),
        ("`json/__init__.py: loads`", "10.0", "10.0"),
    ]
