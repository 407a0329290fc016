"""fairness: how far a group's rate lies from that of all others, absolutely or against the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.gates.rules import bounds, non_inferior, words
from sevenfold.gates.rules.rule import Case, Outcome, Rule, Unusable, decide

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric


def judge(case: Case) -> Outcome:
    """Passes when the size of the gap is proven below the limit (or has grown by less than the margin).

    Fails when it is proven above (or proven larger than the champion's, and not within the margin). The
    analysis asks this of every group; all must pass, and the risk of failing is divided among them.

    Needs: value, the gap between the group's rate and that of all others, with low and high, the two-sided 95
    % interval of its size; against a champion what non_inferior needs, of the sizes. n is the group's rows.
    Assumes: the interval comes from whole days, and groups were not chosen after a look.
    Source: intersection-union test for passing, Bonferroni for failing; research/gates-and-faults.md, 1.9.
    """
    metric, reading = case.metric, case.reading
    if metric.baseline != "none":
        return non_inferior.judge(case)
    if reading.value is None or reading.low is None or reading.high is None:
        raise Unusable("the gap has no value or no interval")
    size, limit = abs(reading.value), metric.limit or 0.0
    low, high = bounds.of_interval(size, reading.low, reading.high, case.alpha_pass)
    sure_low, _ = bounds.of_interval(size, reading.low, reading.high, case.alpha_fail)
    shown = words.interval(low, high, metric.unit, case.alpha_pass)
    finding = (
        f"{words.subject(reading)} to all others is {words.amount(size, metric.unit)} "
        f"({shown} from {reading.n:,}), at most {words.amount(limit, metric.unit)} is asked"
    )
    return Outcome(decide(high < limit, sure_low > limit), finding, size, reading.n, low, high)


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
