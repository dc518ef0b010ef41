"""The plots of docs/performance.md, as PNG and SVG, from what `--json` holds.

python -m bench.plots FILE FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.table import percentile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    Samples = Mapping[str, Mapping[str, Sequence[float]]]

CONVERSATIONS: Final = (1, 8, 16, 32, 64)
_SIZE: Final = (7.0, 4.0)
_PARTS: Final = (("chat", "#4c72b0"), ("tts", "#dd8452"), ("nats-server", "#8c8c8c"))


def first_sound(samples: Samples) -> Figure:
    """By conversations at once, a line for each who took part."""
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    for name, of in samples.items():
        found = [(n, percentile(of.get(f"first_sound_{n}", ()), 50)) for n in CONVERSATIONS]
        known = [(n, value) for n, value in found if value is not None]
        axes.plot([n for n, _ in known], [v for _, v in known], marker="o", label=name)
    axes.set(xlabel="conversations that ask at once", ylabel="first sound, p50, ms")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(CONVERSATIONS, [str(n) for n in CONVERSATIONS])
    ticks = [200, 300, 500, 1_000, 2_000, 5_000, 10_000]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def processor(samples: Samples, revisions: Sequence[str]) -> Figure:
    """A turn's, stacked by process; beside it the programs that keep nothing."""
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    bars = [(f"{name}\n{audio} s", name, audio) for audio in ("4", "20") for name in revisions]
    labels = [label for label, _, _ in bars]
    bottom = [0.0] * len(bars)
    for part, colour in _PARTS:
        heights = [percentile(samples[n].get(f"cpu_{part}_{a}", ()), 50) or 0.0 for _, n, a in bars]
        axes.bar(labels, heights, bottom=bottom, label=part, color=colour)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    others = [name for name in samples if name not in revisions and samples[name].get("cpu_4")]
    for name in others:
        for audio in ("4", "20"):
            value = percentile(samples[name].get(f"cpu_{audio}", ()), 50) or 0.0
            axes.bar([f"{name}\n{audio} s"], [value], color="#55a868")
    axes.set(ylabel="processor a turn, 32 at once, ms")
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.legend()
    return figure


def latency(samples: Samples, revisions: Sequence[str]) -> Figure:
    """From the provider's wire to a subscriber: the share that came within a time."""
    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    kinds = (
        ("token_1", "token, one stream", "-"),
        ("token_40", "token, 40 streams", "--"),
        ("frame", "audio frame", ":"),
    )
    for number, name in enumerate(revisions):
        for key, text, style in kinds:
            values = sorted(samples[name].get(key, ()))
            shares = [(at + 1) * 100 / len(values) for at in range(len(values))]
            axes.plot(values, shares, style, color=f"C{number}", label=f"{name}: {text}")
    axes.set(xlabel="ms from the provider's wire to the subscriber", ylabel="came within, %")
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def draw(found: Mapping[str, Any], folder: Path) -> None:
    """Writes them into the folder."""
    mpl.use("Agg")
    # No dates and the same ids each time: a run that finds the same changes no file.
    mpl.rcParams["svg.hashsalt"] = "parley"
    samples, revisions = found["samples"], found["revisions"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "first-sound": first_sound(samples),
        "processor": processor(samples, revisions),
        "latency": latency(samples, revisions),
    }.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
