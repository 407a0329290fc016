"""The SLA's rate, in turns with the champion's, then a ramp to the knee, on the real gateway."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.gates.asked import MORE, smallest_sample
from sevenfold.gates.rules.latency_pairs import paired_runs
from sevenfold.load import LoadResult, Schedule, Step, carried, generate, knee
from sevenfold.load.replay import MIX, replayed
from sevenfold.load.report import load_page
from sevenfold.trials.trial import on_trial

WARM_UP_S = 1.0
PROMISED_REQUESTS, PROMISED_S = 1000, (3.0, 20.0)
"""At the SLA's rate, where the gate does not ask for more, and the shortest and longest time that takes."""
PAIRS = 10
"""Turns of candidate and champion; fewer leave the bound on their ratio too wide (research: 10 at least)."""
CHAMPIONS_PART = 0.4
"""A champion's turn, in lengths of the candidate's: its median needs no longer one."""
CLIMB = ((2.0, 0.05), (4.0, 0.2), (6.0, 0.3), (8.0, 0.45))
"""Times the SLA's rate, and the part each has of the requests that are still needed to prove few errors."""
EXPLORE, EXPLORE_S = (12.0, 16.0, 24.0, 32.0, 48.0), 0.6
"""Times the SLA's rate, as far as the service can follow."""
PROMISED, CHAMPION, RAMP = "promised rate", "champion's turn", "ramp"


def main(activity: Activity) -> None:
    """Error rate, p99 and latency beside the champion's at the SLA's rate; headroom up to the knee."""
    sla, champion = activity.spec.serving.sla, activity.champion
    schedule, explore_from = plan(
        sla.rate,
        promised=smallest_sample(activity, "p99_ms", PROMISED_REQUESTS),
        everything=smallest_sample(activity, "error_rate", PROMISED_REQUESTS),
        compared=champion is not None,
    )
    with ExitStack() as trials, tempfile.TemporaryDirectory() as folder:
        target = trials.enter_context(on_trial(activity, "staging", keep=True))
        kinds = replayed(activity, target.path)
        if champion is None:
            activity.progress("no champion: nothing to take turns with")
        else:
            beside = trials.enter_context(on_trial(activity, "staging-champion", champion.id, keep=True))
            kinds += replayed(activity, beside.path)
        with activity.phase(f"{len(schedule.due):,} requests in {schedule.seconds:.0f} s, open workload"):
            found = generate(
                target.host,
                kinds,
                schedule,
                folder=Path(folder),
                headers=target.headers,
                explore_from=explore_from,
            )
        activity.report("locust.html", found.report.read_bytes(), "Load test, Locust's own report")
    sentences = measure(activity, found, schedule.steps, explore_from)
    for sentence in sentences:
        activity.progress(sentence)
    activity.report(
        "load.html",
        load_page(f"{activity.spec.title}: load test", found, mine(schedule.steps), sla.p99_ms, sentences),
        "Load test: throughput, latency, knee",
    )


def plan(rate: float, promised: int, everything: int, *, compared: bool) -> tuple[Schedule, float]:
    """Warm-up, the SLA's rate in turns with the champion, the climb; and the second where exploring begins.

    Args:
        rate: the SLA's, requests a second.
        promised: requests needed at this rate.
        everything: requests needed in all to prove that few fail.
        compared: whether there is a champion to take turns with.
    """
    shortest, longest = PROMISED_S
    promised_s = min(max(MORE * promised / rate, shortest), longest)
    whole = Schedule.steady(rate, WARM_UP_S, MIX, "warm-up")
    if compared:
        theirs = tuple(place + max(MIX) + 1 for place in MIX)
        turns = [
            Schedule.steady(rate, promised_s / PAIRS, MIX, PROMISED),
            Schedule.steady(rate, CHAMPIONS_PART * promised_s / PAIRS, theirs, CHAMPION),
        ]
        for pair in range(PAIRS):  # A B, B A, A B ...: what slowly changes meets both
            whole = whole.then(*(turns if pair % 2 == 0 else turns[::-1]))
    else:
        whole = whole.then(Schedule.steady(rate, promised_s, MIX, PROMISED))
    needed = max(0.0, MORE * everything - promised_s * rate)
    for times, part in CLIMB:
        seconds = max(EXPLORE_S, part * needed / (times * rate))
        whole = whole.then(Schedule.steady(times * rate, seconds, MIX, RAMP))
    ramp = Schedule.ramp([times * rate for times in EXPLORE], EXPLORE_S, MIX, RAMP)
    return whole.then(ramp), whole.seconds


def mine(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps that say something of the candidate."""
    return tuple(step for step in steps if step.name in (PROMISED, RAMP))


def measure(activity: Activity, found: LoadResult, steps: tuple[Step, ...], explore_from: float) -> list[str]:
    """Leaves the readings, and says in sentences what they are."""
    sla = activity.spec.serving.sla
    ours = found.where(found.kind <= max(MIX))
    promised = ours.during([step for step in steps if step.name == PROMISED])
    counted = ours.due(WARM_UP_S, explore_from)
    p99, low, high = promised.percentile(99)
    errors, n = counted.errors, counted.requests
    activity.measure("error_rate", errors / n, unit="share", n=n, counts={"bad": errors, "n": n})
    activity.measure("p99_ms", p99, unit="ms", n=promised.requests, low=low, high=high)
    followed = carried(ours, mine(steps), sla.p99_ms)
    most = knee(followed)
    activity.measure("headroom", most / sla.rate, unit="times the SLA's rate", n=len(followed))
    said = [
        f"At the promised {sla.rate:g} requests a second 99 of 100 are answered within {p99:.1f} ms "
        f"(a closed loop would say {float(np.percentile(promised.service_ms, 99)):.1f}).",
        f"One replica carries {most:,.0f} requests a second, {most / sla.rate:g} times the promised rate.",
        f"{errors} of {n:,} requests up to {CLIMB[-1][0]:g} times that rate failed.",
    ]
    theirs = measure_pairs(activity, found, steps)
    return [*said, theirs] if theirs else said


def measure_pairs(activity: Activity, found: LoadResult, steps: tuple[Step, ...]) -> str | None:
    """Leaves the ratio of the median latencies of candidate and champion, from their turns.

    The median, as a turn is too short for its slowest requests to say more than what the machine was doing.
    """
    medians = {
        name: [
            part.percentiles(50)[0]
            for step in steps
            if step.name == name and (part := found.due(step.start, step.end)).requests
        ]
        for name in (PROMISED, CHAMPION)
    }
    if activity.champion is None or not medians[CHAMPION]:
        return None
    counts = paired_runs(medians[PROMISED], medians[CHAMPION])
    both = [float(np.median(medians[name])) for name in (PROMISED, CHAMPION)]
    activity.measure(
        "latency",
        both[0],
        unit="ms",
        n=int(counts["pairs"]),
        baseline="champion",
        baseline_candidate=activity.champion.id,
        baseline_value=both[1],
        counts=counts,
    )
    ratio = float(np.exp(counts["mean_log_ratio"]))
    return (
        f"In {PAIRS} turns the candidate's median latency was {both[0]:.2f} ms, the champion's "
        f"{both[1]:.2f}: a ratio of {ratio:.2f}."
    )


if __name__ == "__main__":
    run(main)
