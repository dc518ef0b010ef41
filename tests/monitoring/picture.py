"""docs/dashboard.svg: the panels of the dashboard, drawn of what a real Prometheus answers.

    python -m tests.monitoring.picture

A system under a little load for some minutes, of which one with a store that refuses its key.
Grafana draws the same queries; here they are drawn by matplotlib.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from deploy.monitoring.dashboard import ROWS, Panel
from local.process import ROOT
from tests.drills.drills import new_store_key, revoke_store_key
from tests.drills.field import in_the_field, legend_of, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tests.drills.field import Field

FILE = ROOT / "docs" / "dashboard.svg"
BEFORE_SECONDS, BROKEN_SECONDS, AFTER_SECONDS = 45.0, 45.0, 60.0
STEP_SECONDS = 4.0
COLUMNS = 3
UNITS = {
    "percentunit": (100.0, "%"),
    "bytes": (1e-6, "MB"),
    "s": (1.0, "s"),
    "ops": (1.0, "/s"),
    "currencyUSD": (1.0, "$"),
}

Lines = list[tuple[str, list[tuple[float, float]]]]


async def answers(field: Field, panel: Panel, begin: float, end: float) -> Lines:
    """The series of a panel: what the legend says, and its points."""
    found: Lines = []
    for query in panel.queries:
        told = await field.prometheus.asked(
            "query_range", query=shown(query, "10s"), start=begin, end=end, step=STEP_SECONDS
        )
        for series in told["result"]:
            points = [(float(t) - begin, float(v)) for t, v in series["values"]]
            found.append((legend_of(query, series["metric"]), points))
    return found


async def watched() -> dict[str, Lines]:
    """By the panels' titles."""
    with tempfile.TemporaryDirectory() as folder:
        async with in_the_field(Path(folder), "picture", {"MINIO_PATIENCE": "3"}) as field:
            begin = time.time()
            await asyncio.sleep(BEFORE_SECONDS)
            await revoke_store_key(field)
            await asyncio.sleep(BROKEN_SECONDS)
            await new_store_key(field)
            await asyncio.sleep(AFTER_SECONDS)
            end = time.time()
            print(await field.run("parley --json dead list"))
            return {
                panel.title: await answers(field, panel, begin, end)
                for row in ROWS.values()
                for panel in row
            }


def draw(found: dict[str, Lines]) -> None:
    mpl.rcParams.update(
        {
            "font.size": 6,
            "svg.hashsalt": "parley",
            "svg.fonttype": "none",
            "axes.prop_cycle": _colours(),
        }
    )
    rows = [(title, row[i : i + COLUMNS]) for title, row in ROWS.items() for i in _starts(row)]
    figure, grid = plt.subplots(len(rows), COLUMNS, figsize=(12, 1.75 * len(rows)), squeeze=False)
    before = ""
    for (title, row), places in zip(rows, grid, strict=True):
        for place in places:
            place.set_axis_off()
        for panel, place in zip(row, places, strict=False):
            place.set_axis_on()
            _panel(place, panel, found[panel.title])
        if title != before:
            places[0].text(0, 1.22, title, transform=places[0].transAxes, fontsize=9, weight="bold")
        before = title
    figure.tight_layout(h_pad=1.6)
    figure.savefig(FILE, metadata={"Date": None})


def _colours() -> Any:
    return mpl.cycler(color=mpl.colormaps["tab10"].colors)  # type: ignore[attr-defined]


def _starts(row: tuple[Panel, ...]) -> range:
    return range(0, len(row), COLUMNS)


def _panel(place: Axes, panel: Panel, lines: Lines) -> None:
    factor, unit = UNITS.get(panel.unit, (1.0, ""))
    place.set_title(f"{panel.title}{f', {unit}' if unit else ''}", loc="left", fontsize=7)
    if panel.kind == "table":
        place.set_axis_off()
        text = "\n".join(f"{name}: {points[-1][1]:g}" for name, points in lines)
        place.text(0, 0.9, text, va="top")
        return
    shown_lines = [each for each in lines if any(v for _, v in each[1] if math.isfinite(v))]
    for name, points in shown_lines or lines[:3]:
        seconds = [t for t, _ in points]
        place.plot(seconds, [v * factor for _, v in points], label=name, linewidth=0.9)
    place.grid(visible=True, linewidth=0.3)
    place.margins(x=0)
    if panel.title != "Clock off by":
        place.set_ylim(bottom=0)
    place.xaxis.set_major_formatter(lambda t, _: str(dt.timedelta(seconds=int(t)))[2:])
    place.axvspan(BEFORE_SECONDS, BEFORE_SECONDS + BROKEN_SECONDS, color="red", alpha=0.06, lw=0)
    if lines:
        place.legend(loc="upper left", fontsize=5, framealpha=0.6, ncols=1 + len(lines) // 6)


if __name__ == "__main__":
    draw(asyncio.run(watched()))
    print(f"{FILE}: {FILE.stat().st_size} bytes")
