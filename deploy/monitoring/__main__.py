"""Writes dashboard.json, of dashboard.py, and prometheus-rule.yaml, of alerts.yaml.

python -m deploy.monitoring
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from deploy.monitoring.dashboard import dashboard

HERE = Path(__file__).parent
HEAD = """\
# Made of alerts.yaml by `python -m deploy.monitoring`: for the Prometheus operator.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: parley
spec:
"""


def made() -> dict[str, str]:
    """The files by name, as they have to be."""
    alerts = (HERE / "alerts.yaml").read_text(encoding="utf-8")
    groups = alerts[alerts.index("groups:\n") :]
    return {
        "dashboard.json": json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n",
        "prometheus-rule.yaml": HEAD + textwrap.indent(groups, "  "),
    }


if __name__ == "__main__":
    for name, text in made().items():
        (HERE / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(text)} characters")
