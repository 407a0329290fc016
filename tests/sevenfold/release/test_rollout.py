"""The roll-out's logic as a table and as a property, and the driver against a simulated service."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.gates.verdict import Verdict
from sevenfold.release.rollout import Arm, Next, Step, decide, resume, roll_out

STEP = Step(0.25, requests=100, seconds=2.0, limit_s=10.0)
SHARES = (0.05, 0.25, 0.5)

GOOD, OPEN, BAD = Verdict.SUCCESSFUL, Verdict.INCONCLUSIVE, Verdict.FAILED


@pytest.mark.parametrize(
    ("requests", "seconds", "verdict", "last", "after"),
    [
        (0, 0.0, OPEN, False, Next.STAY),
        (100, 1.9, GOOD, False, Next.STAY),
        (99, 5.0, GOOD, False, Next.STAY),
        (100, 2.0, OPEN, False, Next.ADVANCE),
        (100, 2.0, Verdict.ERROR, False, Next.ADVANCE),
        (100, 2.0, OPEN, True, Next.STAY),
        (100, 2.0, GOOD, True, Next.ADVANCE),
        (5000, 10.0, OPEN, True, Next.HOLD),
        (99, 10.0, GOOD, False, Next.HOLD),
        (100, 11.0, OPEN, False, Next.ADVANCE),
        (5000, 5.0, BAD, False, Next.STOP),
        (0, 0.0, BAD, True, Next.STOP),
    ],
)
def test_decide(requests: int, seconds: float, verdict: Verdict, last: bool, after: Next) -> None:
    assert decide(STEP, requests, seconds, verdict, last) is after


@given(st.integers(0, 1000), st.floats(0, 100), st.sampled_from(Verdict), st.booleans())
def test_nothing_advances_on_failure_or_without_enough_requests(
    requests: int, seconds: float, verdict: Verdict, last: bool
) -> None:
    after = decide(STEP, requests, seconds, verdict, last)
    if verdict is BAD:
        assert after is Next.STOP
    if requests < STEP.requests or (last and verdict is not GOOD):
        assert after is not Next.ADVANCE


def test_a_retry_goes_on_where_it_was() -> None:
    steps = [Step(share) for share in SHARES]
    assert [s.share for s in resume(steps, 0.0)] == [0.05, 0.25, 0.5]
    assert [s.share for s in resume(steps, 0.25)] == [0.25, 0.5]
    assert [s.share for s in resume(steps, 0.3)] == [0.5]
    assert [s.share for s in resume(steps, 1.0)] == [0.5]


class Service:
    """A world with a clock: each poll lasts one second and brings `rate` requests, split by share."""

    def __init__(self, rate: int = 400, bad: float = 0.0, proof: int = 300) -> None:
        self.rate, self.bad, self.now, self.share = rate, bad, 0.0, 0.0
        self.shares: list[float] = []
        self.proof = proof
        self.seen = Arm()

    def set_share(self, share: float) -> None:
        self.share = share
        self.shares.append(share)

    def poll(self, step: Step) -> Arm:
        assert step.share == self.share
        self.now += 1.0
        requests = int(self.rate * self.share)
        arm = Arm(requests, int(requests * self.bad), 0)
        self.seen += arm
        return arm

    def judge(self) -> tuple[Verdict, str]:
        if self.seen.errors > 5:
            return BAD, "errors 50 times the champion's"
        return (GOOD, "fine") if self.seen.requests >= self.proof else (OPEN, "not proven yet")


def run(service: Service, share: float = 0.0):
    steps = resume([Step(part, 100, 2.0, 8.0) for part in SHARES], share)
    lines: list[str] = []
    outcome = roll_out(
        steps,
        set_share=service.set_share,
        poll=service.poll,
        judge=service.judge,
        say=lines.append,
        clock=lambda: service.now,
    )
    return outcome, lines


def test_a_good_challenger_goes_through_all_steps() -> None:
    service = Service()
    outcome, lines = run(service)
    assert outcome.finished
    assert outcome.share == 0.5
    assert service.shares == [0.05, 0.25, 0.5]
    assert service.now == 5 + 2 + 2  # 5 % needs five polls for 100 requests, the others bake two seconds
    assert len(lines) == outcome.polls == 9


def test_a_catastrophic_challenger_is_stopped_at_the_first_poll() -> None:
    service = Service(bad=0.5)
    outcome, _ = run(service)
    assert outcome.failed
    assert not outcome.finished
    assert (outcome.share, outcome.polls) == (0.05, 1)
    assert "50 times" in outcome.reason
    assert service.shares == [0.05]


def test_too_little_traffic_holds_instead_of_advancing() -> None:
    service = Service(rate=20)
    outcome, _ = run(service)
    assert not outcome.finished
    assert outcome.reason.startswith("undecided at 5%: 8 of 100 requests")


def test_the_last_step_goes_on_until_the_rules_are_sure_or_time_is_up() -> None:
    service = Service(proof=1500)
    outcome, _ = run(service)
    assert outcome.finished
    assert service.seen.requests >= 1500
    outcome, _ = run(Service(proof=10**6))
    assert not outcome.finished
    assert "not proven yet" in outcome.reason


def test_a_killed_roll_out_resumes_and_never_lowers_the_share() -> None:
    service = Service()
    outcome, _ = run(service, share=0.25)
    assert outcome.finished
    assert service.shares == [0.25, 0.5]
