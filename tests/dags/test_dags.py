"""The seven DAGs: they load, each task really exists, and their shape is the one that the table promises."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

from sevenfold.environments import ENVIRONMENTS
from sevenfold.gates.policy import load_gate
from sevenfold.model.spec import load_spec, models
from sevenfold.settings import Settings
from sevenfold_airflow.pod import PodOperator

ROOT = Path(__file__).resolve().parents[2]
MODELS = models(Settings().models)
DAGS = [f"{model}.{environment}" for model in MODELS for environment in ENVIRONMENTS]
PROMOTING = ENVIRONMENTS[:-1]

SHAPES = {
    "development": "admit > explore+select > tune > validate+version > gate > promote > close",
    "training": "admit > search > train > benchmark+checkpoint+distribute+resources > gate > promote > close",
    "testing": "admit > adversarial+benchmark+contract+resources+validate_data+validate_model "
    "> gate > promote > close",
    "staging": "admit > end_to_end+integration+monitoring_check > data_flow > load_test > canary "
    "> gate > promote > close",
    "preproduction": "admit > fairness+final_validation+security+shadow > full_scale_load > rollback_drill > "
    "gate > promote > close",
    "production": "admit > approve > serve > canary > sla > gate > take_over > promote+roll_back > close",
    "monitoring": "admit > feedback > ab_analysis+drift+monitor > retraining_trigger > dashboards > finish "
    "> close",
}


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(ROOT / "dags"), bundle_path=ROOT / "dags")


def shape(dag: DAG) -> str:
    """The tasks in their order, those side by side joined by a plus."""
    depth: dict[str, int] = {}
    for task in dag.topological_sort():
        depth[task.task_id] = 1 + max((depth[up] for up in task.upstream_task_ids), default=-1)
    rows = [
        sorted(task for task, at in depth.items() if at == level) for level in sorted(set(depth.values()))
    ]
    return " > ".join("+".join(row) for row in rows)


def test_seven_dags_a_model_a_roll_back_and_no_import_error(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == sorted([*DAGS, *(f"{model}.roll_back" for model in MODELS)])
    names = sorted(path.stem for path in (ROOT / "dags").glob("*.py"))
    assert names == sorted([*ENVIRONMENTS, "roll_back"])


@pytest.mark.parametrize("model", MODELS)
def test_a_roll_back_waits_for_nothing_and_has_a_reason(bag: DagBag, model: str) -> None:
    dag = bag.dags[f"{model}.roll_back"]
    [task] = dag.tasks
    assert isinstance(task, PodOperator)
    assert importlib.util.find_spec(task.cmds[-1]) is not None
    assert (task.pool, task.priority_weight) == ("default_pool", 1000), (
        "a load test takes all activities' slots"
    )
    assert dag.schedule is None
    assert list(dag.params) == ["reason", "again"]
    for wrong in ({}, {"reason": ""}, {"reason": None}):
        fresh = copy.deepcopy(dag.params)
        with pytest.raises(ValueError, match=r"reason|No value"):
            fresh.update(wrong)
            fresh.validate()


@pytest.mark.parametrize("dag_id", DAGS)
def test_the_graph_reads_like_the_table(bag: DagBag, dag_id: str) -> None:
    assert shape(bag.dags[dag_id]) == SHAPES[dag_id.split(".")[1]]


@pytest.mark.parametrize("dag_id", DAGS)
def test_every_activity_is_a_program(bag: DagBag, dag_id: str) -> None:
    pods = [task for task in bag.dags[dag_id].tasks if isinstance(task, PodOperator)]
    assert pods
    for pod in pods:
        program = f"activities.{dag_id.split('.')[1]}.{pod.task_id}"
        assert pod.cmds == ["python", "-m", program]
        assert importlib.util.find_spec(program) is not None, f"{program} does not exist"
        assert (ROOT / "docker" / str(pod.image) / "Dockerfile").is_file(), f"no image {pod.image}"


@pytest.mark.parametrize("dag_id", [f"{m}.{e}" for m in MODELS for e in PROMOTING])
def test_every_metric_of_a_gate_is_measured_by_a_task(bag: DagBag, dag_id: str) -> None:
    model, environment = dag_id.split(".")
    asked = {metric.activity for metric in load_gate(Settings().models, model, environment).metrics}
    assert asked <= set(bag.dags[dag_id].task_ids)


@pytest.mark.parametrize("dag_id", DAGS)
def test_house_rules_of_a_dag(bag: DagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.start_date is None, "a start in the past makes a run at once"
    assert set(dag_id.split(".")) == set(dag.tags)
    for colour in ("**Green**", "**Red**", "**Pink**"):
        assert colour in str(dag.doc_md)
    assert {"candidate", "as_of", "reason"} <= set(dag.params)
    for name in dag.params:
        field = dag.params.get_param(name)
        assert field.schema.get("title"), name
        assert field.description, name
    for task in dag.tasks:
        if isinstance(task, PodOperator):
            lasts_for_days = (dag_id.split(".")[1], task.task_id) == ("production", "canary")
            assert task.retries >= 2
            assert task.execution_timeout == (None if lasts_for_days else timedelta(hours=2))
            assert task.pool == "activities"
            assert set(task.labels) == {"model", "environment", "activity", "run"}
            assert task.container_resources.requests["memory"]
            assert not task.do_xcom_push
            assert {link.name for link in task.operator_extra_links} == {"Report", "Evidence"}


def test_a_roll_back_runs_when_the_gate_or_the_take_over_fails(bag: DagBag) -> None:
    for model in MODELS:
        task = bag.dags[f"{model}.production"].get_task("roll_back")
        assert (task.trigger_rule, task.upstream_task_ids) == ("one_failed", {"gate", "take_over"})


def test_who_watches_over_a_live_candidate_or_takes_it_off_is_soon_back(bag: DagBag) -> None:
    for model in MODELS:
        for name in ("canary", "roll_back"):
            task = bag.dags[f"{model}.production"].get_task(name)
            assert task.retries >= 10
            assert task.retry_delay == timedelta(seconds=5)
            assert (
                not task.retry_exponential_backoff
            )  # the fifth try would come five minutes after the fourth


@pytest.mark.parametrize("dag_id", DAGS)
def test_no_run_starts_because_a_tick_has_passed(bag: DagBag, dag_id: str) -> None:
    timetable: Any = DagSerialization.deserialize_dag(
        DagSerialization.serialize_dag(bag.dags[dag_id])
    ).timetable
    nothing = TimeRestriction(earliest=None, latest=None, catchup=False)
    first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=nothing)
    model, environment = dag_id.split(".")
    nightly = environment == "training" and load_spec(model).schedule is not None
    assert (first is not None) == (nightly or environment == "monitoring")
    assert first is None or first.run_after > datetime.now(UTC)


@pytest.mark.parametrize("model", MODELS)
def test_assets_link_the_environments(bag: DagBag, model: str) -> None:
    def causes(environment: str) -> set[str]:
        timetable: Any = bag.dags[f"{model}.{environment}"].timetable
        condition = getattr(timetable, "asset_condition", None)
        return {asset.uri for asset in getattr(condition, "objects", [condition])} if condition else set()

    def outlet(environment: str) -> set[str]:
        tasks = bag.dags[f"{model}.{environment}"].tasks
        return {asset.uri for task in tasks for asset in task.outlets}

    at = f"sevenfold://{model}"
    assert causes("development") == set()
    assert causes("training") == {f"{at}/development", f"{at}/drift"}
    for before, after in pairwise(ENVIRONMENTS[1:]):
        assert causes(after) == outlet(before) == {f"{at}/{before}"}
    assert outlet("monitoring") == set()


@pytest.mark.parametrize("dag_id", DAGS)
def test_it_survives_serialisation(bag: DagBag, dag_id: str) -> None:
    plain = json.loads(json.dumps(DagSerialization.serialize_dag(bag.dags[dag_id])))
    assert sorted(DagSerialization.deserialize_dag(plain).task_ids) == sorted(bag.dags[dag_id].task_ids)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"as_of": "soon"}, "is not a 'date'"),
        ({"window_months": 0}, "0 is less than the minimum"),
        ({"hyperparameters": {"lerning_rate": 1}}, "lerning_rate"),
        ({"candidate": "../../etc"}, "does not match"),
        ({"seed": "x"}, "is not of type"),
        ({"seed": -1}, "-1 is less than the minimum of 0"),
        ({"search_trials": -1}, "-1 is less than the minimum of 0"),
        ({"search_trials": 2.5}, "2.5 is not of type"),
        ({"search_minutes": 0}, "0 is less than or equal to the minimum of 0"),
        ({"search_minutes": 101}, "101 is greater than the maximum of 100"),
    ],
)
def test_the_form_refuses_what_cannot_be_meant(bag: DagBag, given: dict[str, Any], said: str) -> None:
    assert said in refused(bag.dags[f"{MODELS[0]}.training"], given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sample_rows": 5}, "sample_rows: 5 is less than the minimum of 1000"),
        ({"sample_rows": 10**9}, "sample_rows: 1000000000 is greater than the maximum of 1000000"),
        ({"sample_rows": "all"}, "sample_rows: 'all' is not of type 'null', 'integer'"),
        ({"search_trials": 10_001}, "search_trials: 10001 is greater than the maximum of 10000"),
        ({"search_minutes": -1}, "search_minutes: -1 is less than or equal to the minimum of 0"),
        ({"seed": 2**40}, "seed: 1099511627776 is greater than the maximum of 2147483647"),
    ],
)
def test_the_form_of_development_refuses_in_one_sentence(
    bag: DagBag, given: dict[str, Any], said: str
) -> None:
    dag = bag.dags[f"{MODELS[0]}.development"]
    first, *_ = refused(dag, given).split("\n\n")
    assert said in first
    assert "\n" not in first
    fields = dag.params.dump()
    assert set(fields) == {
        *("candidate", "as_of", "reason"),
        *("sample_rows", "hyperparameters", "search_trials", "search_minutes", "seed"),
    }


def refused(dag: DAG, given: dict[str, Any]) -> str:
    """What the form says to these values."""
    params = copy.deepcopy(dag.params)
    with pytest.raises(ValueError) as error:
        params.update(given)
        params.validate()
    return str(error.value)


PARSE = """
import sys
import tests.airflow_home
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.context import get_parsing_context
heavy = {"torch", "mlflow", "great_expectations", "evidently", "locust", "pandas", "sklearn", "matplotlib"}
bag = DagBag(sys.argv[1], bundle_path=sys.argv[1])
print(sorted(bag.dags), sorted(heavy & set(sys.modules)), list(bag.import_errors.values()))
"""


def parsed(folder: Path, **environment: str) -> str:
    """What a fresh process sees when it parses the training file."""
    path = os.pathsep.join([str(ROOT / "include"), str(ROOT / "plugins"), str(ROOT)])
    run = subprocess.run(
        [sys.executable, "-c", PARSE, str(folder)],
        env={k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        | {"PYTHONPATH": path}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip().splitlines()[-1]


def test_parsing_is_light_and_one_models_mistake_takes_no_other_away(tmp_path: Path) -> None:
    from tests import toy

    dags, broken = tmp_path / "dags", tmp_path / "models" / "broken"
    dags.mkdir()
    (dags / "training.py").write_text((ROOT / "dags" / "training.py").read_text())
    toy.spec_in(tmp_path / "models")
    broken.mkdir()
    (broken / "model.yaml").write_text("name: broken\n")
    seen = parsed(dags, SEVENFOLD_MODELS=str(tmp_path / "models"))
    assert seen == "['toy.training'] [] []"
    (tmp_path / "models" / "toy" / "model.yaml").unlink()
    alone = parsed(dags, SEVENFOLD_MODELS=str(tmp_path / "models"))
    assert alone.startswith("[] [] [")
    assert "broken/model.yaml" in alone


def test_a_task_parses_its_own_dag_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from sevenfold_airflow import rail

    monkeypatch.setattr(rail, "get_parsing_context", lambda: SimpleNamespace(dag_id="flight_delay.training"))
    monkeypatch.setattr(rail, "models", lambda: pytest.fail("looked at all models"))
    assert [spec.name for spec in rail.all_models()] == ["flight_delay"]
