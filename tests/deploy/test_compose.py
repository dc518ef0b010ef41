"""compose.yaml, the Dockerfile and the secrets for a laptop, against each other and the code."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.access.nkey import SigningKey
from services.access.token import Keys
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
    profiles = {name: s["profiles"] for name, s in SERVICES.items() if "profiles" in s}
    assert profiles == {"access": ["tokens"], "emulator": ["offline"]}
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
    passwords = (SECRETS / "passwords.conf").read_text()
    ours = dict(re.findall(r'(?m)^([A-Z]+)_PASSWORD: "(.*)"$', passwords))
    users = (ROOT / "deploy/nats/users.conf").read_text()
    logins = set(re.findall(r"\{ user: ([\w-]+),", users))
    assert logins == {login for n in ours for login in (n.lower(), f"{n.lower()}-2")}
    apps = dict(re.findall(r'user: (\S+), password: "(.*)"', (SECRETS / "apps.conf").read_text()))
    own = {f.name.removeprefix("nats_"): f.read_text().strip() for f in SECRETS.glob("nats_*")}
    assert {name.lower(): password for name, password in ours.items()} | apps == own


def made(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "deploy/secrets/make.sh", *arguments],
        env={"PYTHON": sys.executable, **os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_secrets_of_ones_own_are_as_those_for_a_laptop(tmp_path: Path) -> None:
    assert made(tmp_path).returncode == 0
    laptop = {f.name for f in SECRETS.iterdir()} - {"kustomization.yaml"}
    assert {f.name for f in tmp_path.iterdir()} == laptop
    password = (tmp_path / "nats_client").read_text().strip()
    theirs = (tmp_path / "apps.conf").read_text().replace(password, "client-local")
    assert theirs == (SECRETS / "apps.conf").read_text()
    callout = [(folder / "callout.conf").read_text() for folder in (tmp_path, SECRETS)]
    issuer = re.compile(r"issuer: (A[A-Z2-7]{55})$", re.MULTILINE)
    assert len({issuer.sub("", text) for text in callout}) == 1
    for folder, text in zip((tmp_path, SECRETS), callout, strict=True):
        seed = (folder / "access_issuer_seed").read_text().partition(" ")[0]
        assert issuer.findall(text) == [SigningKey.from_seed(seed).public]
        assert Keys.parse((folder / "access_keys").read_text()).signing


def test_without_a_program_that_knows_keys_nobody_is_let_in_by_a_token(tmp_path: Path) -> None:
    told = made(tmp_path, PYTHON="/nowhere/python")
    assert told.returncode == 0
    assert "make setup" in told.stderr
    assert "authorization" not in (tmp_path / "callout.conf").read_text()
    assert made("--app", "client", tmp_path).returncode == 0
    assert "auth_callout" in (tmp_path / "callout.conf").read_text()


def test_an_application_more_changes_nobody_elses_secret(tmp_path: Path) -> None:
    made(tmp_path)
    before = {f.name: f.read_text() for f in tmp_path.iterdir()}
    assert made("--app", "shop", tmp_path).returncode == 0
    after = {f.name: f.read_text() for f in tmp_path.iterdir()}
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"apps.conf", "callout.conf", "nats_shop"}
    assert "client, operator, operator-2, shop, tts, tts-2]" in after["callout.conf"]
    assert f'user: shop, password: "{after["nats_shop"].strip()}"' in after["apps.conf"]
    assert '"_INBOX_shop.>"' in after["apps.conf"]
    assert made("--app", "shop", tmp_path).returncode == 0
    assert (tmp_path / "nats_shop").read_text() == after["nats_shop"]


@pytest.mark.parametrize("name", ["chat", "operator", "access", "Shop", "a.b", "-x", 'a"b', "../x"])
def test_an_application_cannot_be_named_like_a_service_or_a_subject(
    tmp_path: Path, name: str
) -> None:
    made(tmp_path)
    before = {f.name: f.read_text() for f in tmp_path.iterdir()}
    refused = made("--app", name, tmp_path)
    assert refused.returncode == 1
    assert name in refused.stderr
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == before


def test_secrets_of_an_earlier_version_are_brought_up_to_date(tmp_path: Path) -> None:
    """All users were in one account, and `client` was one of passwords.conf."""
    made(tmp_path)
    now = {f.name: f.read_text() for f in tmp_path.iterdir()}
    for name in ("apps.conf", "callout.conf", "passwords.conf"):
        (tmp_path / name).unlink()
    (tmp_path / "passwords.conf").write_text(now["passwords.conf"] + 'CLIENT_PASSWORD: "x"\n')
    assert made("--app", "client", tmp_path).returncode == 0
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == now


def test_compose_mounts_every_file_that_the_server_includes() -> None:
    """As the configuration of the cluster does: the paths are the same."""
    volumes = [plain(volume) for volume in SERVICES["nats"]["volumes"]]
    mounts = dict(volume.split(":")[:2] for volume in volumes if ".conf:" in volume)
    there = {inside.removeprefix("/etc/nats/") for inside in mounts.values()}
    for file in ("nats.conf", "users.conf"):
        included = re.findall(r"(?m)^\s*include (\S+)$", (ROOT / "deploy/nats" / file).read_text())
        assert set(included) <= there, file
    for outside in mounts:
        assert Path(ROOT, outside).is_file(), outside


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


def test_what_an_image_runs_was_compiled_when_it_was_built() -> None:
    """Its root is read-only: it would be compiled at each start again, for a second and more."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    run = dockerfile.partition("\nFROM ${PYTHON_IMAGE} AS run\n")[2]
    copied = re.findall(r"(?m)^COPY (.+) /app/(lib|shared|services|local)\b", run)
    assert {whence.split()[0] for whence, _ in copied} == {
        "--from=code",
        *(f"--from=build-{name}" for name in ("chat", "tts", "access", "emulator")),
    }
    for stage, run_by in (("code", "compileall"), ("build-chat", "/install.sh")):
        made = dockerfile.partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]
        assert run_by in made
    assert "compileall" in (ROOT / "images/install.sh").read_text()


