"""The candidate takes a growing share of live requests, and is off at once when the gate's rules say Failed.

Errors and slow answers are counted from the gateway's log in each interval; wrong decisions from the
prediction log and the labels that came back, in parts of days whose labels are final.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sevenfold import clock
from sevenfold.activity import Activity, run
from sevenfold.demo.flow import Flow, TrafficOver, flow
from sevenfold.gates.asked import metrics
from sevenfold.gateway import open_gateway
from sevenfold.measures.wrong import Cohort, wrong_decisions
from sevenfold.monitoring.answers import AccessLog, count
from sevenfold.release import release
from sevenfold.release.canary import key, measure_arms, measure_rate, steps_of, verdict_so_far
from sevenfold.release.reconcile import reconcile
from sevenfold.release.rollout import Arm, Outcome, Step, resume, roll_out
from sevenfold.trials.trial import ends_in_order, require_gateway

LONGEST_S = 60.0
"""The interval grows with the time that a step has lasted, up to this: a canary may go on for days."""
LABELS_S = 6.0
"""Labels come by the day, and reading logs costs: so often they are looked at, at most."""
SETTLED = timedelta(seconds=0.2)
"""Requests so soon after a change of the share may still have met the one before."""


def main(activity: Activity) -> None:
    """Steps through the shares; ends early on Failed, which also takes the candidate off."""
    require_gateway(activity)
    row = release.row(activity.store, activity.promotion.model)
    steps = resume(plan(activity, alone=row.champion is None), row.share)
    if row.champion is None:
        activity.progress("no champion: the candidate answers everything, absolute limits decide")
    with ends_in_order(), flow(activity, at_once=row.champion is None) as traffic:
        outcome = Canary(activity, traffic).go(steps)
    activity.progress(f"{outcome.reason} after {outcome.polls} polls")


def plan(activity: Activity, *, alone: bool) -> Sequence[Step]:
    """The gate's steps. While real callers come the last goes on until the gate's deadline: labels take days.

    It counts from now, as the gate counts from the first reading: an approval may have taken days.
    """
    steps = steps_of(activity)
    if alone:
        return [together(steps)]
    if activity.promotion.params.get("traffic") == "replay":
        return steps
    deadline = max((metric.deadline or timedelta(0) for metric in metrics(activity)), default=timedelta(0))
    return (*steps[:-1], replace(steps[-1], limit_s=max(steps[-1].limit_s, deadline.total_seconds())))


def together(steps: Sequence[Step]) -> Step:
    """Without a champion nobody else could answer: all requests at once, as many as in all steps."""
    return replace(steps[-1], share=1.0, requests=sum(step.requests for step in steps))


class Canary:
    """One try of a canary: counts from where it begins."""

    def __init__(self, activity: Activity, traffic: Flow) -> None:
        self.activity = activity
        self.traffic = traffic
        self.model = activity.promotion.model
        self.slow_ms = activity.spec.serving.sla.p99_ms
        self.log = AccessLog(activity.settings.logs, self.model, marks=open_gateway().marks)
        self.since = datetime.now(UTC)
        self.share, self.polls, self.met, self.labels_at = 0.0, 0, 0, 0.0
        self.began = self.since
        asked = [metric.interval.total_seconds() for metric in metrics(activity) if metric.interval]
        self.interval_s = min(asked, default=LONGEST_S)
        self.maturity = next((m.matured_after for m in metrics(activity) if m.metric == "wrong_labels"), None)

    def go(self, steps: Sequence[Step]) -> Outcome:
        """All steps, one after the other.

        Raises:
            TrafficOver: not one request came, so there is nothing that a gate could judge.
        """
        try:
            outcome = roll_out(
                steps,
                set_share=self.set_share,
                poll=self.poll,
                judge=lambda: verdict_so_far(self.activity),
                say=self.activity.progress,
            )
        except TrafficOver as over:
            if not self.met:
                raise
            return Outcome(False, self.share, self.polls, f"undecided at {self.share:.0%}: {over}")
        if outcome.failed:
            release.vacate(self.activity.store, self.activity.promotion.id, "canary", outcome.reason)
            done = reconcile(self.activity.store, self.model, open_gateway(hurry=True))
            self.activity.progress("the candidate gets no more requests")
            if done.in_doubt:
                self.activity.progress(done.in_doubt)
        return outcome

    def set_share(self, share: float) -> None:
        """The release row first; the router follows it, and counting begins when it does."""
        release.set_share(self.activity.store, self.activity.promotion.id, share, by="canary")
        in_force = reconcile(self.activity.store, self.model, open_gateway())
        self.share, self.began = share, datetime.now(UTC)
        self.since = self.began + SETTLED
        self.activity.progress(
            f"{in_force.traffic.share:.0%} of the requests (generation {in_force.traffic.generation})"
        )

    def poll(self, step: Step) -> Arm:
        """Counts one interval of the public route, and the parts of days whose labels have become final."""
        start, end = self.since, self.since + self.interval()
        time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()))
        answers = [
            one for one in self.log.between(start, end) if one.path == f"/v2/models/{self.model}/infer"
        ]
        self.since, self.polls = end, self.polls + 1
        arms = count(answers, self.slow_ms)
        challenger = arms.get(self.activity.candidate.id, Arm())
        champion = arms.get(self.activity.champion.id, Arm()) if self.activity.champion else None
        self.traffic.seen(len(answers))
        self.met += len(answers)
        if answers:
            measure_arms(self.activity, key(start), (start, end), challenger, champion, step.share)
        self.measure_wrong_decisions()
        return challenger

    def interval(self) -> timedelta:
        """The gate's own interval at first, then a hundredth of the time that the step has lasted."""
        lasted = (datetime.now(UTC) - self.began).total_seconds()
        return timedelta(seconds=max(self.interval_s, min(lasted / 100, LONGEST_S)))

    def measure_wrong_decisions(self) -> None:
        """Wrong decisions of both in each part of a day that has become final since the last time."""
        if self.maturity is None or self.activity.champion is None:
            return
        if time.monotonic() - self.labels_at < LABELS_S:
            return
        self.labels_at = time.monotonic()
        recorded = {
            reading.interval
            for reading in self.activity.store.measurements(self.activity.promotion.id, self.activity.name)
            if reading.metric == "wrong_labels"
        }
        final = clock.now(self.activity.store, self.model) - self.maturity
        cohorts = wrong_decisions(
            self.activity.settings.logs,
            self.model,
            self.activity.spec.task,
            self.activity.candidate.id,
            self.activity.champion.id,
            since=self.activity.promotion.began_at,
            final=final,
            skip=recorded,
        )
        for cohort in cohorts:
            self._measure(cohort)

    def _measure(self, cohort: Cohort) -> None:
        measure_rate(self.activity, "wrong_labels", cohort.key, (cohort.start, cohort.end), cohort.counts)


if __name__ == "__main__":
    run(main)
