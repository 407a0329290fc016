"""The sixteen ways in which shipped gates fail open (research/anchors.md, 4): each is tried here, none works.

The names are those of the list, with who shipped it. Finer cases of the same kind are beside this file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.gate_case import NOW, interval, judged, live, metric, policy, reading
from tests.sevenfold.evidence_world import OPERATOR, World, analysis, candidate

from sevenfold.candidates.candidate import Candidate
from sevenfold.data.windows import windows
from sevenfold.evidence.passing import EvidenceLacking
from sevenfold.evidence.statement import verified
from sevenfold.evidence.store import BudgetSpent, open_store
from sevenfold.evidence.tables import statements
from sevenfold.gates.conclude import conclude
from sevenfold.gates.policy import load_policy
from sevenfold.gates.verdict import Verdict
from sevenfold.release import release
from sevenfold.release.release_row import NotClaimed, Unlawful
from sevenfold.serving.admission import NotAdmitted, require_admission
from sevenfold.settings import REPOSITORY
from sevenfold.strict_yaml import InvalidFile

SHARE = metric(metric="error_rate", unit="share", limit=0.01)
LOSS = metric(min_sample=100)
GOOD = {"value": 0.5, "low": 0.48, "high": 0.52}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield World(open_store(f"sqlite:///{tmp_path}/evidence.db", tmp_path / "keys"))


@pytest.fixture
def made(world: World) -> Candidate:
    return world.store.add_candidate(candidate("a"))


def test_1_gate_result_read_then_overwritten(world: World, made: Candidate) -> None:
    """Azure: the evaluation's flag is read, logged, and set to 1 on the next line."""
    refused = world.judged(made, "testing", "Failed")
    assert conclude(world.store, refused.id, analysis(refused, "Successful")).state == "refused"
    assert world.store.end_promotion(refused.id, "promoted", "Successful", "go on").state == "refused"
    assert not world.store.passed(made.id, "testing")


def test_2_gate_dry_run_by_default_with_no_expiry(tmp_path: Path) -> None:
    """MLOps Stacks: run_mode dry_run is what is shipped, and nothing ever ends it."""
    text = (REPOSITORY / "include/models/flight_delay/gates/testing.yaml").read_text()
    path = tmp_path / "testing.yaml"
    for trial in ("    dry_run: true\n", "    dry_run: {}\n"):
        path.write_text(text + trial)
        with pytest.raises(InvalidFile, match="dry_run"):
            load_policy(path)
    path.write_text(text)
    assert all(asked.dry_run is None for asked in load_policy(path).metrics)
    over = metric(dry_run={"until": NOW.date() - timedelta(days=1)})
    run = judged(
        policy(over, SHARE), [reading(over, **GOOD), reading(SHARE, 0.0, counts={"bad": 0, "n": 5000})]
    )
    assert run.verdict is Verdict.ERROR


def test_3_zero_in_the_denominator_skips_the_check() -> None:
    """ZenML: no missing values in the reference, so all of them may be missing now."""
    run = judged(SHARE, [reading(SHARE, 0.0, n=5, counts={"bad": 0, "n": 0})])
    assert run.verdict is Verdict.ERROR
    assert "denominator n is 0" in run.reason


def test_4_default_1_when_the_metric_is_absent() -> None:
    """ZenML: without fairness metrics the disparate impact ratio is a perfect 1.0."""
    assert judged(LOSS, []).verdict is Verdict.ERROR
    assert judged(LOSS, [reading(LOSS, None, low=0.4, high=0.6)]).verdict is Verdict.ERROR


def test_5_group_without_data_scores_100() -> None:
    """Kayenta: a group of metrics without data is a group without faults."""
    sliced = metric(slices=["JFK", "LGA"])
    run = judged(sliced, [reading(sliced, **GOOD, slice="JFK")])
    assert run.verdict is Verdict.ERROR
    assert judged(metric(slices="every"), []).verdict is Verdict.ERROR
    rates = live()
    silent = judged(rates, [interval(rates, 1, 0, 0, 0, 0)])
    assert silent.verdict is Verdict.INCONCLUSIVE


def test_6_terminated_before_measuring_is_success(world: World, made: Candidate) -> None:
    """Argo Rollouts: a metric that was stopped before its first measurement is Successful."""
    assert judged(live(), []).verdict is Verdict.ERROR
    stopped = world.begin(made, "testing")
    world.store.end_promotion(stopped.id, "superseded", "Inconclusive", "stopped")
    assert not world.store.passed(made.id, "testing")


def test_7_passed_once_failed_later_still_verified(world: World, made: Candidate) -> None:
    """Kargo: a later failure removes nothing from verifiedIn."""
    world.judged(made, "testing", "Successful", "once")
    assert world.store.passed(made.id, "testing")
    world.judged(made, "testing", "Failed", "later")
    assert not world.store.passed(made.id, "testing")
    with pytest.raises(NotAdmitted):
        require_admission(world.store, made.id, "staging")


def test_8_pod_vanished_task_green_no_result(world: World, made: Candidate) -> None:
    """Airflow #73117: the task is marked success, and what the pod should have left is not there."""
    promotion = world.begin(made, "testing")
    found = judged(policy(LOSS, SHARE), [reading(LOSS, **GOOD)])  # one of two activities left nothing
    assert found.verdict is Verdict.ERROR
    assert "benchmark left no reading" in found.reason
    conclude(world.store, promotion.id, analysis(promotion, str(found.verdict)))
    assert not world.store.passed(made.id, "testing")


