"""A whole system, watched by a real Prometheus, to be broken on purpose while turns are asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import nats

from deploy.monitoring.dashboard import Panel, Query, panels
from local.process import ROOT
from local.service import Service
from tests.e2e.whole import FAST, assert_whole
from tests.integration.deploy.test_nats_permissions import INBOXES
from tests.monitoring.prometheus import NAMESPACE, SCRAPE_SECONDS, Prometheus
from tests.operations.test_rotation import Keyed, added

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from nats.aio.client import Client

FACTOR = 15.0  # Prometheus' second here is 15 of those that the rules are written for
WAIT = 150.0  # seconds at most for whatever is waited for
ASK_SECONDS = 0.5
SERIES = 3  # of a panel, in the table
NEXT_TO_NOTHING = 0.02
WINDOW = f"{SCRAPE_SECONDS * 4 / FACTOR:g}s"  # Grafana's $__rate_interval


def shown(query: Query, window: str = WINDOW) -> str:
    """What Grafana asks, with its variables filled in."""
    return query.promql.replace("$__rate_interval", window).replace("$namespace", NAMESPACE)


def panel(title: str) -> Panel:
    return next(panel for panel in panels() if panel.title == title)


class Replicas(Keyed):
    """With names for its replicas, as Kubernetes has names for pods."""

    def __init__(self, folder: Path, prometheus: Prometheus) -> None:
        super().__init__(folder)
        self.prometheus = prometheus
        self.pods: dict[str, Service] = {}
        self._made = 0

    def start(self, name: str, **settings: str) -> Service:
        service = super().start(name, **settings)
        self._made += 1
        self.pods[f"{name}-{self._made}"] = service
        return service

    def add(self, name: str, **settings: str) -> Service:
        """A service is forked, but where something is to be loaded before all else."""
        if "LD_PRELOAD" not in settings:
            return super().add(name, **settings)
        environ = {**os.environ, **self.environment(), **settings}
        service = Service(name, environ, log=self.folder / f"{name}-{len(self._added)}.log")
        self._added.append(service)
        self.services.append(service)
        service.spawn()
        return service

    def pod(self, service: Service) -> str:
        return next(pod for pod, each in self.pods.items() if each is service)

    def of(self, name: str) -> list[Service]:
        return [service for service in self.services if service.name == name]

    def watched(self) -> None:
        """Prometheus asks those that there are."""
        self.prometheus.watch({self.pod(service): service for service in self.services})

    async def rolled(self, *names: str, **settings: str) -> None:
        """As `kubectl rollout restart`: of each as many as there were, of the old ones nobody asks
        any more once they are told to end."""
        old = [service for name in names for service in self.of(name)]
        new = [self.start(service.name, **settings) for service in old]
        await asyncio.gather(*(service.ready() for service in new))
        self.services = [service for service in self.services if service not in old]
        self.watched()
        for service in old:
            service.signal(signal.SIGTERM)
        assert {await service.ended(WAIT) for service in old} == {0}

    def provider_accepts(self, key: str) -> None:
        """This one alone, which the folder of secrets holds."""
        self.emulator.change({"chat": {"keys": [key]}, "speech": {"keys": [key]}})

    def new_provider_key(self, key: str) -> None:
        file = self.secrets / "together_api_key"
        file.chmod(0o600)
        file.write_text(f"{key}\n", encoding="utf-8")

    def login_of(self, user: str) -> dict[str, str]:
        return {"NATS_USER": user, "NATS_PASSWORD_FILE": str(self.secrets / f"nats_{user}")}

    async def called(self, words: list[str], settings: Mapping[str, str]) -> str:
        """What a command of the runbook says; it must end well."""
        programs = {"python": [sys.executable], "parley": [sys.executable, "-m", "parley"]}
        command = [*programs.get(words[0], [str(ROOT / words[0])]), *words[1:]]
        environ = {**os.environ, **settings, "PYTHON": sys.executable}
        environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'clients' / 'python'}"
        ended = await asyncio.to_thread(
            subprocess.run,
            command,
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        return ended.stdout

    async def lost(self, service: Service) -> None:
        """As when its pod is deleted by force: another one comes in its place."""
        await service.kill()
        self.services.remove(service)
        await self.start(service.name).ready()
        self.watched()


@dataclass(slots=True)
class Row:
    """What a drill has shown; seconds are those of a clock, not of the rules."""

    drill: str
    alert: str = ""
    alert_seconds: float = 0.0
    others: dict[str, float] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    quiet_seconds: float = 0.0
    failed: int = 0
    asked: int = 0


@dataclass(slots=True)
class Field:
    """What a drill may use."""

    system: Replicas
    prometheus: Prometheus
    row: Row
    asked: list[str] = field(default_factory=list)
    _chat: Client | None = None

    async def chat(self) -> Client:
        """A connection with the login of the chat service."""
        if self._chat is None:
            self._chat = await nats.connect(
                self.system.nats.url,
                user="chat",
                password=self.system.said("nats_chat"),
                inbox_prefix=INBOXES["chat"],
            )
        return self._chat

    async def close(self) -> None:
        if self._chat is not None:
            await self._chat.close()

    # -------------------------------------------------------- turns

    @contextlib.asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """A turn each half second; whatever becomes of it."""
        ended = asyncio.Event()

        async def ask() -> None:
            while not ended.is_set():
                name = f"c{len(self.asked) % 7}"
                self.asked.append(await self.system.ask(conversation_id=name, content="Well?"))
                await asyncio.sleep(ASK_SECONDS)

        asking = asyncio.create_task(ask())
        try:
            yield
        finally:
            ended.set()
            await asking

    async def until_heard(self, count: int = 2) -> None:
        """So many turns that are asked from now on are whole."""
        first = len(self.asked)
        await self.system.ears.until(lambda: len(self.asked) >= first + count, WAIT)
        new = self.asked[first : first + count]
        await self.system.ears.whole(*new, seconds=WAIT)
        for turn_id in new:
            assert_whole(self.system.ears.turn(turn_id), self.system)

    # -------------------------------------------------------- what is run

    async def run(self, line: str, /, *, user: str = "operator", **words: str) -> str:
        """A line of the runbook, with what stands in it in capitals; what it says."""
        self.row.commands.append(line)
        settings = self.system.environment() | self.system.login_of(user)
        called: list[str] = []
        for word in shlex.split(line):
            name, sign, value = word.partition("=")
            if sign and name.isupper() and not called:
                settings[name] = words.get(name, value)
            else:
                called.append(words.get(word, word))
        return await self.system.called(called, settings)

    async def rolled(self, line: str, *names: str) -> None:
        """What `kubectl rollout restart`, which is that line, does in a cluster."""
        self.row.commands.append(line)
        await self.system.rolled(*names)

    @property
    def folder(self) -> str:
        return str(self.system.secrets)

    # -------------------------------------------------------- what is seen

    async def see(self, title: str) -> None:
        """Notes what a panel shows: its highest series, but for those that are next to nothing."""
        found: list[tuple[float, str]] = []
        one = panel(title)
        for query in one.queries:
            for series in await self.prometheus.query(shown(query)):
                value = float(series["value"][1])
                if value > NEXT_TO_NOTHING:
                    unit = "" if query.legend.endswith("(1)") else one.unit  # yes or no
                    words = f"{legend_of(query, series['metric'])} {in_unit(value, unit)}"
                    found.append((value, words))
        highest = sorted(found, reverse=True)[:SERIES]
        self.row.seen[title] = ", ".join(words for _, words in highest) or "nothing"

    async def until_fires(self, alert: str, since: float) -> float:
        """Seconds until it fires."""

        async def fires() -> bool:
            for name in await self.prometheus.firing():
                self.row.others.setdefault(name, time.monotonic() - since)
            return alert in self.row.others

        await self.prometheus.until(fires, WAIT)
        return self.row.others[alert]

    async def until_quiet(self, since: float) -> float:
        async def quiet() -> bool:
            firing = set(await self.prometheus.firing())
            for name in firing:
                self.row.others.setdefault(name, 0.0)
            return not firing

        await self.prometheus.until(quiet, 3 * WAIT)
        return time.monotonic() - since


def legend_of(query: Query, labels: Mapping[str, str]) -> str:
    """Of one series, as Grafana fills it in; without a legend of its own, its labels."""
    text = query.legend or ", ".join(labels.values())
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def in_unit(value: float, unit: str) -> str:
    match unit:
        case "percentunit":
            return f"{value * 100:.0f} %"
        case "ops":
            return f"{value:.2g}/s"
        case "s":
            return f"{value:.2g} s" if value < 100 else f"{value:,.0f} s"
        case _:
            return f"{value:,.0f}"


@contextlib.asynccontextmanager
async def in_the_field(
    folder: Path, name: str, settings: Mapping[str, str]
) -> AsyncIterator[Field]:
    """Two replicas of each service, turns asked all the time, nothing that fires."""
    async with Prometheus(folder / "prometheus", factor=FACTOR) as prometheus:
        system = Replicas(folder / "system", prometheus)
        key = str(system.secrets / "together_api_key")
        system.settings |= {"TOGETHER_API_KEY": "", "TOGETHER_API_KEY_FILE": key, **settings}
        async with system:
            system.emulator.change(FAST)
            system.new_provider_key("first-key")
            system.provider_accepts("first-key")
            system.settings |= await added(system)
            await system.up(chat=2, tts=2)
            system.watched()
            one = Field(system, prometheus, Row(name))
            async with one.traffic():
                await one.until_heard()
                query = shown(panel("First sound").queries[0])
                await prometheus.until(lambda: prometheus.value(query), WAIT)
                await one.until_quiet(time.monotonic())
                one.row.others.clear()
                try:
                    yield one
                finally:
                    await one.close()
