"""What a release is made of, and that it says what it could not make."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from shared import version
from tests.deploy.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
pytestmark = pytest.mark.timeout(400)  # a whole release is made once
VERSION: str = PROJECT["project"]["version"]
PINNED = re.compile(r"(?m)^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)")


@dataclass(frozen=True)
class Release:
    folder: Path
    status: int
    said: str

    @property
    def client(self) -> Path:
        return self.folder / f"parley-{VERSION}-py3-none-any.whl"

    @property
    def wheel(self) -> Path:
        return self.folder / f"parley_services-{VERSION}-py3-none-any.whl"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Of this tree as if it were committed, where there is no container tool that works."""
    tree = tmp_path_factory.mktemp("release") / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("web/", "tests/")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tree)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "All"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    folder = tree.parent / "dist"
    environ = {"CONTAINER": "false", "PLATFORMS": "linux/amd64 linux/arm64 linux/none"}
    ended = subprocess.run(
        ["sh", "images/release.sh", str(folder)],
        cwd=tree,
        env={**os.environ, **environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Release(folder, ended.returncode, ended.stdout + ended.stderr)


def test_it_names_what_it_could_not_make(release: Release) -> None:
    assert release.status == 1, release.said
    told = release.said.partition("not made:")[2]
    assert "the images for linux/none: its programs do not run here" in told
    assert "chat for linux/amd64" in told or "the images for linux/amd64" in told
    assert "linux/arm64" in told
    assert shutil.which("cosign") or "cosign is not here" in told


def test_the_wheel_holds_the_services_and_what_they_share(release: Release) -> None:
    with zipfile.ZipFile(release.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (metadata,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
        facts = wheel.read(metadata).decode()
    wanted = {
        str(file.relative_to(ROOT))
        for folder in ("services", "shared")
        for file in (ROOT / folder).rglob("*.py")
    }
    data = f"{release.wheel.name.partition('-')[0]}-{VERSION}.data/data/share/parley"
    assert held == wanted | {f"{data}/asyncapi.json", f"{data}/asyncapi.html"}
    required = re.findall(r"(?m)^Requires-Dist: (.*)$", facts)
    assert any(r.startswith("faststream[nats]") and "extra" not in r for r in required)
    extras = set(re.findall(r"(?m)^Provides-Extra: (.*)$", facts))
    assert extras == {p.name for p in (ROOT / "services").iterdir() if (p / "app.py").is_file()}
    for extra, package in (("chat", "together"), ("tts", "minio"), ("access", "nkeys")):
        assert any(r.startswith(package) and f'extra == "{extra}"' in r for r in required)


def test_the_clients_wheel_holds_the_client_and_its_types(release: Release) -> None:
    with zipfile.ZipFile(release.client) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        facts = {n.rpartition("/")[2]: wheel.read(n).decode() for n in wheel.namelist()}
    folder = ROOT / "clients" / "python"
    wanted = {str(file.relative_to(folder)) for file in (folder / "parley").rglob("*.py")}
    assert held == wanted | {"parley/py.typed"}
    assert "parley = parley.__main__:main" in facts["entry_points.txt"]
    required = re.findall(r"(?m)^Requires-Dist: (\S+?)[><]", facts["METADATA"])
    assert {"nats-py[nkeys]", "msgspec", "typer", "rich", "sounddevice"} <= set(required)
    assert release.client.stat().st_size < 200_000


def test_the_clients_sbom_lists_what_is_locked(release: Release) -> None:
    found = valid(release.client.with_name(f"{release.client.name}.cdx.json").read_text())
    listed = {(c["name"], c["version"]) for c in found["components"]}
    assert listed == locked("requirements/client.txt")
    assert found["metadata"]["component"]["name"] == "parley"


def test_every_file_has_its_checksum(release: Release) -> None:
    lines = (release.folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    made = {file.name: file for file in release.folder.iterdir() if "SHA256SUMS" not in file.name}
    assert sums.keys() == made.keys()
    for name, file in made.items():
        assert sums[name] == hashlib.sha256(file.read_bytes()).hexdigest()


def locked(*files: str) -> set[tuple[str, str]]:
    return {pin for file in files for pin in PINNED.findall((ROOT / file).read_text())}


def valid(text: str) -> dict[str, Any]:
    """The document, which must be CycloneDX 1.6 without anything of its own."""
    # Loaded here, see tests/asyncapi.py.
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_wheels_sbom_lists_what_is_locked(release: Release) -> None:
    text = release.wheel.with_name(f"{release.wheel.name}.cdx.json").read_text()
    found = valid(text)
    listed = {(c["name"], c["version"]) for c in found["components"]}
    assert listed == locked(*(f"requirements/{s}.txt" for s in ("chat", "tts", "access")))
    assert all(c["externalReferences"][0]["hashes"] for c in found["components"])
    assert found["metadata"]["component"]["version"] == VERSION


def test_an_images_sbom_lists_its_debian_too(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.write_text("libc6\t2.41-12\tamd64\nlibstdc++6\t14.2.0-19\tamd64\n")
    told = subprocess.run(
        [
            *(sys.executable, str(ROOT / "images/sbom.py"), "--lock", "requirements/tts.txt"),
            *("--image", "parley-tts", "--packages", str(packages)),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = valid(told.stdout)
    purls = {c["purl"] for c in found["components"]}
    assert "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64" in purls
    assert len(purls) == len(locked("requirements/tts.txt")) + 2
    assert found["metadata"]["component"]["type"] == "container"


def test_one_version_stands_everywhere() -> None:
    """`make version` carries it from pyproject.toml."""
    compose = (ROOT / "compose.yaml").read_text()
    local = yaml.safe_load((ROOT / "k8s/overlays/local/kustomization.yaml").read_text())
    stated = set(re.findall(r"localhost/parley-[a-z]+:([^}\s]+)", compose))
    stated |= {i["newTag"] for i in local["images"] if i["name"].startswith("parley-")}
    for folder in ("web", "clients/typescript"):
        for name in ("package.json", "package-lock.json"):
            stated.add(json.loads((ROOT / folder / name).read_text())["version"])
    stated.add(version.VERSION)
    assert stated == {VERSION}


def test_images_say_what_they_are_made_of() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    names = (ROOT / "images/names.sh").read_text()
    (given,) = re.findall(r"for name in ([A-Z ]+); do", names)
    for argument in given.split():
        assert f"ARG {argument}=unknown" in dockerfile
        assert f'org.opencontainers.image.{argument.lower()}="${{{argument}}}"' in dockerfile