def test_9_evidence_with_unformatted_placeholders(world: World, made: Candidate) -> None:
    """Azure: score.txt holds the text {mse.2f}, and nobody notices: no number, no reading."""
    from pydantic import ValidationError

    for text in ("{mse.2f}", "nan-ish", ""):
        with pytest.raises(ValidationError):
            reading(LOSS).model_validate(reading(LOSS).model_dump() | {"value": text})
    world.judged(made, "testing")
    with world.store.reading() as connection:
        envelope = connection.scalar(statements.select().with_only_columns(statements.c.envelope))
    statement = str(verified(envelope or "", world.store.keys.trusted))
    assert made.digest in statement
    assert not any(hole in statement for hole in ("{candidate", "{verdict", "{reason", "None.", "unknown"))


def test_10_promoted_before_evaluated(world: World, made: Candidate) -> None:
    """fmind: the alias is set to the latest version, and the evaluation runs afterwards."""
    promotion = world.begin(made, "production")
    for step in (
        lambda: release.claim(world.store, promotion.id, OPERATOR),
        lambda: release.set_share(world.store, promotion.id, 1.0, OPERATOR),
        lambda: release.promote(world.store, promotion.id, OPERATOR),
        lambda: release.change(world.store, "coin", 0, OPERATOR, "now", champion=made.id),
    ):
        with pytest.raises((EvidenceLacking, NotClaimed, Unlawful)):
            step()
    assert world.row.champion is None


def test_11_evaluated_on_training_data() -> None:
    """fmind: the evaluation's configuration names the training file. Here no day is in two windows."""
    from sevenfold.model.spec import load_spec

    for as_of in (datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC)):
        of = windows(load_spec("flight_delay"), as_of)
        assert of.training[1] <= of.test[0] < of.test[1] <= of.sealed[0] < of.sealed[1] <= as_of
        assert of.fitting[1] <= of.stopping[0]


def test_12_test_set_used_for_tuning_and_for_promotion(world: World, made: Candidate) -> None:
    """ZenML: tuned on the test split. Looks are counted before they are taken, cost alpha, and run out."""
    fixed = metric(rule="non_inferior", baseline="champion", margin=0.01, max_uses=2)
    barely = reading(fixed, 0.5, counts={"mean_diff": 0.0, "se": 0.005})
    assert judged(fixed, [barely], uses=1).verdict is Verdict.SUCCESSFUL
    assert judged(fixed, [barely], uses=2).verdict is Verdict.INCONCLUSIVE
    assert judged(fixed, [barely], uses=3).verdict is Verdict.ERROR
    uncounted = judged(fixed, [barely], uses=None)
    assert uncounted.verdict is Verdict.ERROR
    assert "nobody counted the look at its test set" in uncounted.reason
    for run in ("one", "two"):
        world.store.use_test_set(world.begin(made, "testing", run).id, "april", budget=2)
    with pytest.raises(BudgetSpent):
        world.store.use_test_set(world.begin(made, "testing", "three").id, "april", budget=2)


def test_13_sbom_after_deploy(world: World, made: Candidate) -> None:
    """ZenML: the bill of materials is made once the model serves. After the gate it counts for nothing."""
    for environment in ("training", "testing", "staging"):
        world.judged(made, environment)
    refused = world.judged(made, "preproduction", "Error")  # what it needed had not been made
    world.measure(refused)
    world.store.add_report(refused.id, "security", "Bill of materials", "sbom.json", "0" * 64)
    assert not world.store.passed(made.id, "preproduction")
    production = world.begin(made, "production")
    with pytest.raises(EvidenceLacking, match="has not passed preproduction"):
        release.claim(world.store, production.id, OPERATOR)


def test_14_all_traffic_before_the_smoke_test(world: World) -> None:
    """Azure: traffic is set to 100 % in the step before the smoke test."""
    promotion = world.begin(world.proven("a"), "production")
    with pytest.raises(NotClaimed):
        release.set_share(world.store, promotion.id, 1.0, OPERATOR)
    release.claim(world.store, promotion.id, OPERATOR)
    release.set_share(world.store, promotion.id, 0.05, OPERATOR)
    with pytest.raises(EvidenceLacking, match="Nothing was concluded"):
        release.promote(world.store, promotion.id, OPERATOR)
    unproven = world.store.add_candidate(candidate("b"))
    for slot in ("champion", "challenger", "shadow"):
        with pytest.raises(NotAdmitted):
            require_admission(world.store, unproven.id, slot)


def test_15_same_field_opposite_directions(tmp_path: Path) -> None:
    """Flagger: thresholdRange.min for one metric and .max for another, by the same word."""
    text = (REPOSITORY / "include/models/flight_delay/gates/testing.yaml").read_text()
    path = tmp_path / "testing.yaml"
    turned = (
        "metrics:\n  - {metric: log_loss, activity: benchmark, unit: nats, direction: higher, rule: at_least,"
        " limit: 1, meaning: The other way round.}\n"
    )
    path.write_text(text.replace("metrics:\n", turned, 1))
    with pytest.raises(InvalidFile, match="log_loss is better both higher and lower"):
        load_policy(path)
    path.write_text(
        text.replace("direction: lower\n    rule: non_inferior", "direction: higher\n    rule: at_most")
    )
    with pytest.raises(InvalidFile):
        load_policy(path)


TESTS = sorted((REPOSITORY / "tests" / "sevenfold").rglob("test_*.py")) + sorted(
    (REPOSITORY / "tests" / "gates").rglob("test_*.py")
)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_16_test_re_implements_the_code(path: Path) -> None:
    """ZenML enterprise: test_promotion_logic.py imports nothing of the promotion that it is named after."""
    tree = ast.parse(path.read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} | {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    ours = {name for name in imported if name.split(".")[0] in ("sevenfold", "tests")}
    assert ours, f"{path} tests nothing of ours"
