"""What deploy/monitoring holds is of one piece: with itself, the runbooks and the services."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from deploy.monitoring.__main__ import HERE, made
from deploy.monitoring.dashboard import dashboard, panels
from local.process import ROOT
from tests.drills.runbook import paragraph

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((HERE / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
OF_ACCESS = {"parley_tokens_shown_total"}  # the dashboard is that of turns and voices
METRIC = re.compile(r"\bparley_[a-z_]+")


def documented() -> set[str]:
    """The first column of the table in docs/operations.md."""
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^\| `(parley_[a-z_]+)`", operations))


def asked() -> set[str]:
    exprs = [rule["expr"] for rule in RULES]
    exprs += [query.expr for panel in panels() for query in panel.queries]
    return {name.removesuffix("_bucket") for expr in exprs for name in METRIC.findall(expr)}


@pytest.mark.parametrize("name", sorted(made()))
def test_what_is_generated_is_up_to_date(name: str) -> None:
    assert (HERE / name).read_text() == made()[name], "run python -m deploy.monitoring"


def test_the_operators_rule_holds_the_same_rules() -> None:
    held = yaml.safe_load((HERE / "prometheus-rule.yaml").read_text())["spec"]
    assert held == yaml.safe_load((HERE / "alerts.yaml").read_text())


def test_every_metric_of_the_services_is_on_the_dashboard_and_no_other() -> None:
    assert asked() == documented() - OF_ACCESS  # what is exported: tests/monitoring


def test_panels_have_names_of_their_own_and_stand_side_by_side() -> None:
    shown = dashboard()["panels"]
    assert len({panel["title"] for panel in shown}) == len(shown)
    assert len({panel["id"] for panel in shown}) == len(shown)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in shown)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert json.loads((HERE / "dashboard.json").read_text()) == dashboard()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_a_severity_a_test_and_a_paragraph(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
    for part in ("**Means:**", "**See:**", "**Do:**"):
        assert part in paragraph(name)
    assert (ROOT / "tests" / "monitoring" / "rules" / f"{name}.yaml").exists()


def test_a_runbook_names_panels_as_the_dashboard_does() -> None:
    titles = {panel.title for panel in panels()}
    for alert in ALERTS:
        see = re.search(r"\*\*See:\*\*(.*)", paragraph(alert["alert"]))
        assert see is not None
        named = re.findall(r"(?<!\*)\*([A-Z][^*]+)\*", see[1])
        assert named, alert["alert"]
        assert set(named) <= titles
