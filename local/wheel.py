"""Where a wheel of the virtual environment keeps the program that it brought."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path

from local.process import NotStarted


def program(name: str, distribution: str) -> str:
    """The program of a distribution, or else the one on PATH.

    Raises: NotStarted, when there is none.
    """
    for folder in _folders(distribution):
        if found := shutil.which(name, path=str(folder)):
            return str(Path(found).resolve())
    if found := shutil.which(name):
        return found
    raise NotStarted(f"{name} is missing: `pip install {distribution}`, or put it on PATH")


def _folders(distribution: str) -> list[Path]:
    try:
        files = importlib.metadata.files(distribution) or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    return list(dict.fromkeys(Path(os.fspath(file.locate())).parent for file in files))
