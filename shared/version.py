"""The version of this release, as `pyproject.toml` says it; `images/version.sh` carries it here."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
