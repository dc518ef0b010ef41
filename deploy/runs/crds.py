"""The custom resources that the manifests use, from the Go modules of those who define them.

As published there: for a dry run on a cluster that has none of these operators.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# module, version, the file in it
PUBLISHED = {
    "KEDA": (
        "github.com/kedacore/keda/v2",
        "v2.21.0",
        "config/crd/bases/keda.sh_scaledobjects.yaml",
    ),
    "Prometheus operator": (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
    "External Secrets": (
        "github.com/external-secrets/external-secrets",
        "v1.3.2",
        "config/crds/bases/external-secrets.io_externalsecrets.yaml",
    ),
}


def published(name: str) -> Path:
    """The file of the schema. Raises SystemExit without Go, or without the module."""
    module, version, file = PUBLISHED[name]
    if shutil.which("go") is None:
        raise SystemExit(f"the schemas of {name} come as a Go module: Go is needed for that")
    ended = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(ended.stdout or "{}")
    if "Dir" not in told:
        raise SystemExit(f"{module}@{version}: {told.get('Error') or ended.stderr}")
    return Path(told["Dir"]) / file


def install(kubectl: Callable[..., str]) -> list[str]:
    for name in PUBLISHED:
        # By the server: a schema of this size has no room for a copy of itself in an annotation.
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(published(name)))
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return list(PUBLISHED)
