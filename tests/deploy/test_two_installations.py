"""Two installations in one cluster: nothing of one is the other's, and neither knows its name."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.conftest import ROOT, built

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deploy.manifests import Object

pytestmark = pytest.mark.manifests
OVERLAYS = ROOT / "k8s" / "overlays"
OF_THE_CLUSTER = {"Namespace", "PriorityClass"}
HOST = re.compile(r"[a-z*-]+\.(parley[a-z-]*)(?:\.svc|$)")


def other(name: str, folder: Path) -> list[Object]:
    """A copy of an overlay, whose `namespace` alone is changed, as one makes it."""
    own = yaml.safe_load((OVERLAYS / name / "kustomization.yaml").read_text())
    assert own["namespace"] == "parley"
    shutil.copytree(ROOT / "k8s", folder / "k8s")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    file = folder / "k8s" / "overlays" / name / "kustomization.yaml"
    file.write_text(yaml.safe_dump({**own, "namespace": "parley-other"}))
    return built(file.parent)


def named(objects: list[Object]) -> set[tuple[str, str, str]]:
    return {
        (found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"])
        for found in objects
    }


def told(objects: list[Object]) -> set[str]:
    """The namespaces that stand in names of hosts."""
    texts = re.split(r"[\s\"',\[\]]+", yaml.safe_dump_all(objects))
    return {found[1] for text in texts if (found := HOST.match(text))}


def test_a_second_installation_shares_nothing_with_the_first() -> None:
    first, second = built(OVERLAYS / "local"), built(OVERLAYS / "second")
    assert named(first).isdisjoint(named(second))
    assert len(first) == len(second)
    assert told(second) <= {"parley-second"}


def test_a_copy_of_production_needs_no_change_but_its_namespace(tmp_path: Path) -> None:
    first, second = built(OVERLAYS / "production"), other("production", tmp_path)
    shared = {found[0] for found in named(first) & named(second)}
    assert shared <= OF_THE_CLUSTER - {"Namespace"}
    assert told(first) == {"parley"}
    assert told(second) == {"parley-other"}
