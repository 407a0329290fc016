"""Twice the peak, on as many replicas as production has: errors and latency there, and what is left above."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.gates.asked import MORE, smallest_sample
from sevenfold.load import LoadResult, Schedule, carried, generate, knee
from sevenfold.load.replay import MIX, replayed
from sevenfold.load.report import load_page
from sevenfold.trials.trial import on_trial

SLOT = "shadow-load"
TIMES = 2.0
"""Times the peak: what a neighbour's failure or a busy holiday may bring."""
WARM_UP_S, FULL_S = 1.0, 5.5
CLIMB = (4.0, 1.2)
"""Times the peak and, like `FULL_S`, seconds at least: where those give too few requests it takes longer."""
EXPLORE, EXPLORE_S = (6.0, 8.0, 12.0, 16.0, 24.0), 0.6
"""Times the peak, as far as the service can follow."""
FULL, RAMP = "twice the peak", "ramp"


def main(activity: Activity) -> None:
    """Error rate and p99 at twice the peak; headroom: the highest rate that is carried, in peaks.

    The peak is the rate that the SLA promises: model.yaml says how much callers may ask at most.
    """
    sla, replicas = activity.spec.serving.sla, activity.spec.serving.replicas
    peak = sla.rate
    schedule, explore_from = plan(
        peak,
        full=smallest_sample(activity, "p99_ms", 0),
        everything=smallest_sample(activity, "error_rate", 0),
    )
    doing = f"{len(schedule.due):,} requests in at most {schedule.seconds:.0f} s"
    with (
        on_trial(activity, SLOT, replicas=replicas) as target,
        tempfile.TemporaryDirectory() as folder,
        activity.phase(doing),
    ):
        found = generate(
            target.host,
            replayed(activity, target.path),
            schedule,
            folder=Path(folder),
            headers=target.headers,
            explore_from=explore_from,
        )
    sentences = measure(activity, found, schedule, peak, explore_from)
    for sentence in sentences:
        activity.progress(sentence)
    activity.report(
        "load.html",
        load_page(
            f"{activity.spec.title}: full-scale load", found, schedule.steps[1:], sla.p99_ms, sentences
        ),
        "Full-scale load: throughput, latency, headroom",
    )


def plan(peak: float, full: int = 0, everything: int = 0) -> tuple[Schedule, float]:
    """Warm-up at the peak, twice the peak, a climb, the ramp; and the second where exploring begins.

    Args:
        peak: requests a second.
        full: requests needed at twice the peak.
        everything: requests needed before exploring, to prove that few fail.
    """
    full_s = max(FULL_S, MORE * full / (TIMES * peak))
    times, shortest = CLIMB
    climb_s = max(shortest, (MORE * everything - full_s * TIMES * peak) / (times * peak))
    whole = Schedule.steady(peak, WARM_UP_S, MIX, "warm-up").then(
        Schedule.steady(TIMES * peak, full_s, MIX, FULL), Schedule.steady(times * peak, climb_s, MIX, RAMP)
    )
    ramp = Schedule.ramp([times * peak for times in EXPLORE], EXPLORE_S, MIX, RAMP)
    return whole.then(ramp), whole.seconds


def measure(
    activity: Activity, found: LoadResult, schedule: Schedule, peak: float, explore_from: float
) -> list[str]:
    """Leaves the readings, and says in sentences what they are."""
    sla = activity.spec.serving.sla
    full = found.during([step for step in schedule.steps if step.name == FULL])
    counted = found.due(WARM_UP_S, explore_from)
    errors, n = counted.errors, counted.requests
    p99, low, high = full.percentile(99)
    most = knee(carried(found, schedule.steps[1:], sla.p99_ms))
    activity.measure("error_rate", errors / n, unit="share", n=n, counts={"bad": errors, "n": n})
    activity.measure("p99_ms", p99, unit="ms", n=full.requests, low=low, high=high)
    activity.measure("headroom", most / peak, unit="times the peak", n=len(schedule.steps) - 1)
    return [
        f"At {TIMES:g} times the peak of {peak:,.0f} requests a second 99 of 100 are answered within "
        f"{p99:.1f} ms.",
        f"{activity.spec.serving.replicas} replicas carry {most:,.0f} requests a second, {most / peak:g} "
        "times the peak.",
        f"{errors} of {n:,} requests up to {CLIMB[0]:g} times the peak failed.",
    ]


if __name__ == "__main__":
    run(main)
