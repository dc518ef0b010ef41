"""Keys are changed while turns run, by what docs/operations.md tells: no turn is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
from typing import TYPE_CHECKING, Any, Self

import nats
import nats.errors
import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest
from minio import Minio
from minio.error import MinioException

from local.nats_server import NatsServer
from local.process import ROOT
from local.seaweedfs import SeaweedFS
from local.tokens import mint
from tests.e2e.whole import FAST, assert_whole, fetch
from tests.integration.access.world import browser
from tests.integration.deploy.test_nats_permissions import configuration
from tests.integration.harness import soon
from tests.operations.systems import Operated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from local.s3_server import S3Server
    from local.service import Service
    from tests.system import System

MAKE = ROOT / "deploy" / "secrets" / "make.sh"
WAIT = 90.0  # seconds: on a machine with much else to do
pytestmark = pytest.mark.timeout(300)


def secret(folder: Path, *words: str) -> str:
    """make.sh, as an operator calls it; what it says."""
    ended = subprocess.run(
        [MAKE, *words, folder],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class Keyed(Operated):
    """With secrets of its own, and a server that reads them again when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.secrets = folder / "secrets"
        secret(self.secrets)
        config = configuration(folder / "deploy", secrets=self.secrets)
        self.nats = NatsServer(folder / "nats", websocket=False, config=config)
        self.provider_key = "first-key"

    def said(self, name: str) -> str:
        return (self.secrets / name).read_text(encoding="utf-8").strip()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(self.nats.start(), self.s3.start(), self.emulator.start())
            await self.connect("client", self.said("nats_client"))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def login(self, user: str, password: str = "") -> Any:
        return await nats.connect(
            self.nats.url,
            user=user,
            password=password or self.said(f"nats_{user}"),
            allow_reconnect=False,
        )

    def start(self, name: str, **settings: str) -> Service:
        """With what the folder says now."""
        login = self.secrets / f"login_{name}"
        user = login.read_text().strip() if login.exists() else name
        file = {"NATS_PASSWORD_FILE": str(self.secrets / f"nats_{name}")}
        return self.add(name, NATS_USER=user, **file, **settings)

    async def up(self, *, chat: int = 1, tts: int = 1) -> None:
        new = [self.start(name) for name in ["chat"] * chat + ["tts"] * tts]
        await asyncio.gather(*(service.ready() for service in new))
        await self.ears.listen(self.client)

    def copy_secrets(self) -> None:
        """To where the server reads them."""
        for file in self.secrets.glob("*.conf"):
            shutil.copy(file, self.folder / "deploy" / "secrets")

    async def reload(self) -> None:
        """As reload.sh does when the mounted files have changed; returns when it is done."""
        self.copy_secrets()
        before = self.nats.said().count("Reloaded server configuration")
        self.nats.signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while self.nats.said().count("Reloaded server configuration") == before:
                assert "[ERR]" not in self.nats.said(), self.nats.said()
                await asyncio.sleep(0.02)

    async def rolled(self, *names: str, **settings: str) -> None:
        """A rolling restart: the new ones are ready before the old ones are told to end."""
        old = [service for service in self.services if service.name in names]
        new = [self.start(name, **settings) for name in names]
        await asyncio.gather(*(service.ready() for service in new))
        for service in old:
            self.services.remove(service)
            service.signal(signal.SIGTERM)
        assert {await service.ended() for service in old} <= {0}


@contextlib.asynccontextmanager
async def asked_all_the_time(system: System) -> AsyncIterator[list[str]]:
    """A turn each half second while the block runs; at its end all of them are whole, said once."""
    asked: list[str] = []
    ended = asyncio.Event()  # a cancellation may be lost: Python 3.11's wait_for, in nats-py

    async def ask() -> None:
        while not ended.is_set():
            asked.append(await system.ask(conversation_id=f"c{len(asked) % 5}", content="Well?"))
            await asyncio.sleep(0.5)

    asking = asyncio.create_task(ask())
    try:
        turns = system.ears.turns
        await system.ears.until(lambda: any(t.first_chunk for t in turns.values()), WAIT)
        yield asked
    finally:
        ended.set()
        await asking
    await system.ears.whole(*asked, seconds=WAIT)
    for turn_id in asked:
        assert_whole(system.ears.turn(turn_id), system)
        assert system.ears.turn(turn_id).deltas[-1]["attempt"] == 1


