"""Virtual environments of the bench's own: nothing in them is in ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def installed(name: str, package: str) -> Path:
    """The Python that has the package; installed once, below the user's cache.

    Raises: SystemExit, where it cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "parley" / name
    python, ready = home / "bin" / "python", home / "ready"
    if ready.exists() and ready.read_text(encoding="utf-8") == package:
        return python
    print(f"installing {package} into {home} (once)", file=sys.stderr, flush=True)
    # The Python is named: without it, uv takes the environment that it runs in itself, ours.
    for words in (
        ["venv", "--quiet", "--clear", str(home)],
        ["pip", "install", "--quiet", "--python", str(python), package],
    ):
        ended = subprocess.run([sys.executable, "-m", "uv", *words], check=False)
        if ended.returncode:
            raise SystemExit(f"{package} cannot be installed: uv {words[0]} failed; see above")
    ready.write_text(package, encoding="utf-8")
    return python
