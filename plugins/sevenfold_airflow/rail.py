"""How an environment's DAG is made: the frame that all seven share, and their common tasks.

A file in dags/ says what its environment does; what all of them have in common stands here, once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule, get_parsing_context
from airflow.sdk.definitions._internal.contextmanager import DagContext

from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec, load_spec, models
from sevenfold_airflow import assets
from sevenfold_airflow.admit import AdmitOperator
from sevenfold_airflow.approve import ApproveOperator
from sevenfold_airflow.close import CloseOperator, FinishOperator
from sevenfold_airflow.gate import GateSensor
from sevenfold_airflow.nodes import NodesOperator
from sevenfold_airflow.pod import PodOperator
from sevenfold_airflow.promote import PromoteOperator

POOL = "activities"
EVERY_SLOT = 4
"""Slots of the pool on a laptop: an activity that takes them all runs undisturbed."""


def all_models() -> Iterator[ModelSpec]:
    """The models whose DAGs this parse wants: all of them, or while a task runs only the task's own.

    A model with a wrong model.yaml is left out with a warning, so that one mistake takes no other DAGs away;
    when there is no model left, the first mistake is the file's import error.
    """
    only = get_parsing_context().dag_id
    mistakes: list[SevenfoldError] = []
    found = 0
    for name in [only.rpartition(".")[0]] if only else models():
        try:
            spec = load_spec(name)
        except SevenfoldError as mistake:
            mistakes.append(mistake)
            warnings.warn(str(mistake), stacklevel=2)
            continue
        found += 1
        yield spec
    if mistakes and not found:
        raise mistakes[0]


@contextmanager
def environment_dag(
    spec: ModelSpec,
    name: str,
    story: str,
    schedule: Any = None,
    params: dict[str, Param] | None = None,
) -> Iterator[DAG]:
    """The DAG `<model>.<name>`, to be filled with tasks; what closes a failed run is added at the end.

    (Airflow looks into files only that contain the word dag: the name of this function sees to it.)

    Args:
        story: what the environment does and what its colours mean, shown on the DAG's page.
        schedule: what starts it; None: people only.
        params: fields of its form besides candidate, as_of and reason.
    """
    dag = _dag(spec, name, story, schedule, _common_params(spec, name) | (params or {}))
    with dag:
        yield dag
        last = [task for task in dag.tasks if not task.downstream_task_ids]
        last >> CloseOperator(task_id="close", trigger_rule=TriggerRule.ONE_FAILED)


@contextmanager
def roll_back_dag(spec: ModelSpec, story: str) -> Iterator[DAG]:
    """The DAG `<model>.roll_back`: started by people only, who have to give a reason."""
    why = Param(
        type="string",
        minLength=3,
        title="Reason",
        description="What is wrong with what callers meet; kept with your name in the audit log",
    )
    again = Param(
        False,
        type="boolean",
        title="Further back",
        description="Go back to the champion before even if promotion is on hold: after another roll-back",
    )
    with _dag(spec, "roll_back", story, None, {"reason": why, "again": again}) as dag:
        yield dag


def _dag(spec: ModelSpec, name: str, story: str, schedule: Any, params: dict[str, Param]) -> DAG:
    return DAG(
        f"{spec.name}.{name}",
        dag_display_name=f"{spec.name} {name}",
        description=story.strip().splitlines()[0],
        doc_md=f"**{spec.title}** ({spec.owner})\n\n{story}",
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        tags=[spec.name, name],
        params=params,
        default_args={
            "owner": spec.owner,
            "retries": 2,
            "retry_delay": timedelta(seconds=10),
            "retry_exponential_backoff": 3.0,
            "max_retry_delay": timedelta(minutes=5),
            "execution_timeout": timedelta(hours=2),
        },
        render_template_as_native_obj=False,
    )


def clockwork(cron: str) -> CronTriggerTimetable:
    """A schedule in UTC whose first run is the next tick, never one that has passed."""
    # Not False: Airflow 3.3.2 takes that for a tenth of the interval (CronTriggerTimetable._calc_first_run).
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0))


def admit() -> AdmitOperator:
    """Says what the run is about and begins its promotion."""
    model, name = _here()
    return AdmitOperator(task_id="admit", model=model, environment=name)


def activity(task_id: str, image: str = "activities", **more: Any) -> PodOperator:
    """One activity as one pod, or as one a node: the program `activities.<environment>.<task_id>`.

    Args:
        image: which of the images in docker/ runs it.
        more: anything that a PodOperator takes; `account="promoter"` for one that moves live traffic, which
            no other pod has the rights to do.
    """
    model, name = _here()
    wanted = load_spec(model).resources_of(name, task_id)
    arguments: dict[str, Any] = {
        "task_id": task_id,
        "name": f"{model}-{name}-{task_id}".replace("_", "-"),
        "image": image,
        "cmds": ["python", "-m", f"activities.{name}.{task_id}"],
        "arguments": ["--model", model, "--environment", name, "--run", "{{ run_id }}"],
        "labels": {"model": model, "environment": name, "activity": task_id, "run": "{{ run_id }}"},
        "container_resources": _resources(load_spec(model), name, task_id),
        "pool": POOL,
    }
    if wanted.nodes > 1:
        return NodesOperator(nodes=wanted.nodes, **arguments | more)
    return PodOperator(**arguments | more)


def go_back() -> PodOperator:
    """Undoes the newest change of what callers meet; it waits for no slot of the activities."""
    model, _ = _here()
    task = activity(
        "go_back",
        cmds=["python", "-m", "activities.production.go_back"],
        arguments=[
            *("--model", model, "--run", "{{ run_id }}"),
            *("--by", "{{ dag_run.triggering_user_name or 'somebody' }}"),
            # $(NAME) would be replaced by the cluster, with a variable that may be a secret
            *("--reason", "{{ params.reason | replace('$', '$$') }}"),
            *("--again", "{{ 'yes' if params.again else 'no' }}"),
        ],
        labels={"model": model, "environment": "production", "activity": "go_back", "run": "{{ run_id }}"},
        container_resources=_resources(load_spec(model), "production", "go_back"),
        account="promoter",
        pool="default_pool",
        priority_weight=1000,
        retry_delay=timedelta(seconds=1),
    )
    task.operator_extra_links = ()  # type: ignore[assignment]  # it is about no promotion
    return task


def gate() -> GateSensor:
    """Judges the promotion by the model's gates/<environment>.yaml."""
    return GateSensor(task_id="gate", retries=2, retry_delay=timedelta(seconds=5), execution_timeout=None)


