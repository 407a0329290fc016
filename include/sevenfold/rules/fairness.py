"""fairness: how far a group's rate lies from that of all others, absolutely or against the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.rules import bounds, words
from sevenfold.rules.rule import Case, Outcome, Rule, Unusable, decide

if TYPE_CHECKING:
    from sevenfold.policy import Metric


def judge(case: Case) -> Outcome:
    """Passes when the size of the gap is proven below the limit (or has grown by less than the margin).

    Fails when it is proven above (or proven larger than the champion's, and not within the margin). The
    analysis asks this of every group; all must pass, and the risk of failing is divided among them.

    Needs: value, the group's rate minus that of all others, with low and high, the two-sided 95 % interval of
    the size of that gap; against a champion value, low and high are of the gap's growth (sevenfold.fairness).
    n is the group's rows. Assumes: the interval comes from whole days, and groups were not chosen after a
    look.
    Source: intersection-union test for passing, Bonferroni for failing; research/gates-and-faults.md, 1.9.
    """
    metric, reading = case.metric, case.reading
    if reading.value is None or reading.low is None or reading.high is None:
        raise Unusable("the gap has no value or no interval")
    growth = metric.baseline != "none"
    allowed = (metric.margin if growth else metric.limit) or 0.0
    centre = reading.value if growth else abs(reading.value)
    low, high = bounds.of_interval(centre, reading.low, reading.high, case.alpha_pass)
    sure_low, _ = bounds.of_interval(centre, reading.low, reading.high, case.alpha_fail)
    shown = words.interval(low, high, metric.unit, case.alpha_pass)
    if growth:
        fact = f"has {'grown' if centre > 0 else 'shrunk'} by {words.amount(abs(centre), metric.unit)}"
        finding = (
            f"{words.subject(reading)} {fact} against the {metric.baseline}'s "
            f"({shown} from {reading.n:,}, margin {words.amount(allowed, metric.unit)})"
        )
        return Outcome(decide(high < allowed, sure_low > 0), finding, reading.value, reading.n, low, high)
    finding = (
        f"{words.subject(reading)} is {words.amount(reading.value, metric.unit)} off all others' "
        f"({shown} from {reading.n:,}), at most {words.amount(allowed, metric.unit)} is asked"
    )
    return Outcome(decide(high < allowed, sure_low > allowed), finding, reading.value, reading.n, low, high)


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    if metric.baseline != "none":
        margin = words.amount(metric.margin or 0.0, metric.unit)
        return (
            f"passes when every group's gap is proven to have grown by less than {margin} over the "
            f"{metric.baseline}'s, fails when one is proven to have grown and not within {margin}"
        )
    limit = words.amount(metric.limit or 0.0, metric.unit)
    return f"passes when every group's gap is proven below {limit}, fails when one is proven above"


RULE = Rule("fairness", judge, in_words, takes=frozenset({"limit", "margin", "baseline"}))
