"""Analysis: judges a candidate's measurements by a gate's policy. Pure: no clock, no store, no side effect.

Fails closed. What is missing, not a number, empty, stale, of another model file, or measured on a counter
that was reset never passes; it is an Error with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from sevenfold.candidates.candidate import Candidate, Utc
from sevenfold.gates.judging import judge_slice
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Metric, Policy
from sevenfold.gates.readings import Subject
from sevenfold.gates.reasons import is_near_limit, summary, with_consequence
from sevenfold.gates.rules import RULES, Case, Outcome, words
from sevenfold.gates.verdict import Verdict, worst
from sevenfold.release.promotion import Promotion


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
    `accepted` is False when the gate is not one that may judge this candidate: then nothing passes.
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
    accepted: bool = True


def judge(
    policy: Policy,
    measurements: Iterable[Measurement],
    candidate: Candidate,
    promotion: Promotion,
    now: datetime,
    *,
    champion: Candidate | None,
    accepted: Mapping[str, str],
    anchor: Candidate | None = None,
    uses: int | None = None,
    refusal: str = "",
    data_now: datetime | None = None,
) -> AnalysisRun:
    """Judges everything that was measured for a promotion so far.

    Args:
        policy: the gate.
        measurements: readings in any order; duplicates of an interval change nothing.
        candidate: what is judged; readings of any other candidate or model file are refused.
        promotion: whose readings they are.
        now: the time on the wall, to tell stale readings and deadlines.
        champion: what serves production, or None if nothing does: then comparisons say so and pass, while
            absolute limits still hold. There is no default, so that nobody forgets the champion.
        accepted: the gates that may judge this candidate, by hash, with what is said of them: the one it was
            made under, and what two people let it be changed to (sevenfold.people.gate_change).
        anchor: the frozen champion that slow decay is measured against.
        uses: how often the fixed test set has been used, this time included, or a reading's count `uses`;
            None if nobody counted: what has a budget is then an Error.
        refusal: the sentence for a gate that is not accepted.
        data_now: the time that the data have reached (sevenfold.clock), to tell whose labels are final.
    """
    subject = Subject(promotion.id, candidate, champion, anchor, now, data_now, uses)
    by_metric: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for reading in measurements:
        by_metric[reading.activity, reading.metric].append(reading)
    rivals = rejecting(policy)
    results: list[MetricResult] = []
    waits: list[datetime] = []
    for metric in policy.metrics:
        readings = by_metric[metric.activity, metric.metric]
        found = _judge_metric(metric, readings, subject, rivals)
        # From the first reading: a person's approval may have been waited for since the promotion began.
        since = min((reading.measured_at for reading in readings), default=promotion.began_at)
        until = since + (metric.deadline or timedelta(0))
        found = [with_consequence(result, metric, until, now) for result in found]
        waits += [until for result in found if result.decides and result.verdict is Verdict.INCONCLUSIVE]
        results += found

    verdict = worst(result.verdict for result in results if result.decides)
    reason = summary(verdict, results)
    if policy.hash not in accepted:
        verdict = worst((verdict, Verdict.ERROR))
        reason = refusal or f"The gate of {policy.environment} may not judge {candidate.id}."
    elif accepted[policy.hash]:
        reason = f"{reason} ({accepted[policy.hash]})"
    decide_by = min(waits) if verdict is Verdict.INCONCLUSIVE else None
    return AnalysisRun(
        promotion=promotion.id,
        candidate=candidate.id,
        environment=policy.environment,
        policy_hash=policy.hash,
        verdict=verdict,
        reason=reason,
        metrics=tuple(results),
        decide_by=decide_by,
        overdue=decide_by is not None and now >= decide_by,
        compared=all(result.compared for result in results),
        accepted=policy.hash in accepted,
    )


def rejecting(policy: Policy) -> int:
    """How many metrics could reject a good candidate by bad luck: the risk of it is divided among them."""
    return max(1, sum(_rejects_by_chance(metric) for metric in policy.metrics))


def _rejects_by_chance(metric: Metric) -> bool:
    by_chance = RULES[metric.rule].statistical and not metric.deterministic
    return by_chance and metric.critical and metric.dry_run is None


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
    compared = metric.baseline == "none" or subject.has(metric.baseline)
    case = Case(metric, (), metric.alpha, metric.alpha / (rivals * max(len(slices), 1)), compared)
    results = []
    for slice in slices:
        of_slice = [reading for reading in readings if reading.slice == slice]
        outcome = judge_slice(replace(case, readings=of_slice), subject, slice)
        too_small = slice is not None and 0 < outcome.n < metric.min_slice_size
        decides = metric.dry_run is None and not too_small
        results.append(_result(metric, slice, outcome, decides=decides, compared=case.compared))
    if metric.dry_run is None and not any(result.decides for result in results):
        nothing = "every slice is too small to decide anything" if results else "no slice was measured"
        verdict = Verdict.INCONCLUSIVE if results else Verdict.ERROR
        results.append(_result(metric, None, Outcome(verdict, f"{words.name(metric.metric)}: {nothing}")))
    return results


def _fits(reading: Measurement, metric: Metric, subject: Subject) -> bool:
    """Whether a reading was taken against the metric's baseline.

    Live counts of a candidate mean the same with a champion beside it and without one.
    """
    alone = metric.baseline == "none" or not subject.has(metric.baseline)
    return reading.baseline == metric.baseline or (RULES[metric.rule].live and alone)


def _has_nothing_to_compare_with(metric: Metric, subject: Subject) -> bool:
    """A first candidate has no champion; an absolute limit beside the comparison still holds."""
    alone = RULES[metric.rule].alone and metric.limit is not None
    return metric.baseline != "none" and not subject.has(metric.baseline) and not alone


def _slices(metric: Metric, readings: Sequence[Measurement]) -> list[str | None]:
    if metric.slices is None:
        return [None]
    if metric.slices == "every":
        return sorted({reading.slice for reading in readings if reading.slice is not None})  # type: ignore[return-value]
    return list(metric.slices)


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
        warning=outcome.verdict is Verdict.SUCCESSFUL and is_near_limit(metric, outcome.value),
    )
