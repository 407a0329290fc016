"""One environment on a real cluster, by its unmodified DAG: all activities, and what may happen to them."""

from __future__ import annotations

import time
from typing import Any

from tests.kubernetes.airflow import ENDED, Airflow

ACTIVITIES = ("search", "train", "checkpoint", "distribute", "resources", "benchmark")
LONG = {"epochs": 150, "patience": 150}
"""Training that takes long enough for something to happen to it: a fast machine had ended it before."""


def test_every_activity_runs_though_scheduler_and_triggerer_are_killed(airflow: Airflow) -> None:
    airflow.trigger("whole")
    airflow.follow("whole", lambda tasks: tasks["train"]["state"] == "deferred" and _runs(airflow), 900)
    [before] = airflow.pods("whole", "train")
    airflow.kill("scheduler", "triggerer")
    time.sleep(5)
    [during] = airflow.pods("whole", "train")
    assert during.metadata.uid == before.metadata.uid, "the pod goes on"
    tasks = airflow.follow(
        "whole", lambda tasks: all(tasks[one]["state"] in ENDED for one in ACTIVITIES), 1200
    )
    assert {one: tasks[one]["state"] for one in ACTIVITIES} == dict.fromkeys(ACTIVITIES, "success")
    assert tasks["train"]["try_number"] == 1, "nothing was started a second time"
    assert airflow.pods("whole", "train") == [], "what succeeded is deleted"
    assert "kept epoch" in airflow.log("whole", "train"), "what the pod wrote is in Airflow's log"


def test_a_pod_that_is_deleted_is_named_and_its_retry_resumes(airflow: Airflow) -> None:
    airflow.trigger("deleted", search_trials=0, hyperparameters=LONG)
    cluster = airflow.place.cluster

    def is_at_work() -> Any:
        found = airflow.pods("deleted", "train")
        return found and "epoch 3 of" in cluster.log(found[-1])

    airflow.follow("deleted", lambda tasks: bool(is_at_work()), 900)
    [pod] = airflow.pods("deleted", "train")
    cluster.core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)
    tasks = airflow.follow("deleted", lambda tasks: tasks["train"]["state"] in ENDED, 900)
    assert (tasks["train"]["state"], tasks["train"]["try_number"]) == ("success", 2)
    said = airflow.log("deleted", "train")
    assert f"pod {pod.metadata.name} of train has vanished from namespace {airflow.place.namespace}" in said
    assert "took over at step" in said, "the retry went on from the checkpoint"


def _runs(airflow: Airflow) -> bool:
    return any(pod.status.phase == "Running" for pod in airflow.pods("whole", "train"))
