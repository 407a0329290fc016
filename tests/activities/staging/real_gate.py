"""What flight_delay's own gate of staging says of the readings that an activity has left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sevenfold.activity import Activity
from sevenfold.gates.analysis import MetricResult, judge
from sevenfold.gates.policy import load_gate
from sevenfold.settings import REPOSITORY

GATE = load_gate(REPOSITORY / "include" / "models", "flight_delay", "staging")


def said(activity: Activity) -> dict[str, MetricResult]:
    """The result of each metric that the gate asks of this activity."""
    mine = tuple(metric for metric in GATE.metrics if metric.activity == activity.name)
    assert mine, f"the gate asks nothing of {activity.name}"
    gate = GATE.model_copy(update={"metrics": mine})
    run = judge(
        gate,
        activity.store.measurements(activity.promotion.id, activity.name),
        activity.candidate,
        activity.promotion,
        datetime.now(UTC),
        champion=activity.champion,
        accepted={gate.hash: ""},
        uses=1,
        data_now=activity.promotion.as_of,
    )
    return {result.metric: result for result in run.metrics}


def verdicts(activity: Activity, metrics: Sequence[str]) -> list[str]:
    """The verdicts on these metrics, in this order."""
    found = said(activity)
    return [str(found[metric].verdict) for metric in metrics]
