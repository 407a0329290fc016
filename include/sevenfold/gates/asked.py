"""What the gate of its environment asks of an activity: an activity measures as much as that needs."""

from __future__ import annotations

from sevenfold.activity import Activity
from sevenfold.gates.policy import Metric, load_gate

MORE = 1.05
"""Times what the gate asks, for what a retry of the generator or a rounding may cost."""


def metrics(activity: Activity) -> list[Metric]:
    """What the environment's gate asks of this activity."""
    promotion = activity.promotion
    gate = load_gate(activity.settings.models, promotion.model, promotion.environment)
    return [metric for metric in gate.metrics if metric.activity == activity.name]


def smallest_sample(activity: Activity, metric: str, default: int) -> int:
    """How much the gate asks to be measured of a metric; `default` where it does not ask for it."""
    return next((one.min_sample for one in metrics(activity) if one.metric == metric), default)
