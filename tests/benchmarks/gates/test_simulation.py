"""The simulation simulates the rule that gates use, and its bounds can break."""

from __future__ import annotations

import numpy as np
import pytest
from tests.benchmarks.gates.__main__ import held, table
from tests.benchmarks.gates.rivals import HOLD, PROMOTE, ROLL_BACK, first, unless
from tests.benchmarks.gates.simulation import MARGIN, WORLDS, Row, log_evidence, simulate

from sevenfold.gates.rules import rate_ratio


def test_it_simulates_the_rule_itself() -> None:
    world = WORLDS[1]
    traffic = world.traffic(1.2, 3, np.random.default_rng(1))
    good, bad = log_evidence(traffic)
    for run in range(3):
        for poll in (0, 7, 19):
            arms = (traffic.e1, traffic.n1, traffic.e0, traffic.n0)
            intervals = np.stack([arm[run, : poll + 1] for arm in arms], axis=1)
            expected = rate_ratio.log_evidence(intervals, MARGIN)
            assert (good[run, poll], bad[run, poll]) == pytest.approx(expected)


def test_the_first_event_decides() -> None:
    yes, no = [False, True, False], [False, False, False]
    late = [False, False, True]
    found = first(np.array([yes, late, no, yes]), np.array([late, yes, no, yes]))
    assert found.verdict.tolist() == [PROMOTE, ROLL_BACK, HOLD, ROLL_BACK]
    assert found.poll.tolist() == [1, 1, 3, 1]
    assert unless(np.array([no, yes])).verdict.tolist() == [PROMOTE, ROLL_BACK]


def test_a_small_simulation_shows_every_rule_and_keeps_the_bounds() -> None:
    world = WORLDS[1]
    rows = list(simulate(world, 100))
    text = table(world, rows)
    assert "Kayenta, once at the end" in text
    assert all(holds for *_, holds in held(world, rows))
    assert next(row for row in rows if row.rule.startswith("naive")).rolled_back > 0.5


def test_a_broken_bound_shows() -> None:
    world = WORLDS[1]
    rows = [Row(world, "ours", factor, 0.06, 0.06, 1.0) for factor in (1.0, 1.5, 2.0)]
    assert not any(holds for *_, holds in held(world, rows))
