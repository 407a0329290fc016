"""Stored measurements judged again: the same policy says the same, a stricter one says what would change."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.sevenfold.evidence_world import MODEL, World, candidate

from sevenfold.candidates.candidate import Candidate
from sevenfold.gates.analysis import judge
from sevenfold.gates.conclude import conclude
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Metric, Policy
from sevenfold.gates.replay import NothingToReplay, replay
from sevenfold.release.promotion import Promotion


def gate(limit: float) -> Policy:
    """Log loss at most `limit`."""
    metric = Metric.model_validate(
        {
            "metric": "log_loss",
            "activity": "benchmark",
            "meaning": "How surprised the model is.",
            "unit": "nats",
            "direction": "lower",
            "rule": "at_most",
            "limit": limit,
        }
    )
    return Policy(environment="testing", model=MODEL, description="A gate of the tests.", metrics=(metric,))


def measured(world: World, made: Candidate, value: float, run: str = "run") -> Promotion:
    promotion = world.begin(made, "testing", run)
    world.store.record(
        [
            Measurement(
                promotion=promotion.id, candidate=made.id, activity="benchmark", metric="log_loss",
                value=value, low=value - 0.01, high=value + 0.01, unit="nats", n=10_000,
                digest=made.model_digest,
            )
        ]
    )  # fmt: skip
    return promotion


def concluded(world: World, promotion: Promotion, limit: float) -> Promotion:
    run = judge(
        gate(limit), world.store.measurements(promotion.id),
        world.store.candidate(promotion.candidate or ""), promotion, datetime.now(UTC), champion=None,
        accepted={gate(limit).hash: ""},
    )  # fmt: skip
    return conclude(world.store, promotion.id, run)


def test_the_same_policy_says_the_same(world: World) -> None:
    promotion = measured(world, world.store.add_candidate(candidate("a", testing=gate(0.6).hash)), 0.5)
    assert concluded(world, promotion, 0.6).state == "promoted"
    again = replay(world.store, promotion.id, gate(0.6))
    assert again.changes == ()
    assert again.after == again.before


def test_another_policy_says_what_would_change_and_writes_nothing(world: World) -> None:
    promotion = measured(world, world.store.add_candidate(candidate("a", testing=gate(0.6).hash)), 0.5)
    ended = concluded(world, promotion, 0.6)
    lines = len(world.store.audit_lines())
    verdict, metric = replay(world.store, promotion.id, gate(0.4)).changes
    assert verdict.startswith("The verdict would be Failed instead of Successful: ")
    assert metric.startswith("log_loss would be Failed instead of Successful: ")
    assert world.store.promotion(promotion.id) == ended
    assert len(world.store.audit_lines()) == lines
    assert world.store.passed(ended.candidate or "", "testing")


def test_there_has_to_be_something_to_replay(world: World) -> None:
    promotion = measured(world, world.store.add_candidate(candidate("a", testing=gate(0.6).hash)), 0.5)
    with pytest.raises(NothingToReplay, match="was never judged"):
        replay(world.store, promotion.id, gate(0.5))
