"""The wheel's requirements are the groups of pyproject.toml, so that they stand in one place.

`pip install parley-services` is what both services share; `parley-services[chat]`, `[tts]` and
`[access]` are the services. The client is a distribution of its own, clients/python.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from setuptools import setup

SERVICES = ("chat", "tts", "access")

_GROUPS = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]


def requirements(group: str) -> list[str]:
    """Of a group and those that it includes."""
    found: list[str] = []
    for each in _GROUPS[group]:
        found += [each] if isinstance(each, str) else requirements(each["include-group"])
    return found


setup(
    install_requires=requirements("shared"),
    extras_require={service: requirements(service) for service in SERVICES},
    # What the services answer at /asyncapi and /asyncapi.html.
    data_files=[("share/parley", ["docs/asyncapi.json", "docs/asyncapi.html"])],
)
