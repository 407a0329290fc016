"""Sentences for the person on call: fact, rule, consequence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sevenfold.gates.policy import Metric
from sevenfold.gates.rules import words
from sevenfold.gates.verdict import Verdict

if TYPE_CHECKING:
    from sevenfold.gates.analysis import MetricResult


COMPARISONS = ("non_inferior", "auc", "rate_ratio", "latency_pairs")
"""Rules that hold a candidate against another one."""


def is_near_limit(metric: Metric, value: float | None) -> bool:
    """Whether a passing value lies beyond its warning mark."""
    if metric.warn is None or value is None:
        return False
    if isinstance(metric.warn, tuple):
        return not metric.warn[0] <= value <= metric.warn[1]
    return value < metric.warn if metric.direction == "higher" else value > metric.warn


def with_consequence(result: MetricResult, metric: Metric, until: datetime, now: datetime) -> MetricResult:
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


def summary(verdict: Verdict, results: Sequence[MetricResult]) -> str:
    """One sentence for the person on call: the worst thing that was found, and how the others stand."""
    deciding = [result for result in results if result.decides]
    chosen = [result for result in deciding if result.verdict is verdict]
    if not chosen:
        return "Nothing decided anything: nothing is promoted until this is put right."
    if verdict is Verdict.SUCCESSFUL and len(deciding) > 1:
        skipped = sum(not result.compared for result in deciding)
        warned = [result for result in deciding if result.warning]
        said = f"All {len(deciding)} metrics are good enough"
        said += f" ({skipped} without a champion to compare with)" if skipped else ""
        said += f", {len(warned)} with a warning" if warned else ""
        return f"{said}. {_capital(_most_telling(chosen).reason)}"
    others = len(chosen) - 1
    return _capital(chosen[0].reason) + (
        f" {others} more of {len(deciding)} metrics are {verdict}." if others else ""
    )


def _most_telling(results: Sequence[MetricResult]) -> MetricResult:
    """A warning, else a comparison with the champion, else the first limit that was kept."""
    return min(results, key=lambda one: (not one.warning, one.rule not in COMPARISONS or not one.compared))


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
