"""A canary's measurements, and what its gate says of them so far."""

from __future__ import annotations

from datetime import UTC, datetime

from sevenfold.activity import Activity
from sevenfold.errors import SevenfoldError
from sevenfold.gates.analyse import analyse
from sevenfold.gates.policy import gate_path, load_gate
from sevenfold.gates.verdict import Verdict, worst
from sevenfold.people.gate_change import require_accepted
from sevenfold.release.rollout import Arm, Step

Window = tuple[datetime, datetime]


def steps_of(activity: Activity, environment: str | None = None) -> list[Step]:
    """How the share of the live requests grows, as the gate's file says; that of the promotion by default.

    Raises:
        SevenfoldError: it says nothing about steps.
        MovedBar: the file was changed after the candidate was made, and two people have not let that through.
    """
    where = activity.promotion.model, environment or activity.promotion.environment
    gate = load_gate(activity.settings.models, *where)
    require_accepted(activity.store, activity.candidate, gate)
    if not gate.steps:
        path = gate_path(activity.settings.models, *where)
        raise SevenfoldError(
            f"{path} has no steps: say by which shares of the live requests the canary grows"
        )
    return [
        Step(step.share, step.requests, step.bake.total_seconds(), step.deadline.total_seconds())
        for step in gate.steps
    ]


def verdict_so_far(activity: Activity) -> tuple[Verdict, str]:
    """What the gate says of this activity's metrics by everything measured so far, and why.

    The whole gate is judged, so that its risks are divided as they will be in the end. A gate that is changed
    while users meet the candidate stops it at once.
    """
    analysis = analyse(activity.store, activity.promotion.id, datetime.now(UTC))
    if not analysis.accepted:
        return Verdict.FAILED, analysis.reason
    mine = [found for found in analysis.metrics if found.activity == activity.name and found.decides]
    verdict = worst(found.verdict for found in mine) if mine else Verdict.SUCCESSFUL
    reasons = [found.reason for found in mine if found.verdict is verdict]
    return verdict, reasons[0] if reasons else "the gate asks nothing of it"


def measure_arms(
    activity: Activity, interval: str, window: Window, challenger: Arm, champion: Arm | None, share: float
) -> None:
    """Errors and slow answers of one interval; `champion` is None when there is none."""
    for metric in ("errors", "slow"):
        bad, rival = getattr(challenger, metric), getattr(champion, metric) if champion else None
        counts = {"e1": float(bad), "n1": float(challenger.requests)}
        if champion is not None and rival is not None:
            counts |= {"e0": float(rival), "n0": float(champion.requests), "share": share}
        measure_rate(activity, metric, interval, window, counts)


def measure_rate(
    activity: Activity, metric: str, interval: str, window: Window, counts: dict[str, float]
) -> None:
    """One interval of a rate: bad events and size of both arms (e1, n1, and e0, n0 with a champion)."""
    compared = "n0" in counts
    activity.measure(
        metric,
        counts["e1"] / counts["n1"] if counts["n1"] else None,
        unit="share",
        n=int(counts["n1"]),
        baseline="champion" if compared else "none",
        baseline_candidate=activity.champion.id if compared and activity.champion else None,
        baseline_value=counts["e0"] / counts["n0"] if compared and counts["n0"] else None,
        window=window,
        interval=interval,
        counts=counts,
    )


def key(start: datetime) -> str:
    """The key of the interval that begins then; keys sort like times."""
    return start.astimezone(UTC).isoformat(timespec="milliseconds")
