"""`make k8s-test`: the overlay `local` on the cluster that KUBECONFIG names, and turns through it.

The images must be there already (load.sh, `kind load`, a registry). IMAGES replaces some, as
`nats=localhost/parley-standin-nats:1,silo=localhost/parley-standin-store:1`. Everything lives in
the namespace `parley`, which must not exist before and does not exist afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.runs import crds, turns

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "parley"
KUBECTL = shlex.split(os.environ.get("KUBECTL", "kubectl"))
READY_SECONDS = 240
# Turns of ten seconds: longer than preStop, so that a pod is told to stop in the middle of some.
SCRIPT = json.dumps(
    {
        "chat": {"tokens_per_second": 4},
        "speech": {"sound": "computable", "realtime_factor": 5},
    }
)
AT_ONCE = 6
SERVICES = ("chat", "tts")


def kubectl(*arguments: str, given: str | None = None, check: bool = True) -> str:
    ended = subprocess.run(
        [*KUBECTL, *arguments], input=given, capture_output=True, text=True, check=False
    )
    if check and ended.returncode:
        command = shlex.join(["kubectl", *arguments])
        raise SystemExit(f"{command}: {ended.returncode}\n{ended.stdout[-2000:]}{ended.stderr}")
    return ended.stdout + ended.stderr


def inside(*arguments: str, **options: Any) -> str:
    return kubectl("--namespace", NAMESPACE, *arguments, **options)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def manifests() -> str:
    """The overlay, with other images where IMAGES says so, and a voice that a test can read."""
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
        rendered = kubectl("kustomize", str(ROOT / "k8s/overlays/local"))
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


def ready(*kinds: str) -> None:
    for kind in kinds or ("statefulset/nats", "statefulset/store", "deployment/emulator"):
        inside("rollout", "status", kind, f"--timeout={READY_SECONDS}s")


@contextlib.contextmanager
def forwarded(service: str, port: int) -> Iterator[int]:
    """A port on this machine that reaches the service."""
    with subprocess.Popen(
        [*KUBECTL, "--namespace", NAMESPACE, "port-forward", f"service/{service}", f":{port}"],
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


def must_refuse_root() -> None:
    """The namespace's restriction is enforced, not only written down."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "as-root"},
        "spec": {"containers": [{"name": "c", "image": "any"}]},
    }
    told = inside("apply", "--dry-run=server", "-f", "-", given=json.dumps(pod), check=False)
    if "violates PodSecurity" not in told:
        raise SystemExit(f"a pod without restrictions was not refused: {told}")


def _settled(services: tuple[str, ...]) -> bool:
    """All that runs is new and ready, all that was is gone."""
    for service in services:
        wanted = json.loads(inside("get", "deployment", service, "--output=json"))["spec"][
            "replicas"
        ]
        pods = json.loads(
            inside("get", "pods", f"--selector=app.kubernetes.io/name={service}", "--output=json")
        )["items"]
        if len(pods) != wanted or any("deletionTimestamp" in p["metadata"] for p in pods):
            return False
    return True


async def _meanwhile(client: turns.Client, what: str, *commands: list[str]) -> None:
    """Turns in hand when it begins, and turns asked for until the last old pod is gone."""
    asked = [await client.ask(f"Tell me about number {i}.") for i in range(AT_ONCE)]
    await asyncio.gather(*(client.speaking(a) for a in asked))
    began = time.monotonic()
    for command in commands:
        await asyncio.to_thread(inside, *command)
    for service in SERVICES:
        await asyncio.to_thread(ready, f"deployment/{service}")
    while not await asyncio.to_thread(_settled, SERVICES):
        asked.append(await client.ask("And meanwhile?"))
        await asyncio.sleep(0.5)
    seconds = time.monotonic() - began
    lines = await asyncio.gather(*(client.whole(a) for a in asked))
    again = sum("attempt 1)" not in line.split(",")[0] for line in lines)
    say(f"{what} in {seconds:.0f} s: {len(lines)} turns, all whole, {again} texts begun again")


async def rehearse() -> None:
    password = (ROOT / "deploy/secrets/local/nats_client").read_text(encoding="utf-8").strip()
    with forwarded("nats", 4222) as nats_port, forwarded("store", 9000) as store_port:

        def link(url: str) -> urllib.request.Request:
            here = url.replace("//store:9000/", f"//127.0.0.1:{store_port}/")
            return urllib.request.Request(here, headers={"Host": "store:9000"})  # noqa: S310  ours

        async with turns.client(f"nats://127.0.0.1:{nats_port}", password, link) as client:
            say("one turn: " + await client.whole(await client.ask("Tell me about the sea.")))
            restart = [["rollout", "restart", f"deployment/{s}"] for s in SERVICES]
            await _meanwhile(client, "chat and tts restarted", *restart)
            for count in ("3", "2"):
                await _meanwhile(
                    client,
                    f"scaled to {count}",
                    ["scale", "deployment/chat", "deployment/tts", f"--replicas={count}"],
                )


def dry_runs() -> None:
    """`production` and every component, as this API server sees them."""
    with crds.installed(kubectl) as made:
        say(f"schemas installed for the dry run: {', '.join(made) or 'none, they are there'}")
        for overlay in ("local", "production"):
            rendered = kubectl("kustomize", str(ROOT / "k8s/overlays" / overlay))
            told = kubectl("apply", "--dry-run=server", "-f", "-", given=rendered)
            say(f"{overlay}: {len(told.splitlines())} objects accepted by the server")


def main() -> int:
    if "NotFound" not in kubectl("get", "namespace", NAMESPACE, check=False):
        raise SystemExit(f"there is a namespace {NAMESPACE} already, or no cluster: not touched")
    began = time.monotonic()
    try:
        say(kubectl("version").splitlines()[-1])
        kubectl("apply", "-f", "-", given=manifests())
        ready()
        inside("wait", "--for=condition=Complete", "job/store-setup", f"--timeout={READY_SECONDS}s")
        ready("deployment/chat", "deployment/tts")
        must_refuse_root()
        seconds = time.monotonic() - began
        say(f"local: all ready after {seconds:.0f} s, under restricted pod security")
        asyncio.run(rehearse())
        # A Job cannot be changed, and the other overlay's are others; in use they go by themselves.
        inside("delete", "jobs", "--all")
        dry_runs()
    except BaseException:
        say(inside("get", "pods,jobs,pvc", "--output=wide", check=False))
        say(inside("get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:])
        for kind in ("chat", "tts", "nats", "store", "emulator"):
            label = f"--selector=app.kubernetes.io/name={kind}"
            say(f"--- {kind}\n{inside('logs', label, '--tail=15', check=False)}")
        raise
    finally:
        if not os.environ.get("KEEP"):
            kubectl("delete", "namespace", NAMESPACE, "--timeout=240s", check=False)
            say("removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
