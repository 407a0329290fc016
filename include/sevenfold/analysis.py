"""Analysis: judges a candidate's measurements by a gate's policy. Pure: no clock, no store, no side effect.

Fails closed. What is missing, not a number, empty, stale, of another model file, or measured on a counter
that was reset never passes; it is an Error with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from sevenfold.candidate import Candidate, Utc
from sevenfold.measurement import Measurement
from sevenfold.policy import Metric, Policy
from sevenfold.promotion import Promotion
from sevenfold.readings import Subject, content, distinct, mature, require_fresh, require_usable
from sevenfold.rules import RULES, Case, Outcome, Unusable, words
from sevenfold.rules.spending import spend
from sevenfold.verdict import Verdict, worst


class MetricResult(BaseModel):
    """The verdict on one metric of one slice, with its sentence.

    `decides` is False for a dry run and for a slice that is too small: shown, but without a say. `compared`
    is False where a baseline was asked for and the model has no champion yet. `warning` marks a pass near its
    limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    activity: str
    slice: str | None
    rule: str
    verdict: Verdict
    reason: str
    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None
    decides: bool = True
    compared: bool = True
    warning: bool = False


class AnalysisRun(BaseModel):
    """One execution of a gate on one candidate.

    Of an Inconclusive run `decide_by` is when no larger sample is waited for and a person is asked; `overdue`
    says that this moment has passed. `compared` is False when the model had no champion to compare with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    promotion: str
    candidate: str
    environment: str
    policy_hash: str
    verdict: Verdict
    reason: str
    metrics: tuple[MetricResult, ...]
    decide_by: Utc | None = None
    overdue: bool = False
    compared: bool = True


def judge(
    policy: Policy,
    measurements: Iterable[Measurement],
    candidate: Candidate,
    promotion: Promotion,
    now: datetime,
    *,
    champion: Candidate | None,
    anchor: Candidate | None = None,
    uses: int = 1,
    data_now: datetime | None = None,
) -> AnalysisRun:
    """Judges everything that was measured for a promotion so far.

    Args:
        policy: the gate.
        measurements: readings in any order; duplicates of an interval change nothing.
        candidate: what is judged; readings of any other candidate or model file are refused.
        promotion: whose readings they are; deadlines count from its beginning.
        now: the time on the wall, to tell stale readings and deadlines.
        champion: what serves production, or None if nothing does: then comparisons say so and pass, while
            absolute limits still hold. There is no default, so that nobody forgets the champion.
        anchor: the frozen champion that slow decay is measured against.
        uses: how often the fixed test set has been used, this time included; or a reading's count `uses`.
        data_now: the time that the data have reached (sevenfold.clock), to tell whose labels are final.
    """
    subject = Subject(promotion.id, candidate, champion, anchor, now, data_now, uses)
    by_metric: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for reading in measurements:
        by_metric[reading.activity, reading.metric].append(reading)
    rivals = sum(_may_fail_by_chance(metric) for metric in policy.metrics)
    results: list[MetricResult] = []
    waits: list[datetime] = []
    for metric in policy.metrics:
        found = _judge_metric(metric, by_metric[metric.activity, metric.metric], subject, max(rivals, 1))
        until = promotion.began_at + (metric.deadline or timedelta(0))
        found = [_with_consequence(result, metric, until, now) for result in found]
        waits += [until for result in found if result.decides and result.verdict is Verdict.INCONCLUSIVE]
        results += found

    verdict = worst(result.verdict for result in results if result.decides)
    decide_by = min(waits) if verdict is Verdict.INCONCLUSIVE else None
    return AnalysisRun(
        promotion=promotion.id,
        candidate=candidate.id,
        environment=policy.environment,
        policy_hash=policy.hash,
        verdict=verdict,
        reason=_summary(verdict, results),
        metrics=tuple(results),
        decide_by=decide_by,
        overdue=decide_by is not None and now >= decide_by,
        compared=all(result.compared for result in results),
    )


def _may_fail_by_chance(metric: Metric) -> bool:
    return RULES[metric.rule].statistical and not metric.deterministic and metric.dry_run is None


def _judge_metric(
    metric: Metric, readings: Sequence[Measurement], subject: Subject, rivals: int
) -> list[MetricResult]:
    """The results of one metric: one, or one a slice."""
    if metric.dry_run is not None and metric.dry_run.until < subject.now.date():
        ended = f"its dry run ended on {metric.dry_run.until}, so it must decide or be removed"
        return [_result(metric, None, Outcome(Verdict.ERROR, f"{words.name(metric.metric)}: {ended}"))]
    if _has_nothing_to_compare_with(metric, subject):
        skipped = f"{words.name(metric.metric)}: no {metric.baseline}: nothing compared"
        return [_result(metric, None, Outcome(Verdict.SUCCESSFUL, skipped), compared=False)]

    readings = [reading for reading in readings if _fits(reading, metric, subject)]
    slices = _slices(metric, readings)
    compared = metric.baseline == "none" or subject.champion is not None
    case = Case(metric, (), metric.alpha, metric.alpha / (rivals * max(len(slices), 1)), compared)
    results = []
    for slice in slices:
        of_slice = [reading for reading in readings if reading.slice == slice]
        outcome = _judge_slice(replace(case, readings=of_slice), subject, slice)
        too_small = slice is not None and 0 < outcome.n < metric.min_slice_size
        decides = metric.dry_run is None and not too_small
        results.append(_result(metric, slice, outcome, decides=decides, compared=case.compared))
    if metric.dry_run is None and not any(result.decides for result in results):
        nothing = "every slice is too small to decide anything" if results else "no slice was measured"
        verdict = Verdict.INCONCLUSIVE if results else Verdict.ERROR
        results.append(_result(metric, None, Outcome(verdict, f"{words.name(metric.metric)}: {nothing}")))
    return results


def _fits(reading: Measurement, metric: Metric, subject: Subject) -> bool:
    """Whether a reading was taken against the metric's baseline, or live without any champion."""
    alone = RULES[metric.rule].alone and subject.champion is None
    return reading.baseline == metric.baseline or alone


