"""The Grafana dashboard, as data: rows of panels, each with the queries that it shows.

`$namespace` and `$datasource` are chosen on the dashboard; `NS` in a query stands for the former.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

NAMESPACE: Final = 'namespace=~"$namespace"'
WIDTH: Final = 24  # of Grafana's grid
HEIGHT: Final = 7
FAILED: Final = 'outcome="failed",code!~"invalid_request|too_large|busy|not_found|provider_refused"'
OURS: Final = 'job=~"(.+/)?parley"'  # whatever a process exports that is not ours by its name


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL and the legend of its series."""

    expr: str
    legend: str = ""

    @property
    def promql(self) -> str:
        return self.expr.replace("NS", NAMESPACE)


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    unit: str  # as Grafana calls it
    queries: tuple[Query, ...]
    about: str = ""
    kind: str = "timeseries"


def _quantiles(metric: str, by: str = "", legend: str = "") -> tuple[Query, ...]:
    """Half of them, and nineteen of twenty, are quicker."""
    labels = f"{by}, le" if by else "le"
    seconds = f"sum by ({labels}) (rate({metric}_bucket{{NS}}[$__rate_interval]))"
    return tuple(
        Query(f"histogram_quantile({share}, {seconds})", f"{name} {legend}".strip())
        for share, name in ((0.5, "p50"), (0.95, "p95"))
    )


def _rate(metric: str, by: str, *, labels: str = "") -> Query:
    matched = f"NS,{labels}" if labels else "NS"
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return Query(f"sum by ({by}) (rate({metric}{{{matched}}}[$__rate_interval]))", legend)


def _now(metric: str, by: str, *, how: str = "sum") -> Query:
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return Query(f"{how} by ({by}) ({metric}{{NS}})", legend)


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "What users feel": (
        Panel(
            "First sound",
            "s",
            _quantiles("parley_first_sound_seconds"),
            "From the request to speak in its stream to the first chunk of the voice.",
        ),
        Panel(
            "First text",
            "s",
            _quantiles("parley_first_token_seconds"),
            "From the request in its stream to the first word.",
        ),
        Panel(
            "Silence between pieces",
            "s",
            _quantiles("parley_piece_gap_seconds"),
            "For who plays in real time; 0 is none.",
        ),
        Panel(
            "Whole turn, whole voice",
            "s",
            _quantiles("parley_turn_seconds", "service", "{{service}}"),
        ),
        Panel(
            "Failed, of all",
            "percentunit",
            (
                Query(
                    f"sum by (service) (rate(parley_turns_total{{NS,{FAILED}}}[$__rate_interval]))"
                    " / sum by (service) (rate(parley_turns_total{NS}[$__rate_interval]))",
                    "{{service}}",
                ),
            ),
            "By our failure, or that of whom we need; the goal is 1 %.",
        ),
        Panel(
            "Failures by code",
            "ops",
            (_rate("parley_turns_total", "service, code", labels='outcome="failed"'),),
            "`provider_auth` is the key, `storage_unavailable` the store or a full bucket.",
        ),
    ),
    "Work": (
        Panel("Turns and voices ended", "ops", (_rate("parley_turns_total", "service, outcome"),)),
        Panel("In hand", "short", (_now("parley_turns_under_way", "service"),)),
        Panel(
            "Waiting",
            "short",
            (
                Query("sum by (service) (parley_requests_waiting{NS})", "{{service}}"),
                Query("max by (consumer) (parley_consumer_lag{NS})", "in the stream, {{consumer}}"),
                Query("max by (consumer) (parley_consumer_unacked{NS})", "unacked, {{consumer}}"),
            ),
            "Held for their turn in a conversation; not yet taken; taken and not yet done.",
        ),
        Panel(
            "Wait in the queue",
            "s",
            _quantiles("parley_queue_wait_seconds", "service", "{{service}}"),
        ),
        Panel(
            "Begun, come again, handed back",
            "ops",
            (
                Query(
                    "sum by (service) (rate(parley_attempts_total{NS}[$__rate_interval]))",
                    "{{service}} begun",
                ),
                Query(
                    "sum by (service) (rate(parley_redeliveries_total{NS}[$__rate_interval]))",
                    "{{service}} come again",
                ),
                Query(
                    "sum by (service, reason)"
                    " (rate(parley_handed_back_total{NS}[$__rate_interval]))",
                    "{{service}} handed back, {{reason}}",
                ),
                Query(
                    "sum by (service) (rate(parley_fenced_writes_total{NS}[$__rate_interval]))",
                    "{{service}} refused, another has it",
                ),
            ),
        ),
        Panel(
            "Dead letters",
            "short",
            (
                Query("max(parley_dead_letters_held{NS})", "held"),
                Query(
                    "sum by (service, code)"
                    " (increase(parley_dead_letters_total{NS}[$__rate_interval]))",
                    "{{service}} {{code}}",
                ),
                Query(
                    "sum by (subject, code) (increase(parley_refused_total{NS}[$__rate_interval]))",
                    "not understood, {{subject}} {{code}}",
                ),
            ),
        ),
    ),
    "Provider": (
        Panel(
            "Calls tried again",
            "ops",
            (_rate("parley_provider_retries_total", "service, code"),),
        ),
        Panel(
            "Speech sockets",
            "short",
            (
                Query("sum(parley_speech_sockets{NS})", "open"),
                Query("sum(parley_speech_sockets_limit{NS})", "at most"),
                Query("sum(parley_speech_turns_waiting{NS})", "voices that wait for one"),
            ),
        ),
        Panel(
            "What happened on sockets",
            "ops",
            (
                _rate("parley_speech_socket_events_total", "event"),
                Query(
                    "sum(rate(parley_late_audio_total{NS}[$__rate_interval]))",
                    "late chunks dropped",
                ),
            ),
        ),
        Panel("Tokens", "ops", (_rate("parley_tokens_total", "kind"),)),
        Panel(
            "Characters and voice",
            "short",
            (
                Query(
                    "sum(rate(parley_characters_total{NS}[$__rate_interval]))",
                    "characters a second",
                ),
                Query(
                    "sum(rate(parley_audio_seconds_total{NS}[$__rate_interval]))",
                    "seconds of voice a second",
                ),
            ),
        ),
        Panel(
            "Cost an hour",
            "currencyUSD",
            (
                Query(
                    "3600 * sum by (service) (rate(parley_cost_usd_total{NS}[$__rate_interval]))",
                    "{{service}}",
                ),
            ),
            "By the price table of the settings.",
        ),
    ),
    "NATS and the store": (
        Panel(
            "Streams, of their limit",
            "percentunit",
            (
                Query(
                    "max by (stream)"
                    " (parley_stream_bytes{NS} / (parley_stream_bytes_limit{NS} > 0))",
                    "{{stream}}",
                ),
            ),
            "Full, it refuses requests and documents; of the others the oldest goes.",
        ),
        Panel("Bytes of streams", "bytes", (_now("parley_stream_bytes", "stream", how="max"),)),
        Panel(
            "Messages of streams", "short", (_now("parley_stream_messages", "stream", how="max"),)
        ),
        Panel(
            "Connected to NATS",
            "short",
            (
                Query("sum by (container) (parley_nats_connected{NS})", "{{container}} connected"),
                Query(
                    "sum by (container)"
                    " (increase(parley_nats_reconnects_total{NS}[$__rate_interval]))",
                    "{{container}} connected again",
                ),
            ),
        ),
        Panel(
            "Publishes that wait for their ack",
            "short",
            (_now("parley_publish_window", "container"),),
        ),
        Panel(
            "Object store",
            "s",
            (
                *_quantiles("parley_upload_seconds", legend="upload"),
                Query("max(parley_store_away{NS})", "away (1)"),
            ),
        ),
    ),
    "Processes": (
        Panel(
            "Up, draining",
            "short",
            (
                Query(f"sum by (container) (up{{NS,{OURS}}})", "{{container}} up"),
                Query("sum by (container) (parley_draining{NS})", "{{container}} draining"),
            ),
        ),
        Panel(
            "Processor",
            "percentunit",
            (
                Query(
                    "sum by (pod)"
                    f" (rate(process_cpu_seconds_total{{NS,{OURS}}}[$__rate_interval]))",
                    "{{pod}}",
                ),
            ),
            "Of one core; a worker has one.",
        ),
        Panel(
            "Memory",
            "bytes",
            (Query(f"sum by (pod) (process_resident_memory_bytes{{NS,{OURS}}})", "{{pod}}"),),
        ),
        Panel(
            "Open files",
            "short",
            (Query(f"max by (container) (process_open_fds{{NS,{OURS}}})", "{{container}}"),),
        ),
        Panel(
            "Clock off by",
            "s",
            (Query("parley_clock_seconds{NS} - timestamp(parley_clock_seconds{NS})", "{{pod}}"),),
        ),
        Panel(
            "Builds",
            "short",
            (Query("count by (container, version, python) (parley_build_info{NS})"),),
            kind="table",
        ),
    ),
}


