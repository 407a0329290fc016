"""The rules of Prometheus: expressions that parse, over metrics that servers and gateways really have."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import promql_parser
import pytest
import yaml
from tests.manifests.rendered import KUBERNETES, Resource, of_kind, overlay
from tests.sevenfold.serving.local import ONE, Load, local

from sevenfold.cluster import Deployment
from sevenfold.gateway import Traffic
from sevenfold.model.spec import load_spec
from sevenfold.serving.metrics import Metrics

SERVING = {"sevenfold-staging", "sevenfold-preproduction", "sevenfold-production"}


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    return overlay("production")


@pytest.fixture(scope="module")
def groups(resources: list[Resource]) -> list[dict[str, Any]]:
    return [group for one in of_kind(resources, "PrometheusRule") for group in one["spec"]["groups"]]


@pytest.fixture(scope="module")
def rules(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for group in groups for rule in group["rules"]]


def series(expression: str) -> set[str]:
    """Names of the series that an expression reads.

    Raises:
        ValueError: it is no PromQL.
    """
    found: set[str] = set()

    def visit(node: Any) -> None:
        selector = getattr(node, "vector_selector", node)  # the one inside a range
        if isinstance(selector, promql_parser.VectorSelector):
            found.add(selector.name)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def test_every_rule_is_whole(rules: list[dict[str, Any]]) -> None:
    assert len(rules) >= 15
    for rule in rules:
        known = {"alert", "record", "expr", "for", "labels", "annotations"}
        assert rule.keys() <= known, rule
        assert ("alert" in rule) != ("record" in rule), rule
        promql_parser.parse(rule["expr"])
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"].keys() == {"summary", "description"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    with pytest.raises(ValueError, match=r"unexpected|invalid|unknown|no expression"):
        promql_parser.parse("sum by (model (rate(up[5m])))")


def test_every_series_is_one_that_is_there(rules: list[dict[str, Any]], tmp_path: Path) -> None:
    page = Metrics("m", "c", "s", load_spec("flight_delay").serving.sla).page().decode()
    with local(tmp_path) as stack:
        stack.cluster.deploy(Deployment("tiny", ONE, "champion", 1))
        stack.gateway.apply(Traffic("tiny", ONE, generation=1))
        with Load(stack, callers=1) as load:
            load.wait(5)
        address = urlsplit(stack.settings.gateway_url)
        statistics = f"http://{address.hostname}:{(address.port or 0) + 1}/stats/prometheus"
        page += httpx.get(statistics, trust_env=False).text
    there = set(re.findall(r"^([a-z_:][a-z0-9_:]*)(?:\{| )", page, re.MULTILINE))
    assert {"sevenfold_ready", "envoy_server_live"} <= there
    recorded = {rule["record"] for rule in rules if "record" in rule}
    read = {name for rule in rules for name in series(rule["expr"])}
    assert {"sevenfold_log_lines_lost_total", "sevenfold:error_rate:1h"} <= read
    assert not read - there - recorded
    assert (
        series("rate(envoy_cluster_upstream_rq_xxx[5m]) > 0") - there
    )  # and one that is not would be noticed


def test_what_is_scraped_is_what_the_pods_open(resources: list[Resource]) -> None:
    monitors = {one["metadata"]["name"]: one["spec"] for one in of_kind(resources, "PodMonitor")}
    assert monitors.keys() == {"sevenfold-servers", "sevenfold-gateways"}
    for spec in monitors.values():
        assert spec.keys() == {"namespaceSelector", "selector", "podMetricsEndpoints"}
        assert set(spec["namespaceSelector"]["matchNames"]) == SERVING
    gateway = next(one for one in of_kind(resources, "Deployment") if one["metadata"]["name"] == "gateway")
    template = gateway["spec"]["template"]
    spec = monitors["sevenfold-gateways"]
    assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in template["spec"]["containers"][0]["ports"]]


CASES = Path(__file__).with_name("rules_cases.yml")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed")
def test_rules_wake_somebody_when_they_should(groups: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    (tmp_path / "cases.yml").write_text(CASES.read_text())
    for command in (["check", "rules", "--lint=all", "rules.yml"], ["test", "rules", "cases.yml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def in_flight() -> str:
    """What prometheus-adapter asks Prometheus for an autoscaler of production."""
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    asked = {
        "<<.Series>>": rule["seriesQuery"].partition("{")[0],
        "<<.LabelMatchers>>": 'envoy_cluster_name="coin-0123abcd",namespace="sevenfold-production"',
    }
    query: str = rule["metricsQuery"]
    for name, value in asked.items():
        assert name in query
        query = query.replace(name, value)
    return query


def test_requests_in_flight_are_promql(in_flight: str) -> None:
    assert "<<" not in in_flight
    assert series(in_flight) == {"envoy_cluster_live_upstream_rq_active"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed")
def test_a_gateway_that_was_replaced_counts_no_more(in_flight: str, tmp_path: Path) -> None:
    rule = {"record": "in_flight", "expr": in_flight}
    of = 'envoy_cluster_live_upstream_rq_active{namespace="sevenfold-production", envoy_cluster_name='
    asked = {"expr": "in_flight", "eval_time": "90s"}
    case = {
        "interval": "15s",
        "input_series": [
            {"series": f'{of}"coin-0123abcd", pod="before"}}', "values": "4 4 4 4 4 stale"},
            {"series": f'{of}"coin-0123abcd", pod="after"}}', "values": "_ _ _ _ _ 4 4"},
            {"series": f'{of}"coin-another", pod="after"}}', "values": "9x6"},
        ],
        "promql_expr_test": [{**asked, "exp_samples": [{"labels": "in_flight", "value": 4}]}],
    }
    cases = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [case]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "adapter", "rules": [rule]}]}))
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases))
    command = ["promtool", "test", "rules", "cases.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
