"""non_inferior: on the same rows, not worse than the champion (or the anchor) by more than a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.gates.rules import bounds, words
from sevenfold.gates.rules.rule import Case, Outcome, Rule, decide

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric


def judge(case: Case) -> Outcome:
    """Passes when the worst plausible difference is within the margin.

    Fails when that is not so and the candidate is proven worse than the baseline at all.

    Needs: counts {mean_diff, se, clusters?} of the paired difference, candidate minus baseline in the
    metric's unit, or low and high as the two-sided 95 % interval of that difference; value and baseline_value
    for the words.
    Assumes: both were measured on the same rows, and the standard error respects how rows hang together.
    Source: non-inferiority by confidence interval, e.g. ICH E9, 3.3.2.
    """
    difference, low, high = bounds.of_difference(case.reading, case.alpha_pass)
    _, sure_low, sure_high = bounds.of_difference(case.reading, case.alpha_fail)
    return compare(case, difference, (low, high), (sure_low, sure_high))


def compare(case: Case, difference: float, bound: tuple[float, float], sure: tuple[float, float]) -> Outcome:
    """Judges a difference (candidate minus baseline) with its bounds for passing and for failing."""
    metric, reading = case.metric, case.reading
    margin = metric.margin or 0.0
    lower_is_better = metric.direction == "lower"
    worst, surely = (bound[1], sure[0]) if lower_is_better else (-bound[0], -sure[1])
    better = (difference < 0) == lower_is_better
    value = f" is {words.amount(reading.value, metric.unit)}," if reading.value is not None else " is"
    how = (
        "equal to"
        if difference == 0
        else f"{words.amount(abs(difference), metric.unit)} " + ("better than" if better else "worse than")
    )
    shown = words.interval(*bound, metric.unit, case.alpha_pass)
    finding = (
        f"{words.subject(reading)}{value} {how} the {metric.baseline}'s "
        f"({shown}, margin {words.amount(margin, metric.unit)})"
    )
    return Outcome(decide(worst < margin, surely > 0), finding, reading.value, reading.n, *bound)


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    margin = words.amount(metric.margin or 0.0, metric.unit)
    return (
        f"passes when it is proven to be less than {margin} worse than the {metric.baseline}'s "
        f"on the same rows, fails when it is proven worse and not within {margin}"
    )


RULE = Rule(
    "non_inferior", judge, in_words, needs=frozenset({"baseline", "margin"}), takes=frozenset({"max_uses"})
)
