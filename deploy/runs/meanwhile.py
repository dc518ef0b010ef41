"""Turns through a cluster while something is done to it: all of them are whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from typing import TYPE_CHECKING

from deploy.runs import turns
from deploy.runs.cluster import NAMESPACE, ROOT, SERVICES, forwarded, inside, ready, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AT_ONCE = 6


@contextlib.asynccontextmanager
async def client(namespace: str = NAMESPACE) -> AsyncIterator[turns.Client]:
    """Of the installation in a namespace, with the password that it was made with."""
    password = (ROOT / "deploy/secrets/local/nats_client").read_text(encoding="utf-8").strip()
    with (
        forwarded("nats", 4222, namespace=namespace) as nats_port,
        forwarded("store", 9000, namespace=namespace) as store_port,
    ):

        def link(url: str) -> urllib.request.Request:
            here = url.replace("//store:9000/", f"//127.0.0.1:{store_port}/")
            return urllib.request.Request(here, headers={"Host": "store:9000"})  # noqa: S310  ours

        async with turns.client(f"nats://127.0.0.1:{nats_port}", password, link) as found:
            yield found


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


async def meanwhile(client: turns.Client, what: str, *commands: list[str]) -> None:
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
