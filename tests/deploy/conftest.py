"""The manifests as kustomize builds them, once for all tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import Overlay

ROOT = Path(__file__).resolve().parents[2]


def _builder() -> list[str]:
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    pytest.fail("neither kubectl nor kustomize is here: what an overlay builds cannot be looked at")


@pytest.hookimpl(tryfirst=True)  # before those of other marks are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a program that not everybody has is a command of its own: `make manifests`."""
    for item in items:
        if "overlay" in getattr(item, "fixturenames", ()):
            item.add_marker("manifests")


@pytest.fixture(scope="session", params=["local", "production"])
def overlay(request: pytest.FixtureRequest) -> Overlay:
    folder = ROOT / "k8s" / "overlays" / request.param
    built = subprocess.run(
        [*_builder(), str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert built.returncode == 0, built.stderr
    objects = [found for found in yaml.safe_load_all(built.stdout) if found]
    return Overlay(str(request.param), objects)
