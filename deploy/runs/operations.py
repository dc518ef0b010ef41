"""What docs/operations.md tells an operator to do, done on a cluster."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import nats
import nats.errors

from deploy.runs import turns
from deploy.runs.cluster import (
    NAMESPACE,
    READY_SECONDS,
    ROOT,
    SECOND,
    SERVICES,
    forwarded,
    inside,
    ready,
    say,
)
from deploy.runs.meanwhile import client, meanwhile

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCAL = ROOT / "deploy/secrets/local"
# A kubelet looks after a minute whether a secret has changed, nats-server after ten seconds.
SECRET_SECONDS = 180.0
QUESTION = "Tell me about the sea."


def _make(folder: Path, *words: str) -> None:
    environ = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([ROOT / "deploy/secrets/make.sh", *words, folder], env=environ, check=True)


def _put(secret: str, files: Mapping[str, Path]) -> None:
    """Under the name that the overlay gave it, which ends with a hash of what it held at first."""
    names = inside("get", "secrets", "--output=name").split()
    name = next(n.removeprefix("secret/") for n in names if n.startswith(f"secret/{secret}-"))
    given = [f"--from-file={key}={file}" for key, file in files.items()]
    made = ("create", "secret", "generic", name, *given, "--dry-run=client", "--output=yaml")
    inside("apply", "--server-side", "--force-conflicts", "-f", "-", given=inside(*made))


def _put_nats(folder: Path) -> None:
    names = ("apps.conf", "callout.conf", "passwords.conf")
    _put("parley-nats", {name: folder / name for name in names})


async def _let_in(user: str, password: str) -> bool:
    async def ignored(_error: Exception) -> None:
        """The answer is whether there is a connection."""

    # Of its own: a connection that is refused ends what kubectl forwards.
    with forwarded("nats", 4222) as port:
        try:
            login = await nats.connect(
                f"nats://127.0.0.1:{port}",
                user=user,
                password=password,
                allow_reconnect=False,
                connect_timeout=5,
                error_cb=ignored,
            )
        except (OSError, nats.errors.Error):
            return False
        await login.close()
        return True


async def _until(user: str, password: str, *, let_in: bool) -> None:
    until = time.monotonic() + SECRET_SECONDS
    while await _let_in(user, password) is not let_in:
        if time.monotonic() > until:
            raise SystemExit(f"{user}: let in: {not let_in}, after {SECRET_SECONDS:.0f} s")
        await asyncio.sleep(1)


async def passwords_changed(asking: turns.Client) -> None:
    """Of both services, while turns run; the old ones are nobody's afterwards."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(LOCAL, Path(place, "secrets")))
        old = {name: (folder / f"nats_{name}").read_text().strip() for name in SERVICES}
        for name in SERVICES:
            _make(folder, "--rotate", name)
        _put_nats(folder)
        key = {"together_api_key": folder / "together_api_key"}
        store = {name: folder / name for name in ("store_access_key", "store_secret_key")}
        _put("parley-chat", {"nats_password": folder / "nats_chat", **key})
        _put("parley-tts", {"nats_password": folder / "nats_tts", **key, **store})
        for name in SERVICES:
            new = (folder / f"nats_{name}").read_text().strip()
            await _until(f"{name}-2", new, let_in=True)
        commands = [["set", "env", f"deployment/{s}", f"NATS_USER={s}-2"] for s in SERVICES]
        await meanwhile(asking, "passwords changed", *commands)
        for name in SERVICES:
            _make(folder, "--retire", name)
        _put_nats(folder)
        for name in SERVICES:
            await _until(name, old[name], let_in=False)
        say("the old passwords are nobody's: " + await asking.whole(await asking.ask(QUESTION)))


async def kept_apart() -> None:
    """The same conversation in both, and each knows its own."""
    async with client() as first, client(SECOND) as second:
        one, two = [await each.ask(QUESTION, "the-same") for each in (first, second)]
        say("first: " + await first.whole(one))
        say("second: " + await second.whole(two))


async def moved() -> None:
    """A backup of the first, in the second, of which nobody has asked anything yet."""
    async with client() as asking:
        kept = await asking.ask(QUESTION, "kept")
        await asking.whole(kept)
        before = await asking.history("kept")
    for namespace in (NAMESPACE, SECOND):
        _scale(namespace, 0)
    with tempfile.TemporaryDirectory() as place:
        folder = str(Path(place, "backup"))
        _operate(NAMESPACE, "deploy.operate.backup", folder)
        _operate(SECOND, "deploy.operate.restore", folder)
        _operate(SECOND, "shared.provision")
    for namespace in (NAMESPACE, SECOND):
        _scale(namespace, 2)
    async with client(SECOND) as asking:
        if await asking.history("kept") != before:
            raise SystemExit("the history is not what was kept")
        say("restored in the second: " + await asking.whole(await asking.ask(QUESTION, "kept")))


def _scale(namespace: str, replicas: int) -> None:
    names = [f"deployment/{name}" for name in SERVICES]
    inside("scale", *names, f"--replicas={replicas}", namespace=namespace)
    for name in SERVICES:
        if replicas:
            ready(f"deployment/{name}", namespace=namespace)
        else:
            label = f"--selector=app.kubernetes.io/name={name}"
            gone = ("--for=delete", "pods", label, f"--timeout={READY_SECONDS}s")
            inside("wait", *gone, namespace=namespace)


def _operate(namespace: str, module: str, *words: str) -> None:
    with (
        forwarded("nats", 4222, namespace=namespace) as nats_port,
        forwarded("store", 9000, namespace=namespace) as store_port,
    ):
        settings = {
            "NATS_URL": f"nats://127.0.0.1:{nats_port}",
            "NATS_USER": "operator",
            "NATS_PASSWORD_FILE": str(LOCAL / "nats_operator"),
            "MINIO_ENDPOINT": f"127.0.0.1:{store_port}",
            "MINIO_ACCESS_KEY_FILE": str(LOCAL / "store_root_user"),
            "MINIO_SECRET_KEY_FILE": str(LOCAL / "store_root_password"),
            "MINIO_SECURE": "false",
        }
        command = [sys.executable, "-m", module, *words]
        subprocess.run(command, env={**os.environ, **settings}, cwd=ROOT, check=True)
