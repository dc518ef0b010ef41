"""How full the streams are and how far behind their consumers, as one replica reads it for all.

Nobody is elected by writing anything: who asks the server has its answers sent where every replica
of the service hears them. The oldest goes on; a younger one that hears it falls silent, and asks
again when nothing was heard for a while, or when the one that asked takes its leave. Who hears a
younger one asks at once, so that it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily

from shared.contract import DEAD_LETTERS_STREAM, SPEECH_BUCKET, TTS_AUDIO_STREAM, UNREADABLE
from shared.errors import NatsError
from shared.nats.connection import settle
from shared.nats.provision import Asset, Consumer, Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from shared.nats.connection import Connection
    from shared.nats.wire import Incoming

EVERY_SECONDS: Final = 15.0
GONE_AFTER: Final = 2.5  # rounds without a word: the one that asked is no more
_LEFT: Final = "left"  # in the place of who asks: it does so no more
KEPT_ROUNDS: Final = 3.0  # an answer that is older than this says nothing of now


def read_by(service: str, assets: Sequence[Asset]) -> list[Asset]:
    """Each is read by one service, which may look at it anyhow."""
    theirs = {TTS_AUDIO_STREAM, f"KV_{SPEECH_BUCKET}"}

    def is_of_tts(asset: Asset) -> bool:
        name = asset.stream if isinstance(asset, Consumer) else getattr(asset, "name", "")
        return name in theirs or name.startswith("TTS_")

    return [asset for asset in assets if is_of_tts(asset) == (service == "tts")]


class Levels:
    """Of `assets`, for the replicas of a service. A collector of Prometheus: who does not ask the
    server shows nothing."""

    def __init__(
        self,
        connection: Connection,
        service: str,
        assets: Sequence[Asset],
        *,
        every: float = EVERY_SECONDS,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._connection, self._assets, self._every = connection, tuple(assets), every
        self._registry = registry
        self._inbox = f"_INBOX.parley-{service}.levels"
        self._own = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"  # the oldest is the smallest
        self._older_heard = -math.inf
        self._asked = -math.inf
        self._found: dict[Asset, tuple[float, dict[str, Any]]] = {}
        self._ask_again = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        heard = await self._connection.subscribe(f"{self._inbox}.>", self._on_answer)
        with contextlib.suppress(NatsError):  # then the first answers come with the next round
            await settle(self._connection.client)
        self._registry.register(self)
        try:
            while True:
                self._ask_again.clear()
                if not self._is_silent:
                    await self._ask()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await self._ask_again.wait()
        finally:
            self._registry.unregister(self)
            await self._leave()
            await self._connection.unsubscribe(heard)

    @property
    def _is_silent(self) -> bool:
        """An older replica asks."""
        return time.monotonic() - self._older_heard < GONE_AFTER * self._every

    async def _ask(self) -> None:
        self._asked = time.monotonic()
        for number, asset in enumerate(self._assets):
            await self._send(asset, f"{self._own}.{number}")

    async def _leave(self) -> None:
        """Somebody else asks from now on."""
        if not self._is_silent:
            await self._send(self._assets[0], f"{_LEFT}.{self._own}")

    async def _send(self, asset: Asset, reply: str) -> None:
        with contextlib.suppress(NatsError):  # offline: asked in the next round
            await self._connection.send(f"$JS.API.{asset.info}", reply=f"{self._inbox}.{reply}")

    def _on_answer(self, msg: Incoming) -> None:
        who, _, number = msg.subject.removeprefix(f"{self._inbox}.").partition(".")
        if who == self._own:
            self._note(self._assets[int(number)], msg.data)
        elif who == _LEFT:
            self._older_heard = -math.inf
            self._ask_again.set()
        elif who < self._own:
            self._older_heard = time.monotonic()
            self._found.clear()
        elif not self._is_silent and time.monotonic() - self._asked > self._every / 10:
            self._asked = time.monotonic()
            self._ask_again.set()

    def _note(self, asset: Asset, data: bytes) -> None:
        if self._is_silent:
            return
        with contextlib.suppress(*UNREADABLE):
            answer = msgspec.json.decode(data)
            if "error" in answer:
                self._found.pop(asset, None)
            else:
                self._found[asset] = time.monotonic(), answer

    # ------------------------------------------------------------ for Prometheus

    def describe(self) -> Iterable[Metric]:
        """Nothing is looked for at the registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        since = time.monotonic() - KEPT_ROUNDS * self._every
        fresh = {asset: found for asset, (at, found) in self._found.items() if at >= since}
        streams = {a.name: found for a, found in fresh.items() if isinstance(a, Stream)}
        consumers = {a: found for a, found in fresh.items() if isinstance(a, Consumer)}
        if streams:
            yield from _of_streams(streams)
        if consumers:
            yield from _of_consumers(consumers)
        if DEAD_LETTERS_STREAM in streams:
            held = GaugeMetricFamily("parley_dead_letters_held", "Dead letters that are kept")
            held.add_metric([], streams[DEAD_LETTERS_STREAM]["state"]["messages"])
            yield held


def _of_streams(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    held = GaugeMetricFamily("parley_stream_bytes", "That a stream holds", labels=["stream"])
    limit = GaugeMetricFamily("parley_stream_bytes_limit", "That it may hold", labels=["stream"])
    messages = GaugeMetricFamily("parley_stream_messages", "That it holds", labels=["stream"])
    for name, info in found.items():
        held.add_metric([name], info["state"]["bytes"])
        most = info["config"].get("max_bytes", 0)
        limit.add_metric([name], most if most > 0 else math.inf)
        messages.add_metric([name], info["state"]["messages"])
    yield from (held, limit, messages)


def _of_consumers(found: Mapping[Consumer, Mapping[str, Any]]) -> Iterator[Metric]:
    labels = ["stream", "consumer"]
    lag = GaugeMetricFamily("parley_consumer_lag", "Messages that nobody has", labels=labels)
    unacked = GaugeMetricFamily("parley_consumer_unacked", "That a worker has", labels=labels)
    for asset, info in found.items():
        lag.add_metric([asset.stream, asset.name], info["num_pending"])
        unacked.add_metric([asset.stream, asset.name], info["num_ack_pending"])
    yield from (lag, unacked)
