"""The table: each figure with its goal, for each revision that was measured."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Samples = Mapping[str, Mapping[str, Sequence[float]]]
    Figure = Callable[["Of"], "float | None"]


AT_ONCE: Final = (1, 8, 16, 32, 64)
MEASURING: Final = ("client", "emulator")


@dataclass(frozen=True, slots=True)
class Of:
    """The samples of one revision, beside those of the direct program in the same run."""

    mine: Mapping[str, Sequence[float]]
    direct: Mapping[str, Sequence[float]]

    def median(self, figure: str) -> float | None:
        return percentile(self.mine.get(figure, ()), 50)

    def p99(self, figure: str) -> float | None:
        return percentile(self.mine.get(figure, ()), 99)

    def beside_direct(self, figure: str, theirs: str = "") -> float | None:
        floor = percentile(self.direct.get(theirs or figure, ()), 50)
        return _ratio(self.median(figure), floor)


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    text: str
    unit: str
    figure: Figure
    goal: float | None = None
    way: Literal["<=", ">="] = "<="

    def met(self, value: float | None) -> bool | None:
        """None where there is no goal, or no figure."""
        if self.goal is None or value is None:
            return None
        return value <= self.goal if self.way == "<=" else value >= self.goal

    @property
    def wanted(self) -> str:
        return "" if self.goal is None else f"{self.way} {shown(self.goal)}"


def percentile(values: Sequence[float], of_hundred: int) -> float | None:
    """None of nothing; of few values the highest where that percentile is above them."""
    if not values:
        return None
    if of_hundred == 50:
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * of_hundred // 100)]


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _sum(of: Of, *figures: str) -> float | None:
    found = [of.median(figure) for figure in figures]
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def _difference(of: Of, more: str, less: str) -> float | None:
    one, other = of.median(more), of.median(less)
    return None if one is None or other is None else one - other


def _slower(of: Of) -> float | None:
    found = [of.median(figure) for figure in ("start_chat", "start_tts")]
    return max((value for value in found if value is not None), default=None)


ROWS: Final[tuple[Row, ...]] = (
    Row(
        "cpu_4",
        "processor a turn, chat + tts, 32 at once (60 tokens, 4 s of audio)",
        "ms",
        lambda of: _processor(of, "4"),
        20,
    ),
    Row(
        "cpu_20",
        "the same with 20 s of audio",
        "ms",
        lambda of: _processor(of, "20"),
        30,
    ),
    Row("cpu_nats", "nats-server a turn", "ms", lambda of: of.median("cpu_nats-server_4"), 10),
    Row(
        "first_1", "first sound p50, one conversation", "ms", lambda of: of.median("first_sound_1")
    ),
    *(
        Row(
            f"first_{count}",
            f"first sound p50, {count} at once",
            "ms",
            lambda of, count=count: of.median(f"first_sound_{count}"),  # type: ignore[misc]
        )
        for count in (8, 16, 32, 64)
    ),
    Row(
        "ratio_32",
        "first sound, 32 at once / one",
        "",
        lambda of: _ratio(of.median("first_sound_32"), of.median("first_sound_1")),
        1.10,
    ),
    Row(
        "ratio_64",
        "first sound, 64 at once / one",
        "",
        lambda of: _ratio(of.median("first_sound_64"), of.median("first_sound_1")),
        1.5,
    ),
    Row(
        "token_1", "token to subscriber, one stream, p50", "ms", lambda of: of.median("token_1"), 1
    ),
    Row(
        "token_1_p99", "token to subscriber, one stream, p99", "ms", lambda of: of.p99("token_1"), 3
    ),
    Row(
        "token_40",
        "token to subscriber, 40 streams, p50",
        "ms",
        lambda of: of.median("token_40"),
        1.5,
    ),
    Row(
        "token_40_p99",
        "token to subscriber, 40 streams, p99",
        "ms",
        lambda of: of.p99("token_40"),
        10,
    ),
    Row("frame", "audio frame to subscriber, p50", "ms", lambda of: of.median("frame"), 1),
    Row(
        "history",
        "1,000 messages of history against 10, first word",
        "ms",
        lambda of: _difference(of, "first_word_1000", "first_word_10"),
        3,
    ),
    Row(
        "beside_direct",
        "first sound, one conversation / direct",
        "",
        lambda of: of.beside_direct("first_sound_1"),
        0.65,
    ),
    Row(
        "far_away",
        "first sound, connects of 100 ms / the provider's example",
        "",
        lambda of: of.beside_direct("first_sound_far", "example"),
        0.50,
    ),
    Row(
        "whole",
        "whole turn with the stored object / direct",
        "",
        lambda of: of.beside_direct("whole_1"),
        1.05,
    ),
    Row(
        "accepted",
        "requests accepted on `chat.request`, in order",
        "/s",
        lambda of: of.median("accepted"),
        5_000,
        ">=",
    ),
    Row(
        "memory",
        "memory a further conversation, both services",
        "MB",
        lambda of: of.median("memory"),
        0.15,
    ),
    Row("peak", "the same at the peak, as its voice is stored", "MB", lambda of: of.median("peak")),
    Row(
        "replicas",
        "turns/s, two replicas of each / one",
        "",
        lambda of: of.median("replicas"),
        1.8,
        ">=",
    ),
    Row("start", "start to ready, warm, the slower service", "s", _slower, 1.0),
)


def shown(value: float | None) -> str:
    """A figure with as many digits as say something."""
    if value is None:
        return "-"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def figures(samples: Samples, name: str) -> dict[str, float | None]:
    """By the key of its row."""
    of = Of(samples.get(name, {}), samples.get("direct", {}))
    return {row.key: row.figure(of) for row in ROWS}


_MET: Final = {True: "yes", False: "no", None: ""}


def lines(found: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, ...]]:
    """A heading, then a line for each row; `found` has today's revision first."""
    names = list(found)
    table: list[tuple[str, ...]] = [("figure", "", *names, "goal", "met")]
    for row in ROWS:
        values = [found[name][row.key] for name in names]
        met = _MET[row.met(values[0])]
        table.append((row.text, row.unit, *(shown(value) for value in values), row.wanted, met))
    return table


