"""latency_pairs: a load test's latency against the champion's, from interleaved pairs of runs."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sevenfold.gates.rules import bounds, words
from sevenfold.gates.rules.rule import Case, Outcome, Rule, Unusable, count, decide

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric

FEWEST = 6
"""Pairs below which the bound is too wide to be of use."""


def judge(case: Case) -> Outcome:
    """Passes when the latency is proven below `margin` times the baseline's.

    Fails when it is proven above the baseline's and not within the margin.

    Needs: counts {mean_log_ratio, se, pairs} as `paired_runs` gives them.
    Assumes: runs alternate (A B B A ...) with an open-loop generator below the knee of both; pairs are
    independent. Requests of one run are not: research/gates-and-faults.md, 1.6, where one run each failed an
    identical model 38 % of the time. Source: paired t bound on log ratios.
    """
    metric, reading = case.metric, case.reading
    ratio, se, pairs = (count(reading, name) for name in ("mean_log_ratio", "se", "pairs"))
    if pairs < FEWEST:
        raise Unusable(f"{pairs:g} pairs of runs are too few, {FEWEST} are needed")
    margin = metric.margin or 1.0
    low, high = bounds.of_mean(ratio, se, case.alpha_pass, pairs)
    sure_low, _ = bounds.of_mean(ratio, se, case.alpha_fail, pairs)
    shown = words.interval(exp(low), exp(high), "", case.alpha_pass)
    finding = (
        f"{words.subject(reading)} is {exp(ratio):.3g} times the {metric.baseline}'s "
        f"in {pairs:g} pairs of runs ({shown}, margin {margin:g} times)"
    )
    verdict = decide(high < log(margin), sure_low > 0)
    return Outcome(verdict, finding, exp(ratio), reading.n, exp(low), exp(high))


def paired_runs(candidate: ArrayLike, baseline: ArrayLike) -> dict[str, float]:
    """Counts {mean_log_ratio, se, pairs} from the latency of each run [pairs], in the order of the runs."""
    ours, theirs = np.asarray(candidate, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if len(ours) != len(theirs) or len(ours) < 2:
        raise Unusable(f"{len(ours)} and {len(theirs)} runs make no pairs")
    if not ((ours > 0) & (theirs > 0)).all():
        raise Unusable("a latency is not above zero")
    ratios = np.log(ours / theirs)
    se = float(ratios.std(ddof=1) / np.sqrt(len(ratios)))
    return {"mean_log_ratio": float(ratios.mean()), "se": se, "pairs": float(len(ratios))}


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    return (
        f"passes when it is proven below {metric.margin:g} times the {metric.baseline}'s in "
        "interleaved runs, fails when it is proven slower and not within"
    )


RULE = Rule("latency_pairs", judge, in_words, needs=frozenset({"baseline", "margin"}))
