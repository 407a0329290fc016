"""Where Prometheus finds the replicas of this machine: a file in its format, with the labels of a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sevenfold.cluster import Deployed
from sevenfold.serving.admission import ENVIRONMENT_OF, arm


def write_targets(folder: Path, deployed: Sequence[Deployed]) -> None:
    """Puts what is deployed into `folder`/replicas.json, which anybody may read, in one step."""
    folder.mkdir(exist_ok=True)
    found = [
        {
            "targets": [f"{endpoint.host}:{endpoint.port}"],
            "labels": {
                "namespace": f"sevenfold-{ENVIRONMENT_OF[arm(one.slot)]}",
                "pod": f"{one.model}.{one.slot}.{endpoint.port}",
            },
        }
        for one in deployed
        for endpoint in one.endpoints
    ]
    half = folder / ".replicas.json"
    half.write_text(json.dumps(found, indent=1))
    half.chmod(0o644)
    half.replace(folder / "replicas.json")