def approve(within: timedelta = timedelta(hours=48)) -> ApproveOperator:
    """Asks a person; no answer within the time counts as Reject."""
    return ApproveOperator(
        task_id="approve",
        subject=f"Shall {_here()[0]} get a new champion?",
        params={"reason": Param("", type="string", title="Why", description="Kept with your name")},
        response_timeout=within,
        defaults="Reject",
        execution_timeout=None,
        retries=9,  # each try asks anew: after an answer of the requester, who may not approve
        retry_delay=timedelta(seconds=1),
        retry_exponential_backoff=0,
    )


def promote() -> PromoteOperator:
    """Lets the candidate go on, and wakes the next environment."""
    model, name = _here()
    return PromoteOperator(task_id="promote", asset=assets.promoted(model, name))


def finish() -> FinishOperator:
    """Ends a run of an environment that promotes nothing."""
    return FinishOperator(task_id="finish")


def _here() -> tuple[str, str]:
    """Model and environment of the DAG that is being filled."""
    dag = DagContext.get_current()
    if dag is None:
        raise RuntimeError("tasks of an environment are made inside `with environment_dag(...)`")
    model, _, name = dag.dag_id.rpartition(".")
    return model, name


def _common_params(spec: ModelSpec, name: str) -> dict[str, Param]:
    carried = {
        "development": "An idea starts here: leave it empty",
        "training": "The candidate of development to train in full; empty: whatever is due",
    }.get(name, "The candidate to try; empty: the newest that is due")
    return {
        "candidate": Param(
            None,
            type=["null", "string"],
            pattern="^[a-z0-9_]+-[0-9a-f]+$",
            title="Candidate",
            description=carried,
        ),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date",
            title="As of",
            description=f"The day that it looks back from, {spec.data.starts} to {spec.data.ends}; "
            "empty: what fits the candidate, or today on the model's clock",
        ),
        "reason": Param("", type="string", title="Reason", description="Why; it stays with the evidence"),
    }


def _resources(spec: ModelSpec, name: str, task_id: str) -> Any:
    from kubernetes.client import models as k8s

    wanted = spec.resources_of(name, task_id)
    limits = {"memory": wanted.memory} | ({"nvidia.com/gpu": str(wanted.gpu)} if wanted.gpu else {})
    return k8s.V1ResourceRequirements(requests={"cpu": wanted.cpu, "memory": wanted.memory}, limits=limits)