async def test_passwords_of_nats_change_with_a_rolling_restart(tmp_path: Path) -> None:
    async with Keyed(tmp_path) as system:
        system.emulator.change(FAST)
        await system.up()
        old = system.said("nats_chat")
        async with asked_all_the_time(system):
            for name in ("chat", "tts"):
                assert f"NATS_USER={name}-2" in secret(system.secrets, "--rotate", name)
            await system.reload()
            await (await system.login("chat", old)).close()  # both are let in
            await system.rolled("chat", "tts")
            for name in ("chat", "tts"):
                secret(system.secrets, "--retire", name)
            await system.reload()
        for user, password in (("chat", old), ("chat-2", old), ("chat", system.said("nats_chat"))):
            with pytest.raises(nats.errors.Error, match="Authorization"):
                await system.login(user, password)
        await (await system.login("chat-2", system.said("nats_chat"))).close()
        assert "Authorization" not in "".join(s.said() for s in system.services)


async def test_a_key_of_the_provider_changes_with_a_rolling_restart(tmp_path: Path) -> None:
    def accept(*keys: str) -> None:
        system.emulator.change({"chat": {"keys": keys}, "speech": {"keys": keys}})

    async with Keyed(tmp_path) as system:
        system.emulator.change(FAST)
        accept("old-key", "new-key")  # as the provider does until the old one is revoked
        file = system.secrets / "together_api_key"
        system.settings |= {"TOGETHER_API_KEY": "", "TOGETHER_API_KEY_FILE": str(file)}
        file.chmod(0o600)
        file.write_text("old-key\n")
        await system.up()
        async with asked_all_the_time(system):
            file.write_text("new-key\n")
            await system.rolled("chat", "tts")
            accept("new-key")
            before = len(system.emulator.record.chats)
            chats = system.emulator.record.chats
            await system.ears.until(lambda: len(chats) > before + 2, WAIT)


async def test_a_key_of_the_store_changes_with_a_rolling_restart(tmp_path: Path) -> None:
    async with Keyed(tmp_path) as system:
        system.emulator.change(FAST)
        first = await added(system)
        system.settings |= first
        await system.up()
        async with asked_all_the_time(system) as asked:
            secret(system.secrets, "--rotate", "store")
            await system.rolled("tts", **await added(system))
            await system.ears.whole(asked[-1], seconds=WAIT)
        link = await system.told("tts.link.c0", turn_id=asked[0])
        assert await asyncio.to_thread(fetch, link["url"])
        if system.s3.kind == "minio":  # another S3 has a way of its own to remove a key
            await set_up(system, "--retire", first["MINIO_ACCESS_KEY"])
            # What was signed with the old key opens nothing any more; a fresh link does.
            end = system.ears.turn(asked[0]).voice_end
            assert end is not None
            with pytest.raises(urllib.error.HTTPError, match="403"):
                await asyncio.to_thread(fetch, end["url"])
        assert await asyncio.to_thread(fetch, link["url"])
        assert_whole(await system.answered(WAIT, conversation_id="d", content="Still?"), system)


async def added(system: Keyed) -> dict[str, str]:
    """The key that the folder says is one of the store's; as settings of the speech service."""
    key, password = system.said("store_access_key"), system.said("store_secret_key")
    if system.s3.kind == "minio":
        await set_up(system)
    else:
        assert isinstance(system.s3, SeaweedFS)
        await logins(system.s3, {**keys_of(system.s3), key: password})
    return {"MINIO_ACCESS_KEY": key, "MINIO_SECRET_KEY": password}


async def set_up(system: Keyed, *words: str) -> None:
    root = {"MINIO_ROOT_USER": system.s3.access_key, "MINIO_ROOT_PASSWORD": system.s3.secret_key}
    keys = {
        f"MINIO_{name.upper()}_FILE": str(system.secrets / f"store_{name}")
        for name in ("access_key", "secret_key")
    }
    environ = {**os.environ, **root, **keys, "MINIO_ENDPOINT": system.s3.endpoint}
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(ROOT / "deploy" / "store" / "setup.py"), *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 0, ended.stderr


