"""One metric of one slice: from its readings to an outcome, whatever is wrong with them."""

from __future__ import annotations

from dataclasses import replace

from sevenfold.gates.measurement import Measurement
from sevenfold.gates.readings import Subject, content, distinct, mature, require_fresh, require_usable
from sevenfold.gates.rules import RULES, Case, Outcome, Unusable, words
from sevenfold.gates.rules.spending import spend
from sevenfold.gates.verdict import Verdict


def judge_slice(case: Case, subject: Subject, slice: str | None) -> Outcome:
    """One metric of one slice; whatever is wrong with its readings ends as Error with the fact."""
    metric = case.metric
    try:
        if not case.readings:
            against = f" against the {metric.baseline}" if metric.baseline != "none" and case.compared else ""
            raise Unusable(f"{metric.activity} left no reading of it{against}")
        if metric.polled:
            return _judge_polled(case, subject)
        return _judge_once(case, subject)
    except Unusable as unusable:
        of = f" of {slice}" if slice else ""
        return Outcome(Verdict.ERROR, f"{words.name(metric.metric)}{of}: {unusable}")


def _judge_once(case: Case, subject: Subject) -> Outcome:
    """The newest reading decides; of several windows (interval keys) that of the last one."""
    metric = case.metric
    last = max(reading.interval or "" for reading in case.readings)
    tries = [reading for reading in case.readings if (reading.interval or "") == last]
    newest = max(tries, key=lambda reading: (reading.measured_at, reading.model_dump_json()))
    require_usable(newest, metric, subject)
    require_fresh(newest, metric, subject)
    if not mature([newest], metric, subject):
        raise Unusable("its labels are not final yet")
    case = _spent(case, newest, len({content(reading) for reading in tries}), subject.uses)
    return _on_enough(RULES[metric.rule].judge(replace(case, readings=[newest])), case)


def _spent(case: Case, reading: Measurement, tries: int, counted: int | None) -> Case:
    """Passing costs alpha at every look: at a test set that was used before, or measured until it passes."""
    budget = case.metric.max_uses
    looks = tries
    if budget is not None:
        uses = max(counted or 0, int((reading.counts or {}).get("uses", 0)))
        if uses < 1:
            raise Unusable("nobody counted the look at its test set, so nobody knows which look it was")
        if uses > budget:
            raise Unusable(f"its test set has been used {uses} times, and its budget is {budget} uses")
        looks += uses - 1
    if looks == 1 and budget is None:
        return case
    return replace(case, alpha_pass=spend(case.alpha_pass, looks))


def _judge_polled(case: Case, subject: Subject) -> Outcome:
    """All intervals so far, together by a live rule, else one by one against the limits on failures."""
    metric, rule = case.metric, RULES[case.metric.rule]
    usable, flaws = [], []
    for reading in distinct(case.readings):
        try:
            require_usable(reading, metric, subject)
            usable.append(reading)
        except Unusable as unusable:
            flaws.append(f"in interval {reading.interval} {unusable}")
    if len(flaws) > metric.error_limit:
        raise Unusable(f"{flaws[0]} ({len(flaws)} unusable intervals, {metric.error_limit} are tolerated)")
    if not usable:
        raise Unusable("no interval is usable")
    require_fresh(max(usable, key=lambda reading: reading.measured_at), metric, subject)
    readings = mature(usable, metric, subject)
    if not readings:
        young = f"{words.name(metric.metric)}: the labels of all {len(usable)} intervals are still to come"
        return Outcome(Verdict.INCONCLUSIVE, young)
    case = replace(case, readings=readings)
    outcome = _on_enough(rule.judge(case), case) if rule.live else _one_by_one(case)
    if outcome.verdict is Verdict.SUCCESSFUL and len(readings) < metric.count:
        short = f"{outcome.finding}, but only {len(readings)} of {metric.count} intervals have passed"
        return replace(outcome, verdict=Verdict.INCONCLUSIVE, finding=short)
    if flaws:
        return replace(outcome, finding=f"{outcome.finding}; {len(flaws)} unusable intervals left out")
    return outcome


def _one_by_one(case: Case) -> Outcome:
    """Argo Rollouts' limits: so many failed and so many undecided intervals are tolerated."""
    metric = case.metric
    outcomes = [
        _on_enough(RULES[metric.rule].judge(replace(case, readings=[r])), case) for r in case.readings
    ]
    failed = [outcome for outcome in outcomes if outcome.verdict is Verdict.FAILED]
    undecided = [outcome for outcome in outcomes if outcome.verdict is Verdict.INCONCLUSIVE]
    n = sum(outcome.n for outcome in outcomes)
    if len(failed) > metric.failure_limit:
        tolerated = f"in {len(failed)} of {len(outcomes)} intervals, {metric.failure_limit} are tolerated"
        return replace(failed[-1], n=n, finding=f"{failed[-1].finding} ({tolerated})")
    if len(undecided) > metric.inconclusive_limit:
        tolerated = (
            f"in {len(undecided)} of {len(outcomes)} intervals, {metric.inconclusive_limit} are tolerated"
        )
        return replace(undecided[-1], n=n, finding=f"{undecided[-1].finding} ({tolerated})")
    fine = len(outcomes) - len(failed) - len(undecided)
    return replace(
        outcomes[-1],
        verdict=Verdict.SUCCESSFUL,
        n=n,
        finding=f"{outcomes[-1].finding} (fine in {fine} of {len(outcomes)} intervals)",
    )


def _on_enough(outcome: Outcome, case: Case) -> Outcome:
    """Below min_sample nothing passes, and nothing fails but by a live rule, which is valid at any size."""
    metric, rule = case.metric, RULES[case.metric.rule]
    if outcome.verdict is Verdict.INCONCLUSIVE or outcome.n >= metric.min_sample:
        return outcome
    if outcome.verdict is Verdict.FAILED and (rule.live or not rule.statistical or metric.deterministic):
        return outcome
    few = f"{outcome.finding}, but on {outcome.n:,} only, and {metric.min_sample:,} are needed"
    return replace(outcome, verdict=Verdict.INCONCLUSIVE, finding=few)
