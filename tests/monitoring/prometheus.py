"""The real Prometheus of Debian's package, with our rules, told what to ask while it runs."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import urllib3
import yaml

from local.process import ROOT, NotStarted, Process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from local.service import Service

ALERTS = ROOT / "deploy" / "monitoring" / "alerts.yaml"
NAMESPACE = "parley"
ANSWER_SECONDS = 20.0
LOOK_SECONDS = 0.2
SCRAPE_SECONDS = 15.0  # what the rules are written for
_DURATION = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def program(name: str) -> str:
    """Raises: NotStarted, when it is not here."""
    found = shutil.which(name)
    if found is None:
        raise NotStarted(f"{name} is not here: `apt-get install prometheus` brings it")
    return found


def quicker(seconds: float, factor: float) -> str:
    """A duration as Prometheus writes it, `factor` times as short."""
    return f"{max(1, round(seconds * 1000 / factor))}ms"


def _quicker(text: str, factor: float) -> str:
    def shorter(found: re.Match[str]) -> str:
        number, unit = found[1] or found[3], found[2] or found[4]
        return quicker(int(number) * _SECONDS[unit], factor)

    return _DURATION.sub(shorter, text)


def rules(factor: float = 1.0) -> dict[str, Any]:
    """Those of deploy/monitoring, every window and every `for` so many times as short.

    Thresholds stay as they are.
    """
    found: dict[str, Any] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    for group in found["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _quicker(rule["expr"], factor)
            if "for" in rule:
                rule["for"] = _quicker(f"[{rule['for']}]", factor).strip("[]")
    return found


class Prometheus(Process):
    """Asks whatever is in its `targets`, every 15 s by `factor` times as often.

    What lives as long as Prometheus: `watch` may be called again when services come and go.
    """

    start_seconds = 60.0

    def __init__(self, folder: Path, *, factor: float = 15.0) -> None:
        super().__init__("prometheus", log=folder / "prometheus.log")
        self._settings = folder
        self._factor = factor

    @property
    def _targets(self) -> Path:
        return self._settings / "targets.json"

    def _command(self) -> Sequence[str]:
        every = quicker(SCRAPE_SECONDS, self._factor)
        self._settings.mkdir(parents=True, exist_ok=True)
        (self._settings / "rules.yaml").write_text(yaml.safe_dump(rules(self._factor)))
        found = {"files": [str(self._targets)], "refresh_interval": "1s"}
        config = {
            "global": {"scrape_interval": every, "evaluation_interval": every},
            "rule_files": ["rules.yaml"],
            # A frozen one is given up after as long as it is asked, or the next is late.
            "scrape_configs": [
                {"job_name": "parley", "scrape_timeout": every, "file_sd_configs": [found]}
            ],
        }
        file = self._settings / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        if not self._targets.exists():
            self._targets.write_text("[]")
        return [
            program("prometheus"),
            f"--config.file={file}",
            "--web.listen-address=127.0.0.1:0",
            f"--storage.tsdb.path={self.folder / 'data'}",
        ]

    async def _is_ready(self) -> bool:
        if self._address() is None:
            return False
        try:
            answer = await asyncio.to_thread(
                urllib3.request, "GET", f"{self.url}/-/ready", timeout=2.0, retries=False
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def _address(self) -> str | None:
        found = re.search(r'msg="Listening on" address=(\S+)', self.said())
        return found[1] if found else None

    @property
    def url(self) -> str:
        return f"http://{self._address()}"

    def watch(self, services: Mapping[str, Service]) -> None:
        """From now on these, by the name of their pod; the labels are those of the PodMonitor."""
        told = [
            {
                "targets": [service.url("").removeprefix("http://")],
                "labels": {"namespace": NAMESPACE, "container": service.name, "pod": pod},
            }
            for pod, service in services.items()
        ]
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(told))
        new.replace(self._targets)

    async def asked(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer of its API.

        Raises: AssertionError, with what it complains of.
        """
        query = urlencode(parameters)
        answer = await asyncio.to_thread(
            urllib3.request,
            "GET",
            f"{self.url}/api/v1/{path}?{query}",
            timeout=ANSWER_SECONDS,
            retries=3,
        )
        told = json.loads(answer.data)
        assert told["status"] == "success", (parameters, told)
        assert not told.get("warnings"), (parameters, told)
        return told["data"]

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """Each series with its value now."""
        return list((await self.asked("query", query=expr))["result"])

    async def value(self, expr: str) -> float | None:
        """The highest of the series; none where there is none."""
        values = [float(series["value"][1]) for series in await self.query(expr)]
        return max((v for v in values if v == v), default=None)  # noqa: PLR0124 - not NaN

    async def firing(self) -> dict[str, dict[str, str]]:
        """The labels of one alert for each name that fires."""
        found = (await self.asked("alerts"))["alerts"]
        return {a["labels"]["alertname"]: a["labels"] for a in found if a["state"] == "firing"}

    async def until(self, condition: Callable[[], Awaitable[Any]], seconds: float) -> Any:
        """What `condition`, awaited again and again, gives once it is true.

        Raises: AssertionError, with what fired by then.
        """
        deadline = time.monotonic() + seconds
        while not (found := await condition()):
            fired = sorted(await self.firing())
            assert time.monotonic() < deadline, f"not within {seconds:g} s; what fires: {fired}"
            await asyncio.sleep(LOOK_SECONDS)
        return found