def plain(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    rows = (
        "  ".join(_cell(*each) for each in zip(line, widths, range(99), strict=False))
        for line in table
    )
    return "\n".join(row.rstrip() for row in rows)


def _cell(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column < 2 else text.rjust(width)


def markdown(table: Sequence[Sequence[str]]) -> str:
    heading, *rest = table
    out = [f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    return "\n".join([*out, *(f"| {' | '.join(line)} |" for line in rest)])


def named(table: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """The units behind the figures' names, in the place of a column."""
    heading, *rest = table
    found = [(heading[0], *heading[2:])]
    for text, unit, *cells in rest:
        found.append((f"{text}, {unit}" if unit else text, *cells))
    return found


def beside(samples: Samples) -> list[tuple[str, ...]]:
    """Everybody who took part, ours too, by what all of them can be asked for."""
    table: list[tuple[str, ...]] = [
        (
            "32 at once where it does not say else",
            *(f"first sound, {count}, ms" for count in AT_ONCE),
            "processor a turn, 4 s, ms",
            "20 s, ms",
            "of the audio heard",
        )
    ]
    floor = percentile(samples["direct"].get("heard_32", ()), 50)
    for name, mine in samples.items():
        of = Of(mine, samples["direct"])
        firsts = (shown(of.median(f"first_sound_{count}")) for count in AT_ONCE)
        used = (shown(_processor(of, audio)) for audio in ("4", "20"))
        table.append((name, *firsts, *used, shown(_ratio(of.median("heard_32"), floor))))
    return table


def _processor(of: Of, audio: str) -> float | None:
    """Of what answers: a program, or both services."""
    alone = of.median(f"cpu_{audio}")
    return _sum(of, f"cpu_chat_{audio}", f"cpu_tts_{audio}") if alone is None else alone


def second_of_audio(mine: Mapping[str, Sequence[float]]) -> str:
    """What each process takes for it; nothing where that was not measured."""
    of = Of(mine, {})
    found = {
        name: _difference(of, f"cpu_{name}_20", f"cpu_{name}_4")
        for name in ("chat", "tts", "nats-server")
    }
    known = {name: more / 16 for name, more in found.items() if more is not None}
    return ", ".join(f"{name} {shown(more)} ms" for name, more in known.items())


def measuring(samples: Samples, name: str) -> dict[str, float | None]:
    """What the measuring itself costs, in ms of processor a turn, 32 at once."""
    return {who: percentile(samples[name].get(f"cpu_{who}_4", ()), 50) for who in MEASURING}
