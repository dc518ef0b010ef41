"""`make compose-test`: the whole compose file, offline; turns from outside while each restarts.

With podman (the images of `make images-offline`) or, COMPOSE="docker compose" CONTAINER=docker,
with docker and the images that compose.yaml names. Every container that it starts belongs to a
project of its own, on ports of its own, and is removed at the end with its volumes.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from parley import Parley

from deploy.runs import turns
from services.access.token import Claims, Keys, May, mint

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "parley-compose-test"
SERVICES = ("nats", "store", "emulator", "chat", "tts", "access")
PROFILES = ("--profile", "offline", "--profile", "tokens")
READY_SECONDS = 180.0
UP_SECONDS = 300.0  # to make and start all containers
BYTES_A_SECOND = 48_000
COMMAND_SECONDS = 60.0  # any other command of the container tool
PORTS = {"NATS_PORT": "24222", "NATS_WEBSOCKET_PORT": "29222", "STORE_PORT": "29000"}
STANDINS = {
    "NATS_IMAGE": "localhost/parley-standin-nats:1",
    "STORE_IMAGE": "localhost/parley-standin-store:1",
}
# How each is restarted in the middle of a turn: in order, and without a goodbye. (`podman restart`
# refuses a container that depends on one that has done its work and ended.)
HOW = (("stop", "start"), ("kill", "start"))

COMPOSE = shlex.split(os.environ.get("COMPOSE", str(ROOT / ".venv/bin/podman-compose")))
CONTAINER = os.environ.get("CONTAINER", "podman")


def environment() -> dict[str, str]:
    found = {**os.environ, **PORTS, "EMULATOR_SCRIPT": turns.SCRIPT}
    found["PARLEY_MINIO_PUBLIC_ENDPOINT"] = f"127.0.0.1:{PORTS['STORE_PORT']}"
    if CONTAINER == "podman":
        found = {**STANDINS, **found}
        found.setdefault("CONTAINERS_CONF", str(ROOT / "images/containers.conf"))
        found.setdefault("DISABLE_HC_SYSTEMD", "true")
    return found


ENVIRON = environment()


def missing_tools() -> list[str]:
    """What compose.yaml cannot do without, and is not there; a missing one makes podman hang."""
    # `init: true` has podman run catatonit in each container; it looks for it in these places.
    places = "/usr/libexec/podman:/usr/lib/podman:/usr/libexec:/usr/local/libexec/podman:/usr/sbin"
    path = f"{ENVIRON.get('PATH', '')}:{places}"
    tools = [COMPOSE[0], CONTAINER]
    if CONTAINER == "podman":
        tools += ["runc", "conmon", "catatonit"]
    return [tool for tool in tools if shutil.which(tool, path=path) is None]


def run(*command: str, check: bool = True, seconds: float = COMMAND_SECONDS) -> str:
    try:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=ENVIRON,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as exc:
        said = b"".join(part for part in (exc.stdout, exc.stderr) if isinstance(part, bytes))
        text = said.decode(errors="replace")[-3000:]
        raise SystemExit(f"{shlex.join(command)}: not done in {seconds:g} s\n{text}") from None
    text = ended.stdout + ended.stderr
    if check and ended.returncode:
        raise SystemExit(f"{shlex.join(command)}: {ended.returncode}\n{text}")
    return text


def compose(*arguments: str, check: bool = True) -> str:
    command = (*COMPOSE, "-p", PROJECT, *PROFILES, *arguments)
    return run(*command, check=check, seconds=UP_SECONDS)


def expect_containers(*services: str) -> None:
    """podman-compose goes on when a container could not be made, and answers 0."""
    known = {service: containers_of(service) for service in services}
    if lost := [service for service, found in known.items() if len(found) != 1]:
        raise SystemExit(f"not made: {', '.join(lost)}")


def containers_of(service: str) -> list[str]:
    label = "io.podman.compose.service" if CONTAINER == "podman" else "com.docker.compose.service"
    project = label.replace(".service", ".project")
    return run(
        *(CONTAINER, "ps", "--all", "--quiet"),
        *("--filter", f"label={label}={service}", "--filter", f"label={project}={PROJECT}"),
    ).split()


def name_of(service: str) -> str:
    """The container of a service, whatever the tool has called it."""
    found = containers_of(service)
    if len(found) != 1:
        raise SystemExit(f"{service}: {len(found)} containers")
    return found[0]


def healthy(service: str) -> bool:
    if CONTAINER == "podman":  # nobody runs its checks without systemd: this does
        ended = subprocess.run(
            [CONTAINER, "healthcheck", "run", name_of(service)],
            env=ENVIRON,
            capture_output=True,
            check=False,
        )
        return ended.returncode == 0
    state = json.loads(run(CONTAINER, "inspect", "--format", "{{json .State}}", name_of(service)))
    return bool(state["Health"]["Status"] == "healthy")


def wait_until_healthy(*services: str) -> None:
    until = time.monotonic() + READY_SECONDS
    waiting = set(services)
    while waiting:
        waiting -= {service for service in waiting if healthy(service)}
        if waiting and time.monotonic() > until:
            logs = "\n".join(
                f"--- {s}\n{run(CONTAINER, 'logs', name_of(s))[-2000:]}" for s in waiting
            )
            raise SystemExit(f"not healthy: {', '.join(sorted(waiting))}\n{logs}")
        time.sleep(0.5)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


async def by_a_token(url: str) -> str:
    """Asks in the one conversation that a token opens, and hears its voice to the end."""
    conversation = secrets.token_hex(16)
    keys = (ROOT / "deploy/secrets/local/access_keys").read_text(encoding="utf-8")
    signing = Keys.parse(keys).signing
    if signing is None:
        raise SystemExit("deploy/secrets/local/access_keys has no seed")
    claims = Claims("compose-test", int(time.time()) + 60, [conversation], list(May))
    token = mint(claims, signing)
    async with Parley.connect(url, token=token) as parley:
        turn = parley.ask("Hello!", conversation=conversation)
        asked = await turn.accepted()
        async with asyncio.timeout(60):
            seconds = len(await turn.voice()) / BYTES_A_SECOND
    assert asked is not None
    return f"{asked.state}, {seconds:.1f} s spoken and stored"


async def rehearse() -> None:
    password = (ROOT / "deploy/secrets/local/nats_client").read_text(encoding="utf-8").strip()
    began = time.monotonic()
    say("up: " + " ".join([*COMPOSE, *PROFILES, "up"]))
    told = compose("up", "--detach", "--no-build")
    try:
        expect_containers(*SERVICES)
    except SystemExit:
        say(told[-3000:])  # the tool's own error
        raise
    await asyncio.to_thread(wait_until_healthy, *SERVICES)
    say(f"all healthy after {time.monotonic() - began:.0f} s")
    async with turns.client(f"ws://127.0.0.1:{PORTS['NATS_WEBSOCKET_PORT']}", password) as browser:
        say("by WebSocket: " + await browser.whole(await browser.ask("How are you?")))
    say("by a token: " + await by_a_token(f"ws://127.0.0.1:{PORTS['NATS_WEBSOCKET_PORT']}"))
    async with turns.client(f"nats://127.0.0.1:{PORTS['NATS_PORT']}", password) as client:
        say("one turn: " + await client.whole(await client.ask("Tell me about the sea.")))
        for how in HOW:
            for service in SERVICES:
                asked = await client.ask(f"And what about {service}?")
                await client.speaking(asked)
                for word in how:
                    await asyncio.to_thread(run, CONTAINER, word, name_of(service))
                say(f"{service}, {' and '.join(how)} meanwhile: {await client.whole(asked)}")
                await asyncio.to_thread(wait_until_healthy, service)
        say("all in all: " + await client.whole(await client.ask("Good night.")))


def main() -> int:
    if missing := missing_tools():
        words = (
            "apt-get install podman runc conmon catatonit aardvark-dns (with CNI: "
            "golang-github-containernetworking-plugin-dnsname); podman-compose is in .venv"
        )
        raise SystemExit(f"make compose-test needs {', '.join(missing)}: {words}")
    compose("down", "--volumes", check=False)
    try:
        asyncio.run(rehearse())
    except BaseException:
        for service in SERVICES:
            try:
                say(f"--- {service}\n{run(CONTAINER, 'logs', '--tail', '15', name_of(service))}")
            except SystemExit as exc:
                say(str(exc))
        raise
    finally:
        if not os.environ.get("KEEP"):
            compose("down", "--volumes", check=False)
    left = run(CONTAINER, "ps", "--all", "--format", "{{.Names}}")
    if PROJECT in left:
        raise SystemExit(f"left behind: {left}")
    say("down, nothing left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