def panels() -> list[Panel]:
    return [panel for row in ROWS.values() for panel in row]


def dashboard() -> dict[str, Any]:
    """What Grafana imports; the same in each run, so that a change shows as one."""
    shown: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        shown.append(
            {
                "id": len(shown) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
            }
        )
        top += 1
        for number, panel in enumerate(row):
            place = {
                "h": HEIGHT,
                "w": WIDTH // 3,
                "x": number % 3 * (WIDTH // 3),
                "y": top + number // 3 * HEIGHT,
            }
            shown.append({"id": len(shown) + 1, **_shown(panel), "gridPos": place})
        top += -(-len(row) // 3) * HEIGHT
    return {
        "uid": "parley",
        "title": "Parley",
        "tags": ["parley"],
        "editable": True,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "graphTooltip": 1,  # one cursor for all panels
        "templating": {"list": [_datasource(), _namespace()]},
        "annotations": {"list": [_alerts()]},
        "panels": shown,
    }


_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def _shown(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": {"fillOpacity": 8, "showPoints": "never", "spanNulls": False},
            }
            if panel.kind == "timeseries" and panel.title != "Clock off by"
            else {"unit": panel.unit},
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}}
        if panel.kind == "timeseries"
        else {"showHeader": True},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": query.promql,
                "legendFormat": query.legend,
                **({"format": "table", "instant": True} if panel.kind == "table" else {}),
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _namespace() -> dict[str, Any]:
    return {
        "name": "namespace",
        "type": "query",
        "label": "Namespace",
        "datasource": _SOURCE,
        "query": {"query": "label_values(parley_build_info, namespace)", "refId": "namespace"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": _SOURCE,
        "expr": 'ALERTS{alertstate="firing", alertname=~"Parley.+", namespace=~"$namespace"}',
        "titleFormat": "{{alertname}}",
        "step": "15s",
    }
