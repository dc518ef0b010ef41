"""The custom resources that the manifests use, from the Go modules of those who define them.

As published there: for a dry run on a cluster that has none of these operators.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ESTABLISHED_SECONDS = 60
# module, version, the file in it
PUBLISHED = {
    "KEDA": (
        "github.com/kedacore/keda/v2",
        "v2.21.0",
        "config/crd/bases/keda.sh_scaledobjects.yaml",
    ),
    "Prometheus operator (pods)": (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
    "Prometheus operator (rules)": (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "External Secrets": (
        "github.com/external-secrets/external-secrets",
        "v1.3.2",
        "config/crds/bases/external-secrets.io_externalsecrets.yaml",
    ),
    "cert-manager (certificates)": (
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "deploy/crds/cert-manager.io_certificates.yaml",
    ),
    "cert-manager (issuers)": (
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "deploy/crds/cert-manager.io_issuers.yaml",
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


def names() -> list[str]:
    """Of the custom resource definitions, as they are called in a cluster."""
    return [
        "scaledobjects.keda.sh",
        "podmonitors.monitoring.coreos.com",
        "prometheusrules.monitoring.coreos.com",
        "externalsecrets.external-secrets.io",
        "certificates.cert-manager.io",
        "issuers.cert-manager.io",
    ]


def _until_established(kubectl: Callable[..., str], resource: str) -> None:
    """`kubectl wait` fails where there are no conditions yet, as there are none at first."""
    condition = '{.status.conditions[?(@.type=="Established")].status}'
    until = time.monotonic() + _ESTABLISHED_SECONDS
    command = ("get", "crd", resource, "-o", f"jsonpath={condition}")
    while kubectl(*command, check=False).strip() != "True":
        if time.monotonic() > until:
            raise SystemExit(f"{resource} is not established after {_ESTABLISHED_SECONDS} s")
        time.sleep(0.2)


@contextlib.contextmanager
def installed(kubectl: Callable[..., str]) -> Iterator[list[str]]:
    """Those that the cluster lacks, for a while; what an operator brought is left alone."""
    made = []
    try:
        for name, resource in zip(PUBLISHED, names(), strict=True):
            if "NotFound" in kubectl("get", "crd", resource, check=False):
                # By the server: it has no room for a copy of itself in an annotation.
                kubectl("apply", "--server-side", "-f", str(published(name)))
                made.append(resource)
                _until_established(kubectl, resource)
        yield made
    finally:
        for resource in made:
            kubectl("delete", "crd", resource, check=False)