def test_what_make_runs_is_compiled_once() -> None:
    """Whatever the environment says: compiling takes longer than all else of a service's start."""
    recipe = "show:;@echo $${PYTHONDONTWRITEBYTECODE-kept}"
    command = ["make", "--no-print-directory", "--eval", recipe, "show"]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    shown = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=True)
    assert shown.stdout == b"kept\n"


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
    documents = {"docs/asyncapi.json", "docs/asyncapi.html"}
    assert allowed == {"requirements/*.txt", "images/*", "shared", "services", "local"} | documents


def test_a_copy_of_the_example_changes_no_container() -> None:
    """.env is for compose, too: a host named for this machine is another one in a container."""
    read = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text()))
    named = set(re.findall(r"(?m)^([A-Z_]+)=", (ROOT / ".env.example").read_text()))
    assert not read & named


def test_what_online_sets_is_what_compose_reads() -> None:
    read = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text()))
    assert set(re.findall(r"(?m)^([A-Z_]+)=", (ROOT / "deploy/online.env").read_text())) <= read


@pytest.mark.parametrize(
    ("url", "status", "told"),
    [
        ("http://emulator:8080/v1", 1, "docker compose --profile offline up"),
        ("https://api.together.ai/v1", 0, ""),
        ("http://10.0.0.1:8000/v1", 0, ""),
    ],
)
def test_without_a_profile_it_says_what_to_do(url: str, status: int, told: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "deploy/provider/check.py")],
        env={"TOGETHER_BASE_URL": url, "WAIT_SECONDS": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    assert told in ended.stderr


def test_no_turn_is_taken_where_there_is_no_provider() -> None:
    needed = SERVICES["chat"]["depends_on"]["provider"]
    assert needed == {"condition": "service_completed_successfully"}


def test_new_secrets_are_for_their_owner_only_and_out_of_git(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    subprocess.run(["sh", str(ROOT / "deploy/secrets/make.sh"), str(folder)], check=True)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made = {f"deploy/secrets/own/{file.name}" for file in folder.iterdir()}
    assert len(made) >= len(list(SECRETS.glob("nats_*"))) + len(list(SECRETS.glob("store_*"))) + 2
    keys = {f"any/where/{name}" for name in ("tls.key", "ca.pem", "chat.nk", "chat.creds")}
    keys |= {"deploy/secrets/together_api_key", ".env"}
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *sorted(made | keys)],
        cwd=ROOT,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(ignored.stdout.split()) == made | keys


SCRIPTS = [f for folder in ("deploy", "images", "k8s") for f in (ROOT / folder).rglob("*.sh")]


@pytest.mark.parametrize("script", sorted(SCRIPTS), ids=lambda path: path.name)
def test_scripts_are_valid_to_the_shell_that_runs_them(script: Path) -> None:
    shell = "bash" if script.read_text().startswith("#!/bin/bash\n") else "sh"
    subprocess.run([shell, "-n", str(script)], check=True)
