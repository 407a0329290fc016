"""The error budget: what counts as bad, what is allowed, how fast it goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.toy import spec_in

from activities.production.sla import sentence
from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring.answers import Answer
from sevenfold.monitoring.error_budget import LATELY, WINDOW, budgets

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return spec_in(tmp_path / "models")  # 1 % may fail, p99 is 100 ms


def answers(
    n: int, status: int = 200, ms: float = 5.0, ago: timedelta = timedelta(minutes=1)
) -> list[Answer]:
    return [Answer(NOW - ago, "toy-1", "live", status, ms, "toy", "/v2/models/toy/infer")] * n


def spent(spec: ModelSpec, *parts: list[Answer]) -> dict[tuple[str, timedelta], float]:
    found = budgets(spec, [one for part in parts for one in part], NOW)
    return {(budget.what, budget.window): budget.spent for budget in found}


def test_what_failed_and_what_was_slow_is_spent(spec: ModelSpec) -> None:
    found = spent(spec, answers(960), answers(5, 503), answers(5, 0), answers(30, ms=101.0))
    assert found["errors", WINDOW] == pytest.approx(1.0)
    assert found["slow", WINDOW] == pytest.approx(3.0)


def test_what_a_caller_must_put_right_is_no_fault_of_the_service(spec: ModelSpec) -> None:
    assert spent(spec, answers(500), answers(500, 400))["errors", WINDOW] == 0


def test_the_burn_rate_is_of_the_last_hour(spec: ModelSpec) -> None:
    old = answers(10_000, ago=timedelta(days=3))
    found = spent(spec, old, answers(80), answers(20, 500))
    assert found["errors", LATELY] == pytest.approx(20.0)
    assert found["errors", WINDOW] == pytest.approx(20 / 101)
    assert spent(spec, answers(100, 500, ago=timedelta(days=31)))["errors", WINDOW] == 0


def test_it_says_since_when_there_are_requests(spec: ModelSpec) -> None:
    """The log may not reach back as far as the window: nobody shall think that it does."""
    lately = answers(10, ago=timedelta(minutes=20)) + answers(10)
    [errors, *_] = budgets(spec, lately, NOW)
    assert sentence(errors) == (
        "errors: 0 of 20 requests in the last 30 days (the first on 2026-11-25 at 11:40), 1 allowed: "
        "0.00 times the budget"
    )
    assert budgets(spec, [], NOW)[0].first is None


def test_one_request_may_always_fail(spec: ModelSpec) -> None:
    assert spent(spec, answers(9), answers(1, 500))["errors", WINDOW] == 1.0
    assert spent(spec)["errors", WINDOW] == 0
