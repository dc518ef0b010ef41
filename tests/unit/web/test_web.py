"""What of the page is generated is of what it is generated from; `make web` runs its own tests."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WEB, CLIENT = ROOT / "web", ROOT / "clients" / "typescript"
DIST = WEB / "dist"


def test_the_contract_in_typescript_is_that_of_the_services() -> None:
    made = subprocess.run(
        [sys.executable, str(CLIENT / "contract.py"), "--check"], capture_output=True, check=False
    )
    assert made.returncode == 0, made.stderr.decode()


def sources() -> str:
    """As vite.config.ts counts them."""
    client = "../clients/typescript"
    names = ["index.html", "package-lock.json", "vite.config.ts", f"{client}/package-lock.json"]
    names += [f"{of}/{f.name}" for of in ("src", f"{client}/src") for f in (WEB / of).iterdir()]
    found = hashlib.sha256()
    for name in sorted(names):
        found.update(f"{name}\n".encode())
        found.update((WEB / name).read_bytes())
    return found.hexdigest()


def test_the_page_that_is_served_was_built_from_these_sources() -> None:
    built = re.search(r'<meta name="sources" content="(\w+)"', (DIST / "index.html").read_text())
    assert built is not None
    assert built[1] == sources(), "web/dist is stale: `npm run build` in web/"


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    files = {path.name for path in DIST.iterdir()}
    assert files == {"index.html", "parley.css", "parley.js"}
    assert sum((DIST / name).stat().st_size for name in files) < 300_000
    page = (DIST / "index.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page) == ["./parley.js", "./parley.css"]
    assert "url(" not in (DIST / "parley.css").read_text()
    assert "@import" not in (DIST / "parley.css").read_text()


def test_the_page_may_run_only_its_own_script_and_write_no_markup() -> None:
    page = (DIST / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]+)"', page)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["require-trusted-types-for"] == "'script'"
    for path in (WEB / "src").glob("*.ts"):
        assert not re.search(r"\.(inner|outer)HTML|insertAdjacentHTML", path.read_text()), path


@pytest.mark.parametrize("folder", [WEB, CLIENT], ids=["web", "client"])
def test_the_lock_file_names_no_registry(folder: Path) -> None:
    lock = json.loads((folder / "package-lock.json").read_text())
    resolved = {package.get("resolved") for package in lock["packages"].values()}
    assert resolved <= {None, "../clients/typescript"}


def test_the_page_knows_nats_by_the_client_alone() -> None:
    package = json.loads((WEB / "package.json").read_text())
    assert package["dependencies"] == {"@parley/client": "file:../clients/typescript"}
    for path in (WEB / "src").glob("*.ts"):
        assert set(re.findall(r'from "([^."][^"]*)"', path.read_text())) <= {"@parley/client"}, path
