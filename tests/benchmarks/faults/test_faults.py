"""The benchmark of faults kills nobody before the one before is back: both replicas dead is its own fault."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.benchmarks.faults.__main__ import FAULTS, Fault, Found, whole
from tests.sevenfold.serving.local import ONE


def stack(state: str = "RUNNING", ready: bool = True, healthy: int = 2) -> Any:
    envoy = SimpleNamespace(running=lambda: True, healthy=lambda: {f"{ONE}.live": healthy})
    return SimpleNamespace(
        supervisor=SimpleNamespace(
            status=lambda: [SimpleNamespace(state="RUNNING"), SimpleNamespace(state=state)]
        ),
        cluster=SimpleNamespace(status=lambda: [SimpleNamespace(ready=True), SimpleNamespace(ready=ready)]),
        gateway=SimpleNamespace(envoy=envoy),
    )


def test_all_is_well_when_everybody_says_so() -> None:
    assert whole(stack())


@pytest.mark.parametrize("wrong", [{"state": "STARTING"}, {"ready": False}, {"healthy": 1}])
def test_the_gateway_may_not_have_noticed_yet_that_a_replica_is_dead(wrong: dict[str, Any]) -> None:
    assert not whole(stack(**wrong))


def test_a_lost_request_or_a_late_return_misses_the_goal() -> None:
    fault = next(iter(FAULTS.values()))
    assert fault.met(Found(10, 0, [9.0]))
    assert not fault.met(Found(10, 1, [0.1]))
    late = Fault(fault.happens, "it is back", 2.0)
    assert late.met(Found(10, 5, [1.9]))
    assert not late.met(Found(10, 5, [0.1, 2.1]))
