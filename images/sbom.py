# ruff: noqa: INP001  a script of its own
"""sbom.py --lock FILE… [--project FILE] [--image NAME --packages FILE]: what is in it, on stdout.

As CycloneDX 1.6. Locked Python packages with their hashes, by cyclonedx-bom; for an image also the
packages of its Debian, as `dpkg-query` listed them: name, version, architecture, with tabs between.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
Component = dict[str, Any]


def of_lock(lock: Path, project: Path) -> dict[str, Any]:
    ended = subprocess.run(  # noqa: S603  our own interpreter
        [
            *(sys.executable, "-m", "cyclonedx_py", "requirements", str(lock)),
            *("--pyproject", str(project), "--output-reproducible"),
            *("--spec-version", "1.6", "--output-format", "JSON", "--mc-type", "application"),
            "--no-validate",  # what comes of it is another document
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def of_debian(line: str) -> Component:
    name, version, architecture = line.split("\t")
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}"
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--lock", action="append", required=True, type=Path)
    parser.add_argument("--project", type=Path, default=ROOT / "pyproject.toml")
    parser.add_argument("--image")
    parser.add_argument("--packages", type=Path)
    given = parser.parse_args()

    whole, *others = [of_lock(lock, given.project) for lock in given.lock]
    components: dict[str, Component] = {}
    for each in (whole, *others):
        for component in each["components"]:
            components.setdefault(component["purl"], component)
    if given.packages:
        for line in given.packages.read_text(encoding="utf-8").splitlines():
            component = of_debian(line)
            components.setdefault(component["purl"], component)
    for purl, component in components.items():
        component["bom-ref"] = purl
    whole["components"] = [components[purl] for purl in sorted(components)]

    itself = whole["metadata"]["component"]
    if given.image:
        itself |= {"type": "container", "name": given.image}
    itself["version"] = version()
    # Which wheel needs which stands in their own metadata; here each is a part of the whole.
    whole["dependencies"] = [
        {"ref": itself["bom-ref"], "dependsOn": sorted(components)},
        *({"ref": purl} for purl in sorted(components)),
    ]
    json.dump(whole, sys.stdout, indent=2)


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


if __name__ == "__main__":
    main()
