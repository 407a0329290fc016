"""The walk-through and the planner: what they promise is what the rule does."""

from __future__ import annotations

import numpy as np
import pytest
from tests.gate_case import judged, live, metric, policy, reading

from sevenfold.gates.planner import least_requests, main, plan, walk_through
from sevenfold.gates.policy import load_policy
from sevenfold.gates.rules.rate_ratio import log_evidence
from sevenfold.gates.verdict import Verdict
from sevenfold.settings import REPOSITORY

GATES = sorted((REPOSITORY / "include" / "models").glob("*/gates/*.yaml"))

# research/gates-and-faults.md, 1.5: bad events of the canary for a 90 % chance to pass.
RESEARCH = {(1.25, 0.1): 350, (1.5, 0.1): 100, (1.5, 0.5): 186, (2.0, 0.1): 30, (2.0, 0.5): 66}


@pytest.mark.parametrize(("margin", "share"), RESEARCH)
def test_the_plan_agrees_with_the_research(margin: float, share: float) -> None:
    found = plan(live(margin=margin), 0.01, share, 0.05, 0.05)
    assert found.bad_events == pytest.approx(RESEARCH[margin, share], rel=0.25)
    assert found.to_pass_likely == pytest.approx(100 * RESEARCH[margin, share], rel=0.25)
    assert found.to_pass_even is not None
    assert found.to_pass_likely is not None
    assert found.to_pass_even < found.to_pass_likely


def test_with_the_planned_traffic_the_rule_passes_as_often_as_planned() -> None:
    found = plan(live(), 0.01, 0.1, 0.05, 0.05)
    assert found.to_pass_likely is not None
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(200):
        n1 = found.to_pass_likely
        e1, e0 = rng.poisson(n1 * 0.01, 1)[0], rng.poisson(n1 * 9 * 0.01, 1)[0]
        passed += log_evidence(np.array([[e1, n1, e0, 9 * n1]], float), 1.5)[0] >= np.log(20)
    assert passed / 200 > 0.8


def test_bursts_need_more_traffic() -> None:
    calm, bursty = (plan(live(over_dispersion=phi), 0.01, 0.1, 0.05, 0.05) for phi in (1, 3))
    assert calm.to_pass_likely is not None
    assert bursty.to_pass_likely == pytest.approx(3 * calm.to_pass_likely, rel=0.1)


@pytest.mark.parametrize(
    ("of", "counts"),
    [
        (metric(metric="error_rate", unit="share", limit=0.001), lambda n: {"bad": 0, "n": n}),
        (
            metric(metric="up", unit="share", rule="at_least", direction="higher", limit=0.99),
            lambda n: {"bad": 0, "n": n},
        ),
        (metric(metric="churn", unit="share", rule="binomial", limit=0.05), lambda n: {"bad": 0, "n": n}),
    ],
)
def test_the_least_sample_is_the_least(of, counts) -> None:  # type: ignore[no-untyped-def]
    least = least_requests(of, of.alpha)
    assert least is not None
    enough = reading(of, 0.0 if of.rule != "at_least" else 1.0, n=least, counts=counts(least))
    too_few = enough.model_copy(update={"counts": counts(int(least * 0.97))})
    assert judged(of, [enough]).verdict is Verdict.SUCCESSFUL
    assert judged(of, [too_few]).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("path", GATES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_gate_can_be_walked_through(path) -> None:  # type: ignore[no-untyped-def]
    gate = load_policy(path)
    text = walk_through(gate)
    for number, asked in enumerate(gate.metrics, start=1):
        assert f"\n{number}. " in text
        assert asked.meaning in text
        text = text.replace(asked.meaning, "")  # a person's own words
    assert "None" not in text
    assert "nan" not in text.split()


def test_the_walk_through_says_what_passes_holds_and_fails() -> None:
    text = walk_through(policy(live(count=20, interval="1m", error_limit=2, limit=0.01)), base_rates=[0.01])
    for words in (
        "Passes when its rate is proven within 1.5 times the champion's or below 1 %",
        "Without a champion nothing is compared, and it passes but for its absolute limit.",
        "Risk of passing what is beyond the limit: 5 %",
        "Looked at every 1 min; it may fail at any look and pass after 20 min.",
        "Unusable intervals that are tolerated, left out and named: 2.",
        "Undecided 1 h after the first reading, a person decides.",
        "At a champion's rate of 1 % and 10 % of the traffic an equal candidate needs",
    ):
        assert words in text, text


def test_the_walk_through_says_how_a_canary_grows_and_how_long_it_takes_at_the_least() -> None:
    text = walk_through(load_policy(REPOSITORY / "include/models/flight_delay/gates/production.yaml"))
    assert (
        "The candidate's share of the live requests grows in steps: 5 % for at least 4 s and 25 requests"
        in text
    )
    assert "on the model's clock, for labels have to become final" in text
    quick = walk_through(policy(live(count=20, interval="1m")), base_rates=[0.01])
    assert "It takes 20 min at the least." in quick
    assert "It takes no time of its own" in walk_through(policy(metric()))


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(GATES[0])])
    assert capsys.readouterr().out.startswith(f"Gate of {GATES[0].parts[-3]} in ")