def _has_nothing_to_compare_with(metric: Metric, subject: Subject) -> bool:
    """A first candidate has no champion; an absolute limit beside the comparison still holds."""
    alone = RULES[metric.rule].alone and metric.limit is not None
    return metric.baseline != "none" and subject.champion is None and not alone


def _slices(metric: Metric, readings: Sequence[Measurement]) -> list[str | None]:
    if metric.slices is None:
        return [None]
    if metric.slices == "every":
        return sorted({reading.slice for reading in readings if reading.slice is not None})  # type: ignore[return-value]
    return list(metric.slices)


def _judge_slice(case: Case, subject: Subject, slice: str | None) -> Outcome:
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


def _spent(case: Case, reading: Measurement, tries: int, uses: int) -> Case:
    """Looking again costs alpha: at a test set that was used before, or by measuring until it passes."""
    budget = case.metric.max_uses
    looks = tries
    if budget is not None:
        uses = max(uses, int((reading.counts or {}).get("uses", 1)))
        if uses > budget:
            raise Unusable(f"its test set has been used {uses} times, and its budget is {budget} uses")
        looks += uses - 1
    if looks == 1 and budget is None:
        return case
    return replace(case, alpha_pass=spend(case.alpha_pass, looks), alpha_fail=spend(case.alpha_fail, looks))


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
    together = rule.live
    case = replace(case, readings=readings)
    outcome = _on_enough(rule.judge(case), case) if together else _one_by_one(case)
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
    may_fail = rule.live or not rule.statistical or metric.deterministic
    if outcome.n >= metric.min_sample or (outcome.verdict is Verdict.FAILED and may_fail):
        return outcome
    few = f"{outcome.finding}, but on {outcome.n:,} only, and {metric.min_sample:,} are needed"
    return replace(outcome, verdict=Verdict.INCONCLUSIVE, finding=few)


def _result(
    metric: Metric, slice: str | None, outcome: Outcome, *, decides: bool = True, compared: bool = True
) -> MetricResult:
    return MetricResult(
        metric=metric.metric,
        activity=metric.activity,
        slice=slice,
        rule=metric.rule,
        verdict=outcome.verdict,
        reason=outcome.finding,
        value=outcome.value,
        n=outcome.n,
        low=outcome.low,
        high=outcome.high,
        decides=decides,
        compared=compared,
        warning=outcome.verdict is Verdict.SUCCESSFUL and _is_near_limit(metric, outcome.value),
    )


def _is_near_limit(metric: Metric, value: float | None) -> bool:
    if metric.warn is None or value is None:
        return False
    if isinstance(metric.warn, tuple):
        return not metric.warn[0] <= value <= metric.warn[1]
    return value < metric.warn if metric.direction == "higher" else value > metric.warn


def _with_consequence(result: MetricResult, metric: Metric, until: datetime, now: datetime) -> MetricResult:
    """Completes the sentence: fact and rule are there, what follows from them is added."""
    verdict, reason = result.verdict, result.reason
    if verdict is Verdict.FAILED and not metric.critical and result.decides:
        verdict = Verdict.INCONCLUSIVE
        consequence = "not good enough, and as the metric is not critical a person decides"
    elif not result.decides:
        consequence = (
            f"recorded only, as it is a dry run until {metric.dry_run.until}"
            if metric.dry_run
            else f"recorded only, as fewer than {metric.min_slice_size:,} are too few to decide"
        )
    elif verdict is Verdict.SUCCESSFUL:
        consequence = "good enough to go on"
        if result.warning:
            consequence += f", with a warning as it is beyond {_mark(metric)}"
        if not result.compared and metric.limit is not None:
            consequence += " (no champion: nothing compared)"
    elif verdict is Verdict.INCONCLUSIVE:
        consequence = (
            "not proven either way, so the champion stays and a person decides"
            if now >= until
            else f"not proven either way, so the champion stays and the sample grows until {_at(until)}"
        )
    elif verdict is Verdict.ERROR:
        consequence = "nothing is promoted until this is put right"
    else:
        consequence = "not good enough, the candidate is rejected"
    return result.model_copy(update={"verdict": verdict, "reason": f"{reason}: {consequence}."})


def _at(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %H:%M} UTC"


def _mark(metric: Metric) -> str:
    marks = metric.warn if isinstance(metric.warn, tuple) else (metric.warn or 0.0,)
    return " to ".join(words.amount(mark, metric.unit) for mark in marks)


def _summary(verdict: Verdict, results: Sequence[MetricResult]) -> str:
    """One sentence for the person on call: the worst thing that was found, and how the others stand."""
    deciding = [result for result in results if result.decides]
    chosen = [result for result in deciding if result.verdict is verdict]
    if not chosen:
        return "Nothing decided anything: nothing is promoted until this is put right."
    if verdict is Verdict.SUCCESSFUL:
        skipped = sum(not result.compared for result in deciding)
        warned = [result for result in deciding if result.warning]
        said = f"All {len(deciding)} metrics are good enough"
        said += f" ({skipped} without a champion to compare with)" if skipped else ""
        said += f", {len(warned)} with a warning" if warned else ""
        return f"{said}. {_capital((warned or chosen)[0].reason)}"
    others = len(chosen) - 1
    return _capital(chosen[0].reason) + (
        f" {others} more of {len(deciding)} metrics are {verdict}." if others else ""
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
