"""Rehearses the canary without users: the steps of production's gate, on replayed rows, with the champion."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.gates.asked import metrics
from sevenfold.gates.planner import least_requests
from sevenfold.load import Kind, LoadResult, Schedule, generate
from sevenfold.load.replay import replayed
from sevenfold.release.canary import key, measure_arms, steps_of, verdict_so_far
from sevenfold.release.rollout import Arm, Outcome, Step, roll_out
from sevenfold.trials.trial import Target, on_trial

RATE = 3.0
"""Times the SLA's rate, for both sides together; a candidate alone gets `ALONE_RATE` times it."""
ALONE_RATE = 2.0
EARLY_S, LAST_S = 1.0, 4.0
"""Seconds at each share but the last, and at least at the last, where the live rule must see enough."""
SPARE = 1.2
"""Times the requests that prove the gate's limits: sides are drawn by chance."""
LEAST = 0.5
"""Of the requests that a step should see: sides are drawn by chance, and chance may be unkind."""
INTERVAL_S = 1.0
CANDIDATE, CHAMPION = 0, 1
SEED = 5


def main(activity: Activity) -> None:
    """One load whose requests go to either by chance, then rolled out by the code of the live canary."""
    champion = activity.champion
    rate = activity.spec.serving.sla.rate * (RATE if champion else ALONE_RATE)
    steps = rehearsed(activity, rate, alone=champion is None)
    schedule = plan(rate, steps)
    with ExitStack() as trials, tempfile.TemporaryDirectory() as folder:
        sides = [trials.enter_context(on_trial(activity, "staging"))]
        if champion is None:
            activity.progress("no champion: nothing compared")
        else:
            sides.append(trials.enter_context(on_trial(activity, "staging-champion", champion.id)))
        with activity.phase(f"{len(schedule.due):,} requests, {', '.join(f'{s.share:.0%}' for s in steps)}"):
            began = datetime.now(UTC)
            found = generate(
                sides[0].host, kinds(activity, sides), schedule, folder=Path(folder), headers=sides[0].headers
            )
        activity.report("locust.html", found.report.read_bytes(), "Rehearsed canary (Locust)")
    outcome = Rehearsal(activity, found, began, compared=champion is not None).go(steps)
    activity.progress(f"{outcome.reason} after {outcome.polls} polls")


def rehearsed(activity: Activity, rate: float, *, alone: bool) -> list[Step]:
    """The shares of production's gate, each for a short time; all of it where nobody else could answer.

    Raises:
        SevenfoldError: that gate says nothing about steps.
    """
    shares = [1.0] if alone else [step.share for step in steps_of(activity, "production")]
    early = 0.0 if alone else EARLY_S
    before = rate * early * sum(shares[:-1])
    last = max(LAST_S + EARLY_S - early, (SPARE * needed(activity) - before) / (shares[-1] * rate))
    return [
        Step(share, requests=int(LEAST * share * rate * s), seconds=s, limit_s=s)
        for share, s in zip(shares, [early] * (len(shares) - 1) + [float(np.ceil(last))], strict=True)
    ]


def needed(activity: Activity) -> int:
    """The fewest requests of the candidate, none of them bad, that prove what the gate asks here."""
    return max((least_requests(metric, metric.alpha) or 0 for metric in metrics(activity)), default=0)


def plan(rate: float, steps: Sequence[Step]) -> Schedule:
    """Each step's requests at `rate` a second, the side of each drawn by chance."""
    random = np.random.default_rng(SEED)
    parts = []
    for step in steps:
        drawn = random.random(round(rate * step.seconds)) < step.share
        sides = [CANDIDATE if mine else CHAMPION for mine in drawn]
        parts.append(Schedule.steady(rate, step.seconds, sides, f"{step.share:.0%}"))
    return parts[0].then(*parts[1:])


class Rehearsal:
    """What the load met, told to a roll-out interval by interval as if it were happening."""

    def __init__(self, activity: Activity, found: LoadResult, began: datetime, *, compared: bool) -> None:
        self.activity, self.found, self.began, self.compared = activity, found, began, compared
        self.slow_ms = activity.spec.serving.sla.p99_ms
        self.now = 0.0

    def go(self, steps: Sequence[Step]) -> Outcome:
        """All steps, or until the rules stop it."""
        return roll_out(
            steps,
            set_share=lambda share: None,  # the load was made with these shares
            poll=self.poll,
            judge=lambda: verdict_so_far(self.activity),
            say=self.activity.progress,
            clock=lambda: self.now,
        )

    def poll(self, step: Step) -> Arm:
        """Measures errors and slow answers of both sides in the next interval."""
        start, self.now = self.now, self.now + INTERVAL_S
        part = self.found.due(start, self.now)
        window = (self.began + timedelta(seconds=start), self.began + timedelta(seconds=self.now))
        challenger = self._arm(part, CANDIDATE)
        champion = self._arm(part, CHAMPION) if self.compared else None
        measure_arms(self.activity, key(window[0]), window, challenger, champion, step.share)
        return challenger

    def _arm(self, part: LoadResult, side: int) -> Arm:
        mine = part.where(part.kind == side)
        return Arm(mine.requests, mine.errors, int((mine.latency_ms > self.slow_ms).sum()))


def kinds(activity: Activity, sides: Sequence[Target]) -> list[Kind]:
    """The same single rows for both sides."""
    names = ("candidate", "champion")
    return [
        replace(kind, name=name)
        for name, side in zip(names, sides, strict=False)
        for kind in replayed(activity, side.path, (1,))
    ]


if __name__ == "__main__":
    run(main)
