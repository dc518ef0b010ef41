"""The access service's wiring: a server's question goes to the callout, keys are looked at."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

import nats.errors
from nats.aio.client import Client

from services.access.callout import key_in, verdict
from services.access.nats.callout import NatsCallout
from services.access.nats.connections import NatsConnections
from services.access.process.metrics import TOKENS_SHOWN
from shared.errors import NatsError
from shared.nats.connection import connect_options, load_certificate, login_options, settle
from shared.process import logs
from shared.process.ending import EXIT_FAILED, EXIT_OK, set_by_signals, unless_stopped
from shared.process.http import HttpServer, Probes, routed
from shared.process.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.access.callout import Question, Verdict
    from services.access.config import Config

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0  # a removed key is noticed within this time
# Who was let in while the key was being removed is found by the second.
SWEEPS: Final = 2
PROBE_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 5.0


class Access:
    """From start to SIGTERM."""

    def __init__(self, config: Config) -> None:
        """Raises BadSetting."""
        self.config = config
        self.keys = config.keys()
        self._client = Client()
        self._login = login_options(config.nats)
        self._stop, self._closed = asyncio.Event(), asyncio.Event()
        self._sweeps = SWEEPS  # a key may have been removed while nobody looked

    async def run(self) -> int:
        """Returns the exit status. Raises BadSetting."""
        set_by_signals(self._stop)
        probes = Probes()
        settings = self.config.process
        server = HttpServer(routed(probes.routes()), settings.http_host, settings.http_port)
        server.start()
        log.info("process.started", extra={"service": "access", "http_port": server.port})
        try:
            return await self._live(probes)
        finally:
            probes.ready = False
            with contextlib.suppress(Exception):  # going down anyhow
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._client.close()
            await server.stop()
            log.info("process.stopped", extra={"service": "access"})

    async def _live(self, probes: Probes) -> int:
        try:
            if not await unless_stopped(self._connect(), self._stop):
                return EXIT_OK
        except nats.errors.Error as exc:  # what no patience mends; the rest is tried again
            raise BadSetting(f"NATS_URL or its login: refused by the server: {exc}") from None
        callout = NatsCallout(self._client, self.judge)
        await callout.start()
        probes.checks = [self.waiting]
        probes.ready = True
        log.info("process.ready", extra={"service": "access", "keys": len(self.keys.public)})
        looking = asyncio.create_task(self._look_at_keys())
        ended = [asyncio.create_task(event.wait()) for event in (self._stop, self._closed)]
        try:
            await asyncio.wait({looking, *ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            probes.ready = False
            for task in (looking, *ended):
                task.cancel()
        if self._stop.is_set():
            await callout.stop()
            return EXIT_OK
        log.error("process.failed", extra={"reason": "the NATS connection is closed for good"})
        return EXIT_FAILED

    async def _connect(self) -> None:
        await self._client.connect(
            **connect_options(self.config.nats, "parley-access"),
            **self._login,
            closed_cb=self._on_closed,
            disconnected_cb=self._on_disconnect,
            error_cb=self._on_error,
        )

    async def _on_closed(self) -> None:
        self._closed.set()

    async def _on_disconnect(self) -> None:
        log.warning("nats.disconnected")
        if "tls" in self._login:
            try:
                load_certificate(self._login["tls"], self.config.nats)
            except OSError as exc:  # the one that we have may do
                log.warning("nats.certificate_unreadable", extra={"reason": str(exc)})

    async def _on_error(self, exc: Exception) -> None:
        log.warning("nats.error", extra={"reason": f"{type(exc).__name__}: {exc}"})

    async def waiting(self) -> Mapping[str, str]:
        """What it cannot work without; asked by each probe."""
        try:
            await settle(self._client, seconds=PROBE_SECONDS)
        except NatsError as exc:
            return {"nats": str(exc)}
        return {} if self.keys.public else {"keys": "there is none in ACCESS_KEYS_FILE"}

    # ------------------------------------------------------------ who comes in

    def judge(self, asked: Question) -> Verdict:
        found = verdict(asked, self.keys, time.time(), self.config.rules)
        who = {"host": asked.nats.client_info.host, "by": asked.nats.client_info.type}
        if found.token is None:
            log.warning("access.refused", extra={**who, "reason": found.refused})
            TOKENS_SHOWN.labels("refused").inc()
        else:
            claims = found.token.claims
            extra = {**who, "sub": claims.sub, "conversations": len(claims.conversations)}
            log.info("access.granted", extra=extra)
            TOKENS_SHOWN.labels("granted").inc()
        return found

    # ------------------------------------------------------------ who has to go

    async def _look_at_keys(self) -> None:
        connections = NatsConnections(self._client, self.config.rules.account)
        while True:
            self._read_keys()
            if self._sweeps:
                await self._sweep(connections)
            await asyncio.sleep(LOOK_SECONDS)

    def _read_keys(self) -> None:
        """A file that cannot be read changes nothing: it may be half written."""
        try:
            keys = self.config.keys()
        except BadSetting as exc:
            log.warning("access.keys_not_read", extra={"reason": str(exc)})
            return
        if keys.public.keys() == self.keys.public.keys():
            return
        log.info("access.keys_changed", extra={"keys": len(keys.public)})
        self.keys, self._sweeps = keys, SWEEPS

    async def _sweep(self, connections: NatsConnections) -> None:
        try:
            ended = await connections.end(self._is_over)
        except NatsError as exc:
            # They end with their tokens, at the latest.
            log.warning("access.not_ended", extra={"reason": str(exc)})
            return
        self._sweeps -= 1
        if ended:
            log.info("access.ended", extra={"connections": ended})

    def _is_over(self, name: str) -> bool:
        key = key_in(name)
        return bool(key) and key not in self.keys.public


async def serve(config: Config) -> int:
    """Runs the service until SIGTERM, SIGINT or its failure. Raises BadSetting."""
    logs.configure(config.process.log_level, config.process.log_format)
    return await Access(config).run()
