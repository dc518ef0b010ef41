# ruff: noqa: INP001  a script of its own in each image
"""healthy.py PATH: exit status 0 when this container's own server answers 200 there."""

import os
import sys
import urllib.error
import urllib.request

try:
    urllib.request.urlopen(
        f"http://127.0.0.1:{os.environ.get('HTTP_PORT', '8080')}{sys.argv[1]}", timeout=4
    )
except (OSError, urllib.error.URLError) as exc:
    sys.exit(str(exc))
