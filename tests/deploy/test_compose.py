"""compose.yaml, the Dockerfile and the secrets for a laptop, against each other and the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import ROOT
from tests.deploy.test_manifests import CONFIGS, settings_of

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRETS = ROOT / "deploy" / "secrets" / "local"
DEFAULT = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


def plain(text: str) -> str:
    """What compose makes of it when no variable is set."""
    return DEFAULT.sub(r"\1", text)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_is_hardened_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["CHOWN"] if name == "volumes" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit"} <= service.keys()
    for port in service.get("ports", []):
        assert plain(port).startswith("127.0.0.1:"), port
    if name == "volumes":
        assert service["network_mode"] == "none"
    for secret in service.get("secrets", []):
        assert Path(ROOT, plain(COMPOSE["secrets"][secret]["file"])).is_file(), secret


def test_offline_needs_no_key_and_is_what_the_profile_adds() -> None:
    assert [n for n, s in SERVICES.items() if s.get("profiles")] == ["emulator"]
    for name, variable in (("chat", "TOGETHER_BASE_URL"), ("tts", "TTS_URL")):
        assert "//emulator:8080/" in plain(SERVICES[name]["environment"][variable])


@pytest.mark.parametrize("service", sorted(CONFIGS))
def test_every_setting_is_one_that_the_service_reads(service: str) -> None:
    environ = SERVICES[service]["environment"]
    unknown = set(environ) - settings_of(service) - {"TMPDIR"}
    # Shared by both, and of use to one.
    assert not unknown
    for name, value in environ.items():
        if name.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in SERVICES[service]["secrets"]


@pytest.mark.parametrize("service", sorted(CONFIGS))
def test_the_grace_is_longer_than_the_drain(service: str) -> None:
    given = int(SERVICES[service]["stop_grace_period"].removesuffix("s"))
    assert given > int(SERVICES[service]["environment"]["SHUTDOWN_GRACE"]) + 15


def test_the_passwords_for_a_laptop_fit_together() -> None:
    server = dict(
        re.findall(r'(?m)^([A-Z]+)_PASSWORD: "(.*)"$', (SECRETS / "passwords.conf").read_text())
    )
    own = {
        file.name.removeprefix("nats_").upper(): file.read_text().strip()
        for file in SECRETS.glob("nats_*")
    }
    assert server == own
    users = (ROOT / "deploy/nats/users.conf").read_text()
    assert {n.lower() for n in server} == set(re.findall(r"\{ user: (\w+),", users))


def test_third_party_images_are_the_same_everywhere() -> None:
    """Each is named in one place of each kind, with the same digest."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert len(re.findall(r"@sha256:[0-9a-f]{64}", dockerfile)) == 1
    assert not re.search(r"(?m)^FROM (?!\$\{PYTHON_IMAGE\}|build|run)", dockerfile)
    local = yaml.safe_load((ROOT / "k8s/overlays/local/kustomization.yaml").read_text())
    digests = {i["name"]: i["digest"] for i in local["images"] if "digest" in i}
    values = yaml.safe_load((ROOT / "k8s/components/nats-cluster/values.yaml").read_text())
    for name, image in (
        ("nats", plain(SERVICES["nats"]["image"])),
        ("nats", values["container"]["image"]["fullImageName"]),
        ("silo", plain(SERVICES["store"]["image"])),
    ):
        assert image.partition("@")[2] == digests[name]
    for service in SERVICES.values():
        image = plain(service["image"])
        assert ":latest" not in image
        assert "@sha256:" in image or image.startswith("localhost/parley-")


def test_the_emulators_versions_are_the_locked_ones() -> None:
    """images/emulator.txt is a part of requirements/local.txt."""
    pinned = re.compile(r"(?m)^([a-z0-9-]+==\S+)")
    local = set(pinned.findall((ROOT / "requirements/local.txt").read_text()))
    emulator = set(pinned.findall((ROOT / "images/emulator.txt").read_text()))
    assert emulator <= local, f"make lock, then images/emulator.txt: {emulator - local}"


def test_only_what_an_image_needs_reaches_a_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert "*" in lines
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert allowed == {"requirements/*.txt", "images/*", "shared", "services", "local"}
