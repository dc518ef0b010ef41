"""The import rules of the code base, and who may spell what.

Rules 1 to 5 are contracts of import-linter in pyproject.toml. What it cannot say stands here.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
# bench and local stand outside, as a user does: they spell what they send.
OURS = ("services", "shared")

# A folder named for a vendor, and process/, touch the world; nothing else in a service does.
ROOMS_OF_THE_WORLD = {"nats", "together", "minio", "process"}
WIRING = {"app", "__main__"}

# Packages that open sockets or files: only adapters and the wiring of a service import them.
VENDOR_PACKAGES = {
    "aiohttp",
    "av",
    "faststream",
    "httpx",
    "minio",
    "nats",
    "together",
    "urllib3",
    "uvicorn",
    "websockets",
}

# The one codec: a pure function of bytes that needs a library.
CODECS = {"services.tts.audio.pyav_encode": {"av"}}

SUBJECT = re.compile(
    r"(chat\.(request|cancel|delta|dead|history\.(get|delete))|tts\.(request|audio|dead))(\.|$)"
)
STREAM = re.compile(r"(CHAT_REQUESTS|CHAT_DELTAS|TTS_REQUESTS|TTS_AUDIO|DEAD_LETTERS)\b")
# Not a stream but the end of a setting's name, RETENTION_DEAD_LETTERS.
SETTINGS = {"shared.process.settings": {"DEAD_LETTERS"}}
# Not a stream but the end of a setting's name, RETENTION_DEAD_LETTERS.
SETTINGS = {"shared.process.settings": {"DEAD_LETTERS"}}
SERVER_API = re.compile(r"\$(KV|JS)\.")


@dataclass(frozen=True)
class Module:
    name: str
    source: str = field(repr=False)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Of its tree; parsed by the one worker of a run that looks at it."""
        return list(ast.walk(ast.parse(self.source, self.name)))

    @property
    def last(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def adapter(self) -> bool:
        return not ROOMS_OF_THE_WORLD.isdisjoint(self.name.split(".")[1:-1])

    def imports(self) -> Iterator[str]:
        """Every module that is imported anywhere in this one, also for types alone."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}: a relative import"
                yield str(node.module)
                # `from services.chat import conversation` imports a module, too
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def texts(self) -> Iterator[str]:
        """Every string in the code, the fixed parts of f-strings included, docstrings not."""
        docstrings = {
            id(node.value)
            for node in self.nodes
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in self.nodes:
            if isinstance(node, ast.Constant) and id(node) not in docstrings:
                if isinstance(node.value, str):
                    yield node.value
                elif isinstance(node.value, bytes):
                    yield node.value.decode("latin-1")


def read(*packages: str) -> list[Module]:
    files = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return [
        Module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"),
            path.read_text(encoding="utf-8"),
        )
        for path in files
    ]


ALL = read(*OURS)
SERVICES = [module for module in ALL if module.name.partition(".")[0] == "services"]


def ids(module: Module) -> str:
    return module.name


def contracts() -> list[dict[str, Any]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: list[dict[str, Any]] = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return found


# ---------------------------------------------------------------- rules 1 to 5


def test_the_import_contracts_are_kept() -> None:
    # In a process of its own: in ours it would switch off every logger that is there already,
    # and whatever a later test of the same worker says of log lines would be wrong.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    ran = subprocess.run(
        [*command, "--no-cache"], check=False, cwd=ROOT, capture_output=True, text=True
    )

    assert ran.returncode == 0, ran.stdout
    assert "0 broken" in ran.stdout


def test_there_is_a_contract_for_each_of_the_five_rules() -> None:
    told = [(c["type"], sorted(c.get("source_modules", c.get("modules", [])))) for c in contracts()]

    assert ("forbidden", ["shared"]) in told
    assert ("independence", ["services.access", "services.chat", "services.tts"]) in told
    assert ("forbidden", ["local"]) in told
    assert ("forbidden", ["services", "shared"]) in told
    assert [c for c in contracts() if c["name"].startswith("outside the vendors' folders")]


# ---------------------------------------------------------------- rule 6: adapters


@pytest.mark.parametrize(
    "module", [m for m in SERVICES if not m.adapter and m.last not in WIRING], ids=ids
)
def test_only_the_wiring_and_other_adapters_import_adapters(module: Module) -> None:
    adapters = {each.name for each in SERVICES if each.adapter}

    assert adapters.isdisjoint(module.imports())


@pytest.mark.parametrize(
    "module", [m for m in SERVICES if not m.adapter and m.last not in WIRING], ids=ids
)
def test_only_the_wiring_and_adapters_import_a_vendor_s_package(module: Module) -> None:
    found = {name.partition(".")[0] for name in module.imports()} & VENDOR_PACKAGES

    assert found <= CODECS.get(module.name, set())


@pytest.mark.parametrize("module", [m for m in SERVICES if m.adapter], ids=ids)
def test_no_adapter_imports_the_wiring(module: Module) -> None:
    assert not {name for name in module.imports() if name.rpartition(".")[2] in WIRING}


def test_the_adapters_are_found() -> None:
    names = {module.name for module in SERVICES if module.adapter}

    assert {
        "services.access.nats.callout",
        "services.chat.together.chat",
        "services.chat.nats.conversations",
        "services.tts.minio.store",
        "services.tts.together.pool",
    } <= names


# ---------------------------------------------------------------- rule 6: names on the wire


@pytest.mark.parametrize("module", [m for m in ALL if m.name != "shared.contract"], ids=ids)
def test_only_the_contract_spells_a_subject_or_a_stream(module: Module) -> None:
    spelled = {text for text in module.texts() if SUBJECT.match(text) or STREAM.match(text)}

    assert spelled <= SETTINGS.get(module.name, set())


@pytest.mark.parametrize(
    "module",
    [m for m in ALL if not m.name.startswith("shared.nats.")],
    ids=ids,
)
def test_only_shared_nats_spells_what_is_the_server_s(module: Module) -> None:
    assert not [text for text in module.texts() if SERVER_API.search(text)]


def test_a_spelled_subject_would_be_found() -> None:
    source = 'a = f"chat.delta.{c}"\nb = b"$KV.x"\nd = "chat.request"\ne = "tts.turn_spoken"'
    texts = list(Module("x", source).texts())

    assert {text for text in texts if SUBJECT.match(text)} == {"chat.delta.", "chat.request"}
    assert {text for text in texts if SERVER_API.search(text)} == {"$KV.x"}


# ---------------------------------------------------------------- the environment


@pytest.mark.parametrize(
    "module", [m for m in ALL if m.name.startswith(("services", "shared"))], ids=ids
)
def test_only_an_entry_point_reads_the_environment(module: Module) -> None:
    reads = [
        node
        for node in module.nodes
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    ]

    assert not reads or module.last == "__main__" or module.name == "shared.nats.provision"
