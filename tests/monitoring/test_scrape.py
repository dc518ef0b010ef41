"""A real Prometheus, both services: every query of the dashboard, every rule, every metric."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from deploy.monitoring.dashboard import panels
from tests.drills.field import WAIT, in_the_field, shown
from tests.monitoring.prometheus import NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drills.field import Field

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(600)]
METRIC = re.compile(r"\bparley_[a-z_]+")
QUERIES = [query for panel in panels() for query in panel.queries]


# A rate of what never happened is 0; only what has no series yet shows nothing.
NOTHING_YET = {"parley_refused_total"}


async def empty_queries(field: Field) -> list[str]:
    """The queries of the dashboard that show nothing."""
    found = [q.expr for q in QUERIES if not await field.prometheus.query(shown(q))]
    return [expr for expr in found if not NOTHING_YET & set(METRIC.findall(expr))]


async def test_every_query_and_every_rule_is_answered_by_what_the_services_export(
    tmp_path: Path,
) -> None:
    async with in_the_field(tmp_path, "nothing", {}) as field:
        prometheus = field.prometheus
        empty = [""]

        async def all_show() -> bool:
            empty[:] = await empty_queries(field)
            return not empty

        try:
            await prometheus.until(all_show, WAIT)
        except AssertionError as exc:
            raise AssertionError(f"nothing is shown by {empty}") from exc
        await field.until_quiet(time.monotonic())
        known = set(await prometheus.asked("label/__name__/values"))
        names = {name for query in QUERIES for name in METRIC.findall(query.expr)}
        for group in (await prometheus.asked("rules"))["groups"]:
            for rule in group["rules"]:
                assert rule["health"] == "ok", rule
                names |= set(METRIC.findall(rule["query"]))
                # An alert shows nothing as long as all is well; what is recorded is there.
                found = await prometheus.query(rule["query"])
                assert found or rule["type"] == "alerting", rule
        assert names - known == NOTHING_YET
        # The dashboard's variable.
        spaces = await prometheus.asked(
            "label/namespace/values", **{"match[]": "parley_build_info"}
        )
        assert spaces == [NAMESPACE]
        await field.system.client.request("chat.history.get.c", b"no request", timeout=10)

        async def refused() -> list[object]:
            return list(await prometheus.query("parley_refused_total"))

        await prometheus.until(refused, WAIT)
