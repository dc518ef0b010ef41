"""What docs/operations.md tells people to run is there, with the options that it names."""

from __future__ import annotations

import importlib.util
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from local.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
OURS = re.compile(r"(?:[A-Z_]+=\S+ +)*((?:python (?:-m )?|(?:\./)?deploy/|make )\S.*)")


def commands() -> Iterator[str]:
    """Those that are ours, in blocks and in sentences, without what is set for them."""
    blocks = [line for block in BLOCK.findall(OPERATIONS) for line in block.splitlines()]
    for text in [*blocks, *INLINE.findall(BLOCK.sub("", OPERATIONS))]:
        if found := OURS.fullmatch(text.partition("#")[0].strip()):
            yield found[1]


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_command_that_is_told_exists(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        targets = re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text())
        assert words[0] in targets
        return
    if program == "python":
        program = words.pop(0)
    if program == "-m":
        found = importlib.util.find_spec(words.pop(0))
        assert found is not None
        assert found.origin is not None
        text = (ROOT / found.origin).read_text()
        if found.submodule_search_locations:
            text += (ROOT / found.submodule_search_locations[0] / "__main__.py").read_text()
    else:
        path = ROOT / program
        assert path.exists()
        text = path.read_text() if path.is_file() else ""
    for option in (word for word in words if word.startswith("--")):
        assert option in text, f"{program} has no {option}"


def test_the_commands_are_found() -> None:
    found = set(commands())
    assert "python -m deploy.operate.backup FOLDER" in found
    assert "deploy/secrets/make.sh --rotate chat FOLDER" in found
