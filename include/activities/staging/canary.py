"""Rehearses the canary without users: the candidate beside the champion on replayed rows, 5 % to 50 %."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.asking import bodies
from sevenfold.canary import key, measure_arms, verdict_so_far
from sevenfold.load import Kind, LoadResult, Schedule, Step, generate
from sevenfold.rollout import Arm
from sevenfold.snapshot import snapshot
from sevenfold.trial import Target, on_trial

RATE = 1.5
"""Times the SLA's rate, for both sides together; a candidate alone gets the SLA's rate."""
STEPS = ((0.05, 1.0), (0.20, 2.0), (0.50, 8.0))
"""Share and seconds. Without a champion the candidate gets everything all the time."""
INTERVAL_S = 1.0
CANDIDATE, CHAMPION = 0, 1
SEED = 5


def main(activity: Activity) -> None:
    """One load whose requests go to either by chance, with the share of their step; counted by interval."""
    champion = activity.champion
    rate = activity.spec.serving.sla.rate * (RATE if champion else 1.0)
    schedule, shares = plan(rate, alone=champion is None)
    with ExitStack() as trials, tempfile.TemporaryDirectory() as folder:
        sides = [trials.enter_context(on_trial(activity, "staging"))]
        if champion is None:
            activity.progress("no champion: nothing compared")
        else:
            sides.append(trials.enter_context(on_trial(activity, "staging-champion", champion.id)))
        with activity.phase(f"{len(schedule.due):,} requests, {', '.join(f'{s:.0%}' for s, _ in STEPS)}"):
            began = datetime.now(UTC)
            found = generate(
                sides[0].host, kinds(activity, sides), schedule, folder=Path(folder), headers=sides[0].headers
            )
        activity.report("locust.html", found.report.read_bytes(), "Rehearsed canary (Locust)")
    count(activity, found, shares, began, compared=champion is not None)
    verdict, reason = verdict_so_far(activity)
    activity.progress(f"so far {verdict}: {reason}")


def plan(rate: float, *, alone: bool) -> tuple[Schedule, list[tuple[float, float, float]]]:
    """The schedule, each request's side drawn by chance, and (start, end, share) of each interval."""
    random = np.random.default_rng(SEED)
    due: list[float] = []
    side: list[int] = []
    intervals: list[tuple[float, float, float]] = []
    shown: list[Step] = []
    start = 0.0
    for share, seconds in STEPS:
        number = round(rate * seconds)
        due += [start + index / rate for index in range(number)]
        drawn = random.random(number) < (1.0 if alone else share)
        side += [CANDIDATE if mine else CHAMPION for mine in drawn]
        edges = np.arange(start, start + seconds + INTERVAL_S / 2, INTERVAL_S)
        intervals += [(float(a), float(b), share) for a, b in pairwise(edges)]
        shown.append(Step(f"{share:.0%}", rate, start, start + seconds))
        start += seconds
    return Schedule(tuple(due), tuple(side), tuple(shown)), intervals


def kinds(activity: Activity, sides: list[Target]) -> list[Kind]:
    """The same single rows for both sides."""
    end = activity.promotion.as_of
    rows = snapshot(activity.spec, activity.settings.data).rows(end - timedelta(days=3), end)
    asked = [body.decode() for body in bodies(activity.spec, rows.slice(max(0, rows.num_rows - 500)), 1)]
    names = ("candidate", "champion")
    return [Kind(name, f"{side.path}/infer", asked) for name, side in zip(names, sides, strict=False)]


def count(
    activity: Activity,
    found: LoadResult,
    intervals: list[tuple[float, float, float]],
    began: datetime,
    *,
    compared: bool,
) -> None:
    """Measures errors and slow answers of both sides in each interval."""
    slow_ms = activity.spec.serving.sla.p99_ms
    for start, end, share in intervals:
        part = found.due(start, end)
        window = (began + timedelta(seconds=start), began + timedelta(seconds=end))
        challenger = _arm(part, CANDIDATE, slow_ms)
        champion = _arm(part, CHAMPION, slow_ms) if compared else None
        measure_arms(activity, key(window[0]), window, challenger, champion, share)


def _arm(part: LoadResult, side: int, slow_ms: float) -> Arm:
    mine = part.where(part.kind == side)
    return Arm(mine.requests, mine.errors, int((mine.latency_ms > slow_ms).sum()))


if __name__ == "__main__":
    run(main)
