"""Alerts and dashboard: what they name is exported, and they are there only when asked for."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from spiderpool.agent.metrics import Metrics as AgentMetrics
from spiderpool.api.crd.ippool import IPPoolStatus
from spiderpool.controller.metrics import Metrics as ControllerMetrics
from tests.chart.rendering import Rendered, render
from tests.fakes.objects import make_ippool

NAME = re.compile(r"\bspiderpool_[a-z0-9_]+")
RULES = {"enabled": True, "prometheusRule": {"install": True, "labels": {"release": "prometheus"}}}
COMPONENTS = ("spiderpool-agent", "spiderpool-controller")


def exported() -> set[str]:
    """Return the names of all series that agent and controller export, those of the debug level too."""
    agent = AgentMetrics("1")
    agent.api_call("get", "pods", 200, 0.1)
    pool = replace(make_ippool(), status=IPPoolStatus(total_ip_count=10, allocated_ip_count=1))
    controller = generate_latest(ControllerMetrics("1", [pool], debug=True).registry)
    texts = (agent.render().decode(), controller.decode())
    return {
        sample.name
        for text in texts
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def installed() -> Rendered:
    """Render the chart with all that is for Prometheus and Grafana."""
    return render(
        {
            "spiderpoolAgent": {"prometheus": RULES},
            "spiderpoolController": {"prometheus": RULES},
            "grafanaDashboard": {"install": True},
        }
    )


def rules(things: Rendered, component: str) -> list[dict[str, Any]]:
    """Return the alerts of a component."""
    groups: list[dict[str, Any]] = things.one("PrometheusRule", component)["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board(things: Rendered) -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(
        things.one("ConfigMap", "spiderpool-dashboard")["data"]["spiderpool.json"]
    )
    return found


def test_nothing_unless_asked_for() -> None:
    """Neither alerts nor dashboard."""
    things = render()
    assert [] == things.names("PrometheusRule")
    assert "spiderpool-dashboard" not in things.names("ConfigMap")


@pytest.mark.parametrize("component", COMPONENTS)
def test_alerts_name_what_is_exported(component: str) -> None:
    """An alert on a name that nobody exports never fires."""
    found = rules(installed(), component)
    names = {name for rule in found for name in NAME.findall(rule["expr"])}

    assert set() == names - exported()
    assert all(names_of(rule) for rule in found), "an alert that looks at nothing"


def names_of(rule: dict[str, Any]) -> list[str]:
    """Return the names that an alert looks at."""
    return NAME.findall(rule["expr"])


def test_dashboard_names_what_is_exported() -> None:
    """Each panel shows series that exist."""
    panels = board(installed())["panels"]
    names = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in NAME.findall(target["expr"])
    }

    assert set() == names - exported()
    assert 10 == len(panels)


def test_alerts_have_words() -> None:
    """
    Each alert says how bad it is, what is so and what to do.

    The templates of Prometheus survive Helm's.
    """
    found = [rule for component in COMPONENTS for rule in rules(installed(), component)]
    assert {"warning", "critical"} == {rule["labels"]["severity"] for rule in found}
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in found)
    summaries = [rule["annotations"]["summary"] for rule in found]
    assert (
        'Pool {{ $labels.SpiderIPPool }} is nearly full ({{ printf "%.0f" $value }} %)' in summaries
    )


@pytest.mark.parametrize(("percent", "expected"), [(75, [">= 75"]), (0, [])])
def test_threshold(percent: int, expected: list[str]) -> None:
    """Event and alert begin at the same part; 0 switches both off."""
    things = render(
        {"spiderpoolController": {"prometheus": RULES, "poolNearlyFullPercent": percent}}
    )
    found = rules(things, "spiderpool-controller")
    alerts = [rule["expr"][-5:] for rule in found if rule["alert"] == "SpiderpoolPoolNearlyFull"]
    container = things.container("Deployment", "spiderpool-controller")
    env = {item["name"]: item.get("value") for item in container["env"]}

    assert expected == alerts
    assert str(percent) == env["SPIDERPOOL_IPPOOL_NEARLY_FULL_PERCENT"]


def test_labels_of_the_operator_and_the_sidecar() -> None:
    """Prometheus' operator and Grafana's sidecar find theirs by label."""
    things = installed()
    assert (
        "prometheus"
        == things.one("PrometheusRule", "spiderpool-agent")["metadata"]["labels"]["release"]
    )
    assert (
        "1"
        == things.one("ConfigMap", "spiderpool-dashboard")["metadata"]["labels"][
            "grafana_dashboard"
        ]
    )
