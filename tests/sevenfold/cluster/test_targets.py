"""Prometheus finds the replicas of a machine under the labels that a cluster gives."""

from __future__ import annotations

import json
from pathlib import Path

from sevenfold.cluster import Deployed, Endpoint
from sevenfold.cluster.targets import write_targets


def test_replicas_are_found_by_environment(tmp_path: Path) -> None:
    live = Deployed("coin", "coin-a", "champion", (Endpoint(20_001), Endpoint(20_002)))
    shadow = Deployed("coin", "coin-b", "shadow", (Endpoint(20_003),))
    load = Deployed("coin", "coin-b", "staging-load", (Endpoint(20_004),))
    write_targets(tmp_path / "targets", [live, shadow, load])
    file = tmp_path / "targets" / "replicas.json"
    found = {tuple(one["targets"]): one["labels"]["namespace"] for one in json.loads(file.read_text())}
    assert found == {
        ("127.0.0.1:20001",): "sevenfold-production",
        ("127.0.0.1:20002",): "sevenfold-production",
        ("127.0.0.1:20003",): "sevenfold-preproduction",
        ("127.0.0.1:20004",): "sevenfold-staging",
    }
    assert file.stat().st_mode & 0o777 == 0o644, "Prometheus is somebody else"
    write_targets(tmp_path / "targets", [])
    assert json.loads(file.read_text()) == []
