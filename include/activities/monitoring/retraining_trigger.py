"""retraining_trigger: says whether the champion must be trained again, and why or why not."""

from __future__ import annotations

from sevenfold.activity import Activity, run
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.weeks import of_key
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store
from sevenfold.gates.measurement import Measurement
from sevenfold.monitoring.alarm import Judgement, WeekSeen, judge
from sevenfold.monitoring.watch import Watch

HARMFUL, HARMLESS = "harmful_drift", "harmless_drift"
"""Kinds of alerts: the first one, open, starts training; the second is recorded as dismissed."""


class NotMeasured(SevenfoldError):
    """A week that monitor measured and drift did not, or the other way round."""


def main(activity: Activity) -> None:
    """Judges the weeks that monitor and drift have measured in this run."""
    watch = Watch(activity)
    model = activity.promotion.model
    if watch.champion is None:
        activity.progress(f"{model} has no champion: nothing can be retrained")
        return
    seen = weeks_seen(activity.store.measurements(activity.promotion.id), watch.champion.id)
    if not seen:
        activity.progress(
            f"{watch.champion.id} has no complete week with {watch.rule.min_rows:,} labelled answers "
            f"before {watch.end:%Y-%m-%d}: there is nothing to judge yet"
        )
        return
    judgements = judge(watch.rule, seen, activity.spec.task.words)
    for one in judgements:
        activity.progress(one.reason)
        if one.state == "harmless":
            activity.store.add_alert(
                model, HARMLESS, one.week.key, watch.as_of, "info", one.value, one.reason, state="dismissed"
            )
    raise_alarm(activity, watch.champion, judgements[-1])


def raise_alarm(activity: Activity, champion: Candidate, last: Judgement) -> None:
    """Opens the alert that starts training, unless an earlier one is still being dealt with."""
    if last.state != "harmful":
        activity.progress("no alarm")
        return
    dealt_with = answer_under_way(activity.store, champion)
    if dealt_with is not None:
        activity.progress(f"the alarm is not raised again: {dealt_with}")
        return
    model, as_of = activity.promotion.model, activity.promotion.as_of
    activity.store.add_alert(
        model, HARMFUL, last.week.key, as_of, "critical", last.value, last.reason, state="open"
    )
    activity.progress(f"alarm: training of {model} is asked for")


def answer_under_way(store: Store, champion: Candidate) -> str | None:
    """What is already being done about this champion's harm, in words; None if nothing is."""
    mine = [
        alert
        for alert in store.alerts(champion.model)
        if alert.kind == HARMFUL and alert.as_of > champion.as_of
    ]
    for alert in mine:
        if alert.state == "open":
            return f"the alert for {alert.window} is still open"
    for candidate in store.candidates(champion.model):
        asked = [alert for alert in mine if alert.raised_at <= candidate.created_at]
        moves = store.promotions(champion.model, candidate=candidate.id)
        if asked and candidate.id != champion.id and moves and moves[-1].state in ("running", "promoted"):
            where = moves[-1].environment
            return f"{candidate.id}, trained after the alert for {asked[-1].window}, is in {where}"
    return None


def weeks_seen(measurements: list[Measurement], candidate: str) -> list[WeekSeen]:
    """The weeks that were measured completely, in the order of time.

    Raises:
        NotMeasured: a week has the outcome but not the drift.
    """
    weeks: dict[str, dict[str, Measurement]] = {}
    for reading in measurements:
        if reading.candidate == candidate and reading.interval and reading.slice is None:
            weeks.setdefault(reading.interval, {})[reading.metric] = reading
    seen = []
    for key in sorted(weeks):
        found = weeks[key]
        ratio, psi = found.get("observed_over_expected"), found.get("score_psi")
        if ratio is None:
            continue  # too few labels to judge, however many rows drifted
        if psi is None:
            raise NotMeasured(
                f"the week {key} of {candidate} has no score_psi: has the activity drift failed?"
            )
        seen.append(
            WeekSeen(
                week=of_key(key),
                over_expected=_value(ratio),
                log_loss=_value(found["log_loss"]),
                expected_log_loss=_value(found["expected_log_loss"]),
                psi=_value(psi),
                limit=(psi.counts or {})["limit"],
            )
        )
    return seen


def _value(reading: Measurement) -> float:
    if reading.value is None:
        raise NotMeasured(f"{reading.metric} of the week {reading.interval} has no value")
    return reading.value


if __name__ == "__main__":
    run(main)
