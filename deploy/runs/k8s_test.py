"""`make k8s-test`: the overlays `local` and `second` on the cluster that KUBECONFIG names, turns
through them, and what docs/operations.md tells an operator to do.

The images must be there already (load.sh, `kind load`, a registry). IMAGES replaces some, as
`nats=localhost/parley-standin-nats:1,silo=localhost/parley-standin-store:1`. Everything lives in
the namespaces `parley` and `parley-second`, which must not exist before and do not afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from deploy.runs import crds, operations
from deploy.runs.cluster import (
    NAMESPACE,
    ROOT,
    SECOND,
    SERVICES,
    inside,
    install,
    kubectl,
    say,
)
from deploy.runs.meanwhile import client, meanwhile


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


async def rehearse() -> None:
    async with client() as asking:
        say("one turn: " + await asking.whole(await asking.ask("Tell me about the sea.")))
        restart = [["rollout", "restart", f"deployment/{s}"] for s in SERVICES]
        await meanwhile(asking, "chat and tts restarted", *restart)
        for count in ("3", "2"):
            scale = ["scale", "deployment/chat", "deployment/tts", f"--replicas={count}"]
            await meanwhile(asking, f"scaled to {count}", scale)
        await operations.passwords_changed(asking)
    install("second", SECOND)
    say("second: all ready beside it")
    await operations.moved()
    await operations.kept_apart()


def dry_runs() -> None:
    """`production` and every component, as this API server sees them."""
    with crds.installed(kubectl) as made:
        say(f"schemas installed for the dry run: {', '.join(made) or 'none, they are there'}")
        for overlay in ("local", "production"):
            rendered = kubectl("kustomize", str(ROOT / "k8s/overlays" / overlay))
            told = kubectl("apply", "--dry-run=server", "-f", "-", given=rendered)
            say(f"{overlay}: {len(told.splitlines())} objects accepted by the server")


def main() -> int:
    for namespace in (NAMESPACE, SECOND):
        if "NotFound" not in kubectl("get", "namespace", namespace, check=False):
            raise SystemExit(f"there is a namespace {namespace}, or no cluster: not touched")
    began = time.monotonic()
    try:
        say(kubectl("version").splitlines()[-1])
        install("local", NAMESPACE)
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
            kubectl("delete", "namespace", NAMESPACE, SECOND, "--timeout=240s", check=False)
            say("removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
