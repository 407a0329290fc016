"""The rules by which a metric is judged: one a file, each with its source, its units and what it assumes."""

from __future__ import annotations

from sevenfold.gates.rules import (
    all_true,
    at_least,
    at_most,
    auc,
    binomial,
    fairness,
    latency_pairs,
    non_inferior,
    rate_ratio,
    within,
)
from sevenfold.gates.rules.rule import Case, Outcome, Rule, Unusable

RULES: dict[str, Rule] = {
    module.RULE.name: module.RULE
    for module in (
        at_least,
        at_most,
        within,
        all_true,
        non_inferior,
        auc,
        rate_ratio,
        binomial,
        latency_pairs,
        fairness,
    )
}

__all__ = ["RULES", "Case", "Outcome", "Rule", "Unusable"]
