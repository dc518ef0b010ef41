"""Ends well when the provider that is named is there; else says how to have one.

For `docker compose up` without a profile: the emulator is the provider then, and was not started.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from urllib.parse import urlsplit

EMULATOR = "emulator"
WAIT_SECONDS = 15.0  # until the emulator's container has its name
WHAT_TO_DO = """\
There is no provider: neither the emulator nor Together was asked for. Either

    docker compose --profile offline up              with the emulated provider: needs no key
    docker compose --env-file deploy/online.env up   with Together: the key in
                                                     deploy/secrets/together_api_key
"""


def resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def main() -> int:
    host = urlsplit(os.environ["TOGETHER_BASE_URL"]).hostname
    until = time.monotonic() + float(os.environ.get("WAIT_SECONDS", WAIT_SECONDS))
    # Any other host is somebody's own affair: the services say themselves what they cannot reach.
    while host == EMULATOR and not resolves(host):
        if time.monotonic() > until:
            print(WHAT_TO_DO, file=sys.stderr)
            return 1
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
