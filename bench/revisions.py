"""Today's services, and those of another revision from the same repository."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING

from bench.contenders import Parley
from local.process import ROOT, temporary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@contextlib.contextmanager
def revisions(environ: Mapping[str, str], before: str | None) -> Iterator[list[Parley]]:
    """Not started yet, today's first; the files of the other are removed behind the block.

    Raises: SystemExit, where there is no such revision.
    """
    found = [Parley(described("HEAD"), ROOT, environ)]
    folder = temporary("bench")
    try:
        if before:
            found.append(Parley(described(before), _checkout(before, folder), environ))
        yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def described(revision: str) -> str:
    """Its short hash; of files that no repository knows, `today`."""
    if revision == "HEAD" and not (ROOT / ".git").exists():
        return "today"
    return _git("rev-parse", "--short", revision).decode().strip()


def _checkout(revision: str, folder: Path) -> Path:
    folder.mkdir(parents=True)
    archive = _git("archive", revision, "services", "shared")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)  # noqa: S607
    return folder


def _git(*words: str) -> bytes:
    ended = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)  # noqa: S607
    if ended.returncode:
        raise SystemExit(f"git {words[0]}: {ended.stderr.decode().strip()}")
    return ended.stdout
