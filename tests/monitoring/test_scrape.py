"""A real Prometheus, both services: every query of the dashboard, every rule, every metric."""

from __future__ import annotations

import re
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


async def empty_queries(field: Field) -> list[str]:
    """The queries that show nothing, though nothing had to go wrong for them to show something."""
    return [
        query.expr
        for query in QUERIES
        if not query.trouble and not await field.prometheus.query(shown(query))
    ]


async def test_every_query_and_every_rule_is_answered_by_what_the_services_export(
    tmp_path: Path,
) -> None:
    async with in_the_field(tmp_path, "nothing", {}) as field:
        prometheus = field.prometheus

        async def all_show() -> bool:
            return not await empty_queries(field)

        try:
            await prometheus.until(all_show, WAIT)
        except AssertionError:
            assert not await empty_queries(field)
        for query in QUERIES:  # those of trouble may be empty: none is an error
            await prometheus.query(shown(query))
        names = {name for query in QUERIES for name in METRIC.findall(query.expr)}
        for group in (await prometheus.asked("rules"))["groups"]:
            for rule in group["rules"]:
                assert rule["health"] == "ok", rule
                names |= set(METRIC.findall(rule["query"]))
        known = set(await prometheus.asked("label/__name__/values"))
        assert names <= known, sorted(names - known)
        # The dashboard's variable.
        found = await prometheus.asked("label/namespace/values", **{"match[]": "parley_build_info"})
        assert found == [NAMESPACE]
        assert not await prometheus.firing()
