"""The manifests as kustomize builds them, once for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import Object, Overlay

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


def built(folder: Path) -> list[Object]:
    """What kustomize makes of an overlay."""
    ended = subprocess.run(
        [*_builder(), str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return [found for found in yaml.safe_load_all(ended.stdout) if found]


def _chart() -> list[Object]:
    """What Helm makes of the official chart with our values, in the namespace that it is for."""
    helm = os.environ.get("HELM") or shutil.which("helm")
    if helm is None:
        pytest.fail("helm is not here: `make manifests` builds it where Go is")
    folder = ROOT / "k8s" / "components" / "nats-cluster"
    rendered = subprocess.run(
        [helm, "template", "nats", "chart", "--namespace", "parley", "--values", "values.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert rendered.returncode == 0, rendered.stderr
    objects = [found for found in yaml.safe_load_all(rendered.stdout) if found]
    for found in objects:  # the chart leaves that to `helm install`
        found["metadata"].setdefault("namespace", "parley")
    return objects


def _with_tls(folder: Path) -> Path:
    """A copy of `local`, as one takes it, with the components that no overlay of ours uses."""
    local = ROOT / "k8s" / "overlays" / "local"
    shutil.copytree(local, folder, dirs_exist_ok=True)
    own = yaml.safe_load((local / "kustomization.yaml").read_text())
    own["components"] += [f"../../components/{name}" for name in ("tls", "nats-tls", "store-tls")]
    for kind in ("resources", "components"):
        own[kind] = [
            os.path.relpath((local / path).resolve(), folder) if ".." in path else path
            for path in own[kind]
        ]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return folder


@pytest.fixture(scope="session", params=["local", "local-tls", "production", "second"])
def overlay(request: pytest.FixtureRequest) -> Overlay:
    name = str(request.param)
    if name == "local-tls":
        with tempfile.TemporaryDirectory() as folder:
            return Overlay(name, built(_with_tls(Path(folder).resolve())))
    objects = built(ROOT / "k8s" / "overlays" / name)
    return Overlay(name, objects + (_chart() if name == "production" else []))
