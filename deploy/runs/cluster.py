"""A cluster, as KUBECONFIG names it, and what is installed there by overlays of k8s/."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "parley"
SECOND = "parley-second"
SERVICES = ("chat", "tts")
KUBECTL = shlex.split(os.environ.get("KUBECTL", "kubectl"))
READY_SECONDS = 240
# Turns of ten seconds: longer than preStop, so that a pod is told to stop in the middle of some.
SCRIPT = json.dumps(
    {
        "chat": {"tokens_per_second": 4},
        "speech": {"sound": "computable", "realtime_factor": 5},
    }
)


def kubectl(*arguments: str, given: str | None = None, check: bool = True) -> str:
    ended = subprocess.run(
        [*KUBECTL, *arguments], input=given, capture_output=True, text=True, check=False
    )
    if check and ended.returncode:
        command = shlex.join(["kubectl", *arguments])
        raise SystemExit(f"{command}: {ended.returncode}\n{ended.stdout[-2000:]}{ended.stderr}")
    return ended.stdout + ended.stderr


def inside(*arguments: str, namespace: str = NAMESPACE, **options: Any) -> str:
    return kubectl("--namespace", namespace, *arguments, **options)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def manifests(overlay: str) -> str:
    """An overlay, with other images where IMAGES says so, and a voice that a test can read."""
    patch = json.dumps([{"op": "replace", "path": "/data/EMULATOR_SCRIPT", "value": SCRIPT}])
    images = []
    named = {
        "nats": "docker.io/library/nats",
        "silo": "docker.io/pgsty/silo",
    }
    for pair in filter(None, os.environ.get("IMAGES", "").split(",")):
        name, _, image = pair.partition("=")
        new, _, tag = image.rpartition(":")
        images.append({"name": named.get(name, name), "newName": new, "newTag": tag})
    with tempfile.TemporaryDirectory() as folder:
        rendered = kubectl("kustomize", str(ROOT / "k8s/overlays" / overlay))
        Path(folder, "all.yaml").write_text(rendered, encoding="utf-8")
        outer = {
            "resources": ["all.yaml"],
            "images": images,
            "patches": [
                {"target": {"kind": "ConfigMap", "name": "emulator-script.*"}, "patch": patch}
            ],
        }
        Path(folder, "kustomization.yaml").write_text(json.dumps(outer), encoding="utf-8")
        return kubectl("kustomize", folder)


def ready(*kinds: str, namespace: str = NAMESPACE) -> None:
    for kind in kinds:
        inside("rollout", "status", kind, f"--timeout={READY_SECONDS}s", namespace=namespace)


def install(overlay: str, namespace: str) -> None:
    """Returns when all of it is ready."""
    kubectl("apply", "-f", "-", given=manifests(overlay))
    ready("statefulset/nats", "statefulset/store", "deployment/emulator", namespace=namespace)
    done = ("--for=condition=Complete", "job/store-setup", f"--timeout={READY_SECONDS}s")
    inside("wait", *done, namespace=namespace)
    ready("deployment/chat", "deployment/tts", namespace=namespace)


@contextlib.contextmanager
def forwarded(service: str, port: int, *, namespace: str = NAMESPACE) -> Iterator[int]:
    """A port on this machine that reaches the service."""
    with subprocess.Popen(
        [*KUBECTL, "--namespace", namespace, "port-forward", f"service/{service}", f":{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            if found is None:
                raise SystemExit(f"port-forward to {service} does not work")
            yield int(found[1])
        finally:
            process.terminate()