def keys_of(store: SeaweedFS) -> dict[str, str]:
    told = json.loads((store.folder / "logins.json").read_text(encoding="utf-8"))
    credentials = [each for user in told["identities"] for each in user["credentials"]]
    return {each["accessKey"]: each["secretKey"] for each in credentials}


async def logins(store: SeaweedFS, keys: dict[str, str]) -> None:
    """Of another S3, as its makers have it: the file is read again."""
    users = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": password}],
            "actions": ["Admin"],
        }
        for name, password in keys.items()
    ]
    (store.folder / "logins.json").write_text(json.dumps({"identities": users}), encoding="utf-8")
    store.signal(signal.SIGHUP)
    await soon(lambda: all(answers(store, *each) for each in keys.items()), 20)


def answers(store: S3Server, key: str, password: str) -> bool:
    try:
        Minio(store.endpoint, key, password, secure=False, region=store.region).list_buckets()
    except MinioException:
        return False
    return True


async def test_the_key_of_the_access_service_changes_with_a_restart_of_nats(
    tmp_path: Path,
) -> None:
    """The server keeps the issuer that it was started with; who has a token comes back."""
    async with Keyed(tmp_path) as system:
        system.emulator.change(FAST)
        await system.up()
        files = {
            "ACCESS_KEYS_FILE": str(system.secrets / "access_keys"),
            "ACCESS_ISSUER_SEED_FILE": str(system.secrets / "access_issuer_seed"),
            "ACCESS_PLAIN_TCP": "true",
        }
        await system.start("access", **files).ready()
        seed = system.said("access_keys").split()[0]
        shown = mint(seed, "c")
        async with browser(system.nats.url, shown) as before:
            assert (await before.ask("chat.ask.c", content="Hello.", turn_id="a"))["state"]
        old = system.said("access_issuer_seed")
        secret(system.secrets, "--issuer")
        assert system.said("access_issuer_seed") != old
        system.copy_secrets()
        await system.nats.restart()
        await system.rolled("access", **files)
        async with browser(system.nats.url, shown) as after:
            asked = await after.ask("chat.ask.c", content="Hello.", turn_id="b")
            assert asked["state"]
        await system.ears.until(lambda: system.ears.turn("b").voice_end is not None, WAIT)
        assert_whole(system.ears.turn("b"), system)


async def test_an_nkey_changes_beside_the_old_one(tmp_path: Path) -> None:
    """The second key of users-nkeys.conf is nobody's until passwords.conf says whose it is."""
    secrets = tmp_path / "secrets"
    secret(secrets)
    (secrets / "callout.conf").unlink()
    (secrets / "callout.conf").write_text("# Nobody is let in by a token.\n")
    names = ("access", "chat", "operator", "tts", "chat_2")
    pairs = {name: nkeys.from_seed(user_seed()) for name in names}
    public = [f'{n.upper()}_NKEY: "{pair.public_key.decode()}"' for n, pair in pairs.items()]

    def says(lines: list[str]) -> None:
        file = tmp_path / "deploy" / "secrets" / "passwords.conf"
        file.unlink(missing_ok=True)
        file.write_text("\n".join(lines) + "\n")

    async def opens(name: str) -> bool:
        seed = pairs[name].seed.decode()
        try:
            client = await nats.connect(server.url, nkeys_seed_str=seed, allow_reconnect=False)
        except nats.errors.Error:
            return False
        await client.close()
        return True

    async def reads(lines: list[str]) -> None:
        says(lines)
        before = server.said().count("Reloaded server")
        server.signal(signal.SIGHUP)
        await soon(lambda: server.said().count("Reloaded server") > before, 20)

    config = configuration(tmp_path / "deploy", "users-nkeys.conf", secrets)
    says([line for line in public if not line.startswith("CHAT_2")])
    async with NatsServer(websocket=False, config=config) as server:
        assert (await opens("chat"), await opens("chat_2")) == (True, False)
        await reads(public)
        assert (await opens("chat"), await opens("chat_2")) == (True, True)
        nobody = f'CHAT_NKEY: "{nkeys.from_seed(user_seed()).public_key.decode()}"'
        await reads([*(line for line in public if not line.startswith("CHAT_NKEY")), nobody])
        assert (await opens("chat"), await opens("chat_2")) == (False, True)


def user_seed() -> bytes:
    return bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
