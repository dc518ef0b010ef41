"""The life of a service: start, signals, drain.

Stopping has an order: not ready, no new work, finish what is in hand, hand back the rest, close.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

import nats.errors
from faststream.asgi import AsgiFastStream
from faststream.nats import NatsBroker
from faststream.nats.security import (
    NatsCredentials,
    NatsNKey,
    NatsSecurity,
    NatsUserPassword,
)

from shared.errors import NatsError
from shared.nats.connection import Connection, connect_options, load_certificate, tls_context
from shared.nats.levels import Levels, read_by
from shared.nats.provision import Asset, assets_of, provision, say_storage
from shared.nats.watch import Watch
from shared.process import logs, tracing
from shared.process.ending import EXIT_FAILED, EXIT_OK, set_by_signals, unless_stopped
from shared.process.http import HttpServer, Probes
from shared.process.metrics import DRAINING, NATS_CONNECTED, NATS_RECONNECTS, PUBLISH_WINDOW
from shared.process.settings import BadSetting, NatsSettings, ProcessSettings, Retention
from shared.retry import NATS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence


log = logging.getLogger(__name__)


class Worker(Protocol):
    """What a service does, from start to end."""

    def subscribe(self, broker: NatsBroker) -> None:
        """Registers the requests that FastStream takes; called before anything is started."""
        ...

    async def start(self, connection: Connection) -> None:
        """Begins to take work; NATS is connected and provisioned."""
        ...

    async def failed(self) -> None:
        """Returns or raises when the worker cannot go on by itself."""
        ...

    async def waiting(self) -> Mapping[str, str]:
        """What else it cannot work without and does not have at this moment, by name, and why:
        such as `{"store": "the key is refused"}`. Empty while it is ready; asked by each probe."""
        ...

    async def drain(self, grace: float) -> None:
        """Takes nothing new, finishes within `grace` seconds, hands back the rest."""
        ...


def _security(settings: NatsSettings, tls: ssl.SSLContext | None) -> NatsSecurity:
    if settings.creds:
        return NatsCredentials.from_file(settings.creds, ssl_context=tls)
    if settings.nkey_seed:
        return NatsNKey.from_seed(settings.nkey_seed, ssl_context=tls)
    if settings.user and settings.password:
        return NatsUserPassword(settings.user, settings.password, ssl_context=tls)
    return NatsSecurity(ssl_context=tls)


def _tls(settings: NatsSettings) -> ssl.SSLContext | None:
    try:
        return tls_context(settings)
    except OSError as exc:
        raise BadSetting(f"NATS_CA, NATS_CERT, NATS_KEY: not to be read: {exc}") from exc


async def _provision(connection: Connection, assets: Sequence[Asset]) -> None:
    """Tries again while JetStream is not there yet; Mismatch ends it."""
    for pause in NATS.pauses():
        try:
            await provision(connection, assets)
        except NatsError as exc:
            log.warning("process.provision_retried", extra={"reason": str(exc)})
            await asyncio.sleep(pause)
        else:
            return


async def serve(
    name: str,
    worker: Worker,
    *,
    process: ProcessSettings,
    nats_settings: NatsSettings,
    retention: Retention,
) -> int:
    """Runs the service until SIGTERM, SIGINT or its failure; returns the exit status.

    Raises:
        BadSetting, Mismatch: the start is stopped by a setting.
    """
    logs.configure(process.log_level, process.log_format)
    tracing.configure(process.otlp_endpoint, name)
    return await _Process(name, worker, process, nats_settings, retention).run()


class _Process:
    def __init__(
        self,
        name: str,
        worker: Worker,
        settings: ProcessSettings,
        nats_settings: NatsSettings,
        retention: Retention,
    ) -> None:
        self._name, self._worker, self._settings = name, worker, settings
        self._nats, self._retention = nats_settings, retention
        self._stop, self._closed = asyncio.Event(), asyncio.Event()
        self._probes = Probes()
        self._connection: Connection | None = None
        self._tls = _tls(nats_settings)
        self._broker = NatsBroker(
            **connect_options(nats_settings, f"parley-{name}"),
            security=_security(nats_settings, self._tls),
            closed_cb=self._on_closed,
            reconnected_cb=self._on_reconnect,
            disconnected_cb=self._on_disconnect,
            error_cb=self._on_error,
            logger=None,
            graceful_timeout=5.0,
        )
        worker.subscribe(self._broker)
        self._app = AsgiFastStream(self._broker, asgi_routes=self._probes.routes(), logger=None)

    async def _on_closed(self) -> None:
        self._closed.set()

    async def _on_reconnect(self) -> None:
        NATS_RECONNECTS.inc()
        log.info("nats.reconnected")
        if self._connection is not None:
            await self._connection.reconnected()

    async def _on_disconnect(self) -> None:
        log.warning("nats.disconnected")
        if self._tls is not None:
            try:
                load_certificate(self._tls, self._nats)
            except OSError as exc:  # the one that we have may do
                log.warning("nats.certificate_unreadable", extra={"reason": str(exc)})
        if self._connection is not None:
            await self._connection.disconnected()

    async def _on_error(self, exc: Exception) -> None:
        log.warning("nats.error", extra={"reason": f"{type(exc).__name__}: {exc}"})

    async def run(self) -> int:
        set_by_signals(self._stop)
        server = HttpServer(self._app, self._settings.http_host, self._settings.http_port)
        server.start()
        log.info("process.started", extra={"service": self._name, "http_port": server.port})
        try:
            return await self._live()
        finally:
            self._probes.ready = False
            with contextlib.suppress(Exception):  # going down anyhow; each step has its deadline
                async with asyncio.timeout(10):
                    await self._app.stop()
            await server.stop()
            await asyncio.to_thread(tracing.stop)
            log.info("process.stopped", extra={"service": self._name})

    async def _live(self) -> int:
        try:
            if not await unless_stopped(self._broker.connect(), self._stop):
                return EXIT_OK
        except nats.errors.Error as exc:  # what no patience mends; the rest is tried again
            raise BadSetting(f"NATS_URL or its login: refused by the server: {exc}") from None
        client = self._broker.connection
        connection = self._connection = Connection(client)
        NATS_CONNECTED.set_function(lambda: connection.up)
        PUBLISH_WINDOW.set_function(lambda: connection.unacked)
        await self._connection.start()
        replicas = self._nats.replicas
        assets = assets_of(self._name, replicas, self._retention)
        if not await unless_stopped(_provision(self._connection, assets), self._stop):
            return EXIT_OK
        await say_storage(self._connection, replicas, self._retention)
        await self._worker.start(self._connection)
        await self._app.start()
        watch = Watch(self._connection, assets)
        self._probes.checks = [watch.waiting, self._worker.waiting]
        self._probes.ready = True
        log.info("process.ready", extra={"service": self._name})
        levels = Levels(self._connection, self._name, read_by(self._name, assets))
        reading = asyncio.create_task(levels.run())
        try:
            status = await _until_end(self._worker, watch, self._stop, self._closed)
        finally:
            reading.cancel()
        self._probes.ready = False
        if not self._closed.is_set():
            grace = self._settings.shutdown_grace if status == EXIT_OK else 0
            DRAINING.set(1)
            log.info("process.draining", extra={"grace": grace})
            await self._worker.drain(grace)
        return status


async def _until_end(
    worker: Worker, watch: Watch, stop: asyncio.Event, closed: asyncio.Event
) -> int:
    """Waits for the first reason to end, and names it."""
    waits: dict[str, asyncio.Task[Any]] = {
        "stop": asyncio.create_task(stop.wait()),
        "closed": asyncio.create_task(closed.wait()),
        "failed": asyncio.create_task(worker.failed()),
        "gone": asyncio.create_task(watch.run()),
    }
    await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
    ended = {name for name, task in waits.items() if task.done()}
    for name in waits.keys() - ended:
        waits[name].cancel()
    if "stop" in ended:
        return EXIT_OK
    for name in ended & {"failed", "gone"}:
        log.error("process.failed", exc_info=waits[name].exception())
    if "closed" in ended:
        log.error("process.failed", extra={"reason": "the NATS connection is closed for good"})
    return EXIT_FAILED
