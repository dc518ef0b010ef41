"""deploy/nats/nats-tls.conf on a real server: what a certificate is needed for, and from where."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import nats
import nats.errors
import pytest

from local.nats_server import NatsServer, binary
from local.process import ROOT
from local.service import Service
from shared.nats.connection import load_certificate, tls_context
from tests.authority import Authority
from tests.integration.deploy.test_nats_permissions import configuration

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nats.aio.client import Client

    from shared.process.settings import NatsSettings

PAGE, OTHER_PAGE = "http://localhost:3000", "https://attacker.example"
WAIT_SECONDS = 30.0


class Guarded:
    """A server that is started with nats-tls.conf as it is, but for its ports and folders."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder, self.authority = folder / "deploy", authority
        self.pid_file = self.folder / "nats.pid"
        include = configuration(self.folder, "nats-tls.conf")
        self.renew()
        for name in ("nats.conf", "nats-tls.conf"):
            file = self.folder / name
            text = file.read_text().replace("/etc/nats/", f"{self.folder}/")
            text = text.replace("/var/run/nats/nats.pid", str(self.pid_file))
            text = text.replace("store_dir: /data", f"store_dir: {folder / 'data'}")
            text = re.sub(r"(?m)^(\s*)port: \d+", r"\1port: -1\n\1host: 127.0.0.1", text)
            file.write_text(re.sub(r"(?m)^http: \d+.*$", "", text))
        self.server = NatsServer(config=include)

    def renew(self) -> None:
        """The server's certificate, from its authority."""
        there = self.folder / "tls"
        there.mkdir(exist_ok=True)
        own = self.authority.sign("nats")
        assert own.cert is not None
        assert own.key is not None
        for source, name in ((own.cert, "tls.crt"), (own.key, "tls.key"), (own.ca, "ca.crt")):
            assert source is not None
            # As a mounted Secret: a file changes as a whole.
            new = there / f".{name}"
            new.write_bytes(open(source, "rb").read())  # noqa: PTH123, SIM115
            new.replace(there / name)

    @property
    def tcp(self) -> str:
        return self.server.url.replace("nats://", "tls://")

    @property
    def websocket(self) -> str:
        return re.sub(r"^wss?://", "wss://", self.server.ws_url)


@asynccontextmanager
async def login(url: str, user: str, tls: ssl.SSLContext, **options: Any) -> AsyncIterator[Client]:
    password = (ROOT / f"deploy/secrets/local/nats_{user}").read_text().strip()
    client = await nats.connect(
        url,
        user=user,
        password=password,
        tls=tls,
        allow_reconnect=False,
        max_reconnect_attempts=1,
        error_cb=_quiet,
        **options,
    )
    try:
        await client.flush(timeout=5)
        yield client
    finally:
        await client.close()


async def _quiet(_error: Exception) -> None: ...


def context(settings: NatsSettings) -> ssl.SSLContext:
    made = tls_context(settings)
    assert made is not None
    return made


REFUSED = (OSError, nats.errors.Error, aiohttp.ClientError)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "authority")


@pytest.fixture
async def guarded(tmp_path: Path, authority: Authority) -> AsyncIterator[Guarded]:
    made = Guarded(tmp_path, authority)
    async with made.server:
        yield made


@pytest.mark.parametrize("user", ["operator", "chat", "tts", "client"])
async def test_by_tcp_a_password_opens_nothing_without_a_certificate_of_ours(
    guarded: Guarded, authority: Authority, tmp_path: Path, user: str
) -> None:
    async with login(guarded.tcp, user, context(authority.sign(user))) as client:
        assert client.is_connected
    with pytest.raises(REFUSED):
        async with login(guarded.tcp, user, authority.trusted()):
            pass
    stranger = context(Authority.make(tmp_path / "stranger").sign(user))
    stranger.load_verify_locations(cafile=str(authority.ca))
    with pytest.raises(REFUSED):
        async with login(guarded.tcp, user, stranger):
            pass


@pytest.mark.parametrize("user", ["operator", "chat", "tts"])
async def test_by_websocket_neither_the_operator_nor_a_service_is_let_in(
    guarded: Guarded, authority: Authority, user: str
) -> None:
    for tls in (authority.trusted(), context(authority.sign(user))):
        with pytest.raises(REFUSED):
            async with login(guarded.websocket, user, tls):
                pass


async def test_by_websocket_an_application_shows_its_login_alone(
    guarded: Guarded, authority: Authority
) -> None:
    async with login(guarded.websocket, "client", authority.trusted()) as client:
        assert client.is_connected


async def test_a_page_of_another_origin_is_turned_away(
    guarded: Guarded, authority: Authority
) -> None:
    statuses: dict[str | None, int] = {}
    async with aiohttp.ClientSession() as browser:
        for origin in (PAGE, OTHER_PAGE, "null", None):
            headers = {} if origin is None else {"Origin": origin}
            try:
                async with browser.ws_connect(
                    guarded.websocket, ssl=authority.trusted(), headers=headers
                ):
                    statuses[origin] = 101
            except aiohttp.WSServerHandshakeError as exc:
                statuses[origin] = exc.status
    assert statuses == {PAGE: 101, OTHER_PAGE: 403, "null": 403, None: 101}


async def test_a_service_shows_its_certificate(guarded: Guarded, authority: Authority) -> None:
    own = authority.sign("chat")
    assert own.cert is not None
    assert own.key is not None
    environ = {
        "NATS_URL": guarded.tcp,
        "NATS_CA": str(authority.ca),
        "NATS_CERT": own.cert,
        "NATS_KEY": own.key,
        "NATS_USER": "chat",
        "NATS_PASSWORD_FILE": str(ROOT / "deploy/secrets/local/nats_chat"),
        "TOGETHER_API_KEY": "none",
        "HTTP_PORT": "0",
    }
    async with Service("chat", {**os.environ, **environ}) as chat:
        assert "nats.error" not in chat.said()


async def test_a_renewed_certificate_is_shown_by_both_sides(
    guarded: Guarded, authority: Authority
) -> None:
    """By reload.sh, as it runs beside the server, and by whoever connects anew."""
    settings = authority.sign("operator")
    tls = context(settings)
    before = await shown(guarded, tls)
    path = f"{os.path.dirname(binary())}:{os.environ['PATH']}"  # noqa: PTH120
    reloader = await asyncio.create_subprocess_exec(
        *("sh", str(guarded.folder / "reload.sh"), str(guarded.pid_file), str(guarded.folder)),
        env={**os.environ, "PATH": path, "RELOAD_SECONDS": "0.1"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert reloader.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            told = asyncio.create_task(reloader.stdout.readline())
            while not told.done():  # what it takes for known is what it finds when it begins
                guarded.renew()
                await asyncio.wait({told}, timeout=1)
            assert b"has changed" in told.result()
            while await shown(guarded, tls) == before:  # noqa: ASYNC110  another process has it
                await asyncio.sleep(0.05)
        authority.sign("operator")  # in the place of the old one
        load_certificate(tls, settings)
        async with login(guarded.tcp, "operator", tls) as client:
            assert client.is_connected
    finally:
        reloader.terminate()
        await reloader.wait()


async def shown(guarded: Guarded, tls: ssl.SSLContext) -> bytes:
    """The certificate that the WebSocket listener shows."""
    host, port = guarded.websocket.removeprefix("wss://").rstrip("/").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=tls)
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert isinstance(found, bytes)
        return found
    finally:
        writer.close()
