"""Whatever an activity measures is judged by the gate of every model, or named there with the reason why not.

So a measurement that is new in one model's gate cannot be forgotten in another's, nor in what `sevenfold
new-model` makes. `measured` is the list; the programs of the activities are searched for what it lacks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.every_model import every_model
from tests.gate_case import spoken_of

from sevenfold.gates.policy import load_gate
from sevenfold.model.spec import ModelSpec, load_spec
from sevenfold.model.tasks import Task
from sevenfold.settings import REPOSITORY

GAIN = "log_loss_gain_over_"
SEARCH = ("trials", "trials_stopped_early", "best_stopping_loss")
CANARY = ("errors", "slow")


def measured(task: Task) -> dict[str, dict[str, set[str]]]:
    """All that activities measure of a model with this task, by environment; monitoring has no gate."""
    headline = set(task.headline_units)
    gains = {GAIN + name for name in ("constant", task.linear, "gradient_boosting")}
    label = np.arange(3.0)
    one = task.constant(label)
    gaps = {f"{rate}_gap" for rate in task.fairness(label, np.broadcast_to(one, (3, *one.shape)))}
    return {
        "development": {
            "explore": {"rows", "unlabelled_share", "missing_share"}
            | {"constant_features", "suspicious_features"},
            "select": gains,
            "tune": set(SEARCH),
            "validate": headline | {GAIN + "constant", "failed_tests"},
            "version": {"dirty_tree"},
        },
        "training": {
            "search": set(SEARCH),
            "train": headline | {"checkpoint_verified", "onnx_difference", "dirty_tree"},
            "checkpoint": {"resumed_differently", "not_on_record"},
            "distribute": {"log_loss_apart", f"{task.second}_apart", "scaling_efficiency"},
            "resources": {"memory_share", "cores_used", "waiting_for_rows", "rows_per_second", "gpu_use"},
            "benchmark": gains,
        },
        "testing": {
            "validate_data": {"failed_critical_expectations", "rows", "label_association"},
            "validate_model": {"failed_tests", "calibration_ratio"},
            "contract": {"contract_violations"},
            "benchmark": headline | gains,
            "adversarial": {"unclean_answers", "loss_under_attack", "decisions_under_attack"},
            "resources": {"model_size", "cold_start", "memory", "cpu_per_request", "cpu_per_row"}
            | {"median_latency_of_1", "median_latency_of_64"},
        },
        "staging": {
            "end_to_end": {"unmatched_rows", "monitoring_difference"},
            "integration": {"broken_promises"},
            "data_flow": {"broken_hops", "feature_skew", "answer_skew"},
            "monitoring_check": {"missed_alerts", "false_alarms"},
            "load_test": {"error_rate", "p99_ms", "headroom", "latency"},
            "canary": set(CANARY),
        },
        "preproduction": {
            "final_validation": headline,
            "shadow": {"errors", "slow", "disagreement", "prediction_difference", "loss_difference"}
            | {"calibration"},
            "fairness": gaps,
            "security": {"access_violations", "body_violations", "model_findings", "signature_violations"}
            | {"unlocked_dependencies", "licence_violations", "sbom_gaps", "secrets_in_code", "secrets_left"}
            | {"privacy_violations"},
            "full_scale_load": {"error_rate", "p99_ms", "headroom"},
            "rollback_drill": {"lost_requests", "back_s"},
        },
        "production": {
            "serve": {"availability", "skew"},
            "canary": {*CANARY, "wrong_labels"},
            "sla": {"errors_spent", "errors_burn_rate", "slow_spent", "slow_burn_rate"},
        },
    }


GATED = tuple(measured(load_spec("flight_delay", REPOSITORY / "include" / "models").task))


@pytest.fixture(params=every_model(), ids=lambda folder: folder.name)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    """Of each model."""
    return load_spec(request.param.name, request.param.parent)


@pytest.mark.parametrize("environment", GATED)
def test_what_is_measured_is_judged_or_named_with_a_reason(spec: ModelSpec, environment: str) -> None:
    spoken = spoken_of(load_gate(spec.folder.parent, spec.name, environment))
    there = {
        (activity, name) for activity, names in measured(spec.task)[environment].items() for name in names
    }
    silent, unmeasured = sorted(there - spoken), sorted(spoken - there)
    assert not silent, f"{environment} of {spec.name} neither judges nor names under not_asked: {silent}"
    assert not unmeasured, f"{environment} of {spec.name} speaks of what nothing measures: {unmeasured}"


def test_what_the_champion_is_compared_in_is_compared_for_every_model(spec: ModelSpec) -> None:
    """Where flight_delay's gate holds a measurement of an activity against the champion, so do the others."""
    models = REPOSITORY / "include" / "models"
    for environment in GATED:
        theirs, mine = (
            {(m.activity, m.baseline) for m in load_gate(folder, name, environment).metrics}
            for folder, name in ((models, "flight_delay"), (spec.folder.parent, spec.name))
        )
        missing = {pair for pair in theirs - mine if pair[1] != "none"}
        assert not missing, f"{environment} of {spec.name} compares nothing with {sorted(missing)}"


def programs() -> Iterator[tuple[str, str, Path]]:
    """Environment, activity and program of each that is measured before a gate."""
    for path in sorted((REPOSITORY / "include" / "activities").glob("*/*.py")):
        if path.parent.name in GATED and not path.name.startswith("_"):
            yield path.parent.name, path.stem, path


def names_in(path: Path) -> Iterator[re.Pattern[str]]:
    """What a program calls its measurements, as patterns: in {braces} anything may stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called not in ("measure", "rate"):
            continue
        for given in node.args[:3]:
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                yield re.compile(re.escape(given.value))
                break
            if isinstance(given, ast.JoinedStr):
                parts = [
                    re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in given.values
                ]
                yield re.compile("".join(map(str, parts)))
                break


@pytest.mark.parametrize(
    ("environment", "activity", "path"), list(programs()), ids=lambda value: getattr(value, "stem", value)
)
def test_the_list_has_all_that_the_programs_measure(environment: str, activity: str, path: Path) -> None:
    task = load_spec("flight_delay", REPOSITORY / "include" / "models").task
    known = measured(task)[environment].get(activity, set())
    for pattern in names_in(path):
        assert any(pattern.fullmatch(name) for name in known), (
            f"{path} measures {pattern.pattern}, which the list in this file lacks: add it, and an entry "
            "to the gates of all models and of the scaffold"
        )
