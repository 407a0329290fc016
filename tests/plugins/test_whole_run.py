"""One whole run inside Airflow's own `dag.test`: a pod measures, the gate judges, the run is red or green."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import initdb
from tests.airflow_home import HOME
from tests.rail_world import World

DAG_FILE = '''
from airflow.sdk import DAG, TriggerRule
from sevenfold_airflow import assets
from sevenfold_airflow.admit import AdmitOperator
from sevenfold_airflow.close import CloseOperator
from sevenfold_airflow.gate import GateSensor
from sevenfold_airflow.pod import PodOperator
from sevenfold_airflow.promote import PromoteOperator

MEASURE = """
import sys
from sevenfold.gates.measurement import Measurement
from sevenfold.evidence.store import open_store
store = open_store()
promotion = store.promotion(f"toy/testing/{sys.argv[1]}")
candidate = store.candidate(promotion.candidate)
store.record([Measurement(promotion=promotion.id, candidate=candidate.id, digest=candidate.model_digest,
                          activity="train", metric="loss", value=float(sys.argv[2]), n=1000)])
"""

with DAG("toy.testing", schedule=None, params={"loss": 0.1}, default_args={"retries": 0}):
    admit = AdmitOperator(task_id="admit", model="toy", environment="testing")
    train = PodOperator(
        task_id="train", image="any", cmds=["python", "-c", MEASURE],
        arguments=["{{ run_id }}", "{{ params.loss }}"],
    )
    promote = PromoteOperator(task_id="promote", asset=assets.promoted("toy", "testing"))
    admit >> train >> GateSensor(task_id="gate") >> promote
    promote >> CloseOperator(task_id="close", trigger_rule=TriggerRule.ONE_FAILED)
'''


@pytest.fixture
def bag() -> Iterator[DagBag]:
    initdb()
    file = HOME / "dags" / "toy.py"
    file.write_text(DAG_FILE)
    yield DagBag(str(HOME / "dags"), bundle_path=HOME / "dags", bundle_name="dags-folder")
    file.unlink()


def whole_run(bag: DagBag, loss: float) -> dict[str, str]:
    """Runs the environment; the state of each task and of the run."""
    run: Any = bag.dags["toy.testing"].test(logical_date=None, run_conf={"loss": loss})
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    return states | {"run": str(run.state)}


def test_a_good_and_a_bad_candidate(world: World, bag: DagBag) -> None:
    good, bad = world.candidate("good"), world.candidate("bad")
    world.passes(good, "training")
    green = dict.fromkeys(["admit", "train", "gate", "promote", "run"], "success")
    assert whole_run(bag, 0.1) == green | {"close": "skipped"}
    [first] = world.store.promotions("toy", "testing")
    assert (first.state, first.candidate) == ("promoted", good.id)
    assert world.store.passed(good.id, "testing")

    world.passes(bad, "training")
    ended = whole_run(bag, 0.9)
    assert (ended["gate"], ended["promote"], ended["close"]) == ("failed", "upstream_failed", "failed")
    assert ended["run"] == "failed"
    assert [p.state for p in world.store.promotions("toy", "testing", bad.id)] == ["refused"]
    assert not world.store.passed(bad.id, "testing")
