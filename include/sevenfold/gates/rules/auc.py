"""auc: ranking quality against the champion (or the anchor) on the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.gates.rules import non_inferior
from sevenfold.gates.rules.rule import Case, Outcome, Rule, Unusable

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric


def judge(case: Case) -> Outcome:
    """Passes when the AUC is proven less than the margin below the baseline's.

    Fails when it is proven below it and not within the margin.

    Needs: value and baseline_value, both AUCs between 0 and 1, and counts {mean_diff, se, clusters} of their
    difference by DeLong, as sevenfold.measures.evaluation.auc_difference gives them; or low and high of it.
    Assumes: both scored the same rows; days are independent, rows of a day need not be.
    Source: DeLong, DeLong and Clarke-Pearson 1988; clusters as Obuchowski 1997.
    """
    reading = case.reading
    for area in (reading.value, reading.baseline_value):
        if area is None or not 0 <= area <= 1:
            raise Unusable(f"an AUC lies between 0 and 1, and one of the two is {area}")
    return non_inferior.judge(case)


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    return non_inferior.in_words(metric)


RULE = Rule("auc", judge, in_words, needs=frozenset({"baseline", "margin"}), takes=frozenset({"max_uses"}))
