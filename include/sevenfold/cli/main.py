"""`sevenfold`: start, stop and look at the local stack; promote, roll back, explain."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.table import Table

from sevenfold.cli import database as cli_database
from sevenfold.cli import keys as cli_keys
from sevenfold.cli import new_model as cli_new_model
from sevenfold.cli import requests as cli_requests
from sevenfold.cli.common import Model, Reason, console, me, one_sentence
from sevenfold.errors import SevenfoldError
from sevenfold.settings import settings

if TYPE_CHECKING:
    from sevenfold.cluster import Endpoint, Replica
    from sevenfold.evidence.store import Store
    from sevenfold.release.release_row import ReleaseRow
    from sevenfold.release.traffic import Traffic

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

app.add_typer(cli_requests.app)
app.add_typer(cli_database.app)
app.add_typer(cli_keys.app)
app.add_typer(cli_new_model.app)


@app.command()
def up() -> None:
    """Start the stack, or what is missing of it, and say where it is."""
    from sevenfold.local import stack

    with one_sentence():
        stack.up(settings(), console.print)
        _say_where()


@app.command()
def down() -> None:
    """Stop everything. What was decided, measured and trained stays."""
    from sevenfold.local import stack

    with one_sentence():
        console.print("stopped" if stack.down(settings()) else "nothing was running")


@app.command()
def status() -> None:
    """What runs where, what production serves, and what waits for a person."""
    from sevenfold.evidence.store import open_store
    from sevenfold.local import overview
    from sevenfold.model.spec import models
    from sevenfold.release import release

    with one_sentence():
        on_cluster = settings().runtime == "kubernetes"
        parts, replicas, in_flight, split = _on_cluster() if on_cluster else _here()
        start = "apply an overlay" if on_cluster else "start it with make up"
        console.print(parts if parts.row_count else f"nothing runs: {start}")
        store = open_store()
        for model in models():
            row = release.row(store, model)
            console.print(
                f"\n[bold]{model}[/], generation {row.generation}: champion {row.champion or 'none'}"
            )
            if row.candidate:
                console.print(
                    f"  {row.candidate} gets {row.share:.0%} of the traffic and sees {row.mirror:.0%}"
                )
            table = Table("candidate", "slot", "requests", "address", "state", "up", "in flight", box=None)
            mine = [replica for replica in replicas if replica.model == model]
            for line in overview.replicas(mine, split(row), in_flight, time.time()):
                table.add_row(*line)
            if table.row_count:
                console.print(table)
            if row.held:
                console.print(f"  automatic promotion is on hold: {row.held}", markup=False)
            for alert in store.open_alerts(model):
                console.print(f"  open alert: {alert.reason}", markup=False)


State: TypeAlias = (
    "tuple[Table, list[Replica], Mapping[Endpoint, int], Callable[[ReleaseRow], Traffic | None]]"
)
"""Parts that run, replicas, requests in flight, and the split that is in force."""


def _here() -> State:
    """Of this machine, as supervisord and Envoy say."""
    from sevenfold.cluster import open_cluster
    from sevenfold.gateway import local_gateway
    from sevenfold.local import overview, stack
    from sevenfold.local.supervision import Supervisor

    supervisor, gateway = Supervisor(settings().home), local_gateway()
    running = supervisor.running()
    replicas = open_cluster().status() if running else []
    parts = Table("part", "state", "process", "up", box=None)
    programs = supervisor.status() if running else []
    for line in overview.parts(programs, replicas, time.time()):
        parts.add_row(*line)
    for name in stack.elsewhere(settings(), {program.name for program in programs}):
        parts.add_row(name, "answers", "", "kept running by somebody else, such as docker compose")
    in_flight = gateway.envoy.in_flight() if gateway.envoy.running() else {}
    return parts, replicas, in_flight, lambda row: gateway.traffic(row.model)


def _on_cluster() -> State:
    """Of a cluster, as its API says; a gateway that is ready serves what the release row says."""
    from sevenfold.cluster.kubernetes import kubernetes_cluster
    from sevenfold.local import overview
    from sevenfold.release import release

    cluster = kubernetes_cluster(settings())
    parts = Table("part", "state", "node", "up", box=None)
    for line in overview.cluster_parts(cluster.parts(), time.time()):
        parts.add_row(*line)
    return parts, cluster.status(), {}, release.traffic


@app.command()
def demo(
    model: Annotated[str, typer.Argument(help="a model with a story")] = "flight_delay",
    approve_after: Annotated[float, typer.Option(help="seconds that a person has to approve first")] = 5.0,
    wait_for_approval: Annotated[bool, typer.Option(help="never approve by itself")] = False,
) -> None:
    """Start the stack and play a model's story through all seven environments."""
    from sevenfold.demo.performance import perform

    with one_sentence():
        perform(model, settings(), console, None if wait_for_approval else approve_after)


@app.command()
def play(
    model: Model,
    start: Annotated[datetime, typer.Option("--from", help="first day", formats=["%Y-%m-%d"])],
    end: Annotated[datetime, typer.Option("--to", help="first day not to play", formats=["%Y-%m-%d"])],
) -> None:
    """Play real days of requests through the gateway; labels come back when they became known."""
    from sevenfold.demo.performance import play_days

    with one_sentence():
        play_days(model, settings(), start.replace(tzinfo=UTC), end.replace(tzinfo=UTC), console.print)


@app.command()
def promote(
    model: Model,
    environment: Annotated[str, typer.Argument(help="environment to try to leave")],
    candidate: Annotated[str, typer.Option(help="candidate id; empty: whatever is due")] = "",
    as_of: Annotated[str, typer.Option(help="day of the data, as 2013-06-01; empty: its own, or now")] = "",
    reason: Reason = "started from the command line",
) -> None:
    """Start a run of an environment's DAG. Its gate decides, not this command."""
    from sevenfold import clock
    from sevenfold.environments import require_environment
    from sevenfold.evidence.store import open_store
    from sevenfold.local import stack
    from sevenfold.model.spec import load_spec

    with one_sentence():
        spec = load_spec(model)
        require_environment(environment)
        conf = {"reason": reason}
        if as_of:
            conf["as_of"] = f"{clock.moment(spec, as_of):%Y-%m-%d}"
        if candidate:
            conf["candidate"] = open_store().candidate(candidate).id
        run = f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        stack.airflow(settings(), "admin").trigger(f"{model}.{environment}", conf, run)
        console.print(f"started: {settings().airflow_url}/dags/{model}.{environment}/runs/{run}")


@app.command()
def rollback(
    model: Model,
    reason: Reason,
    again: Annotated[bool, typer.Option("--again", help="further back, though promotion is on hold")] = False,
) -> None:
    """Take a canary off, or without one go back to the champion before; also with Airflow down."""
    from sevenfold.cluster import open_cluster
    from sevenfold.evidence.store import open_store
    from sevenfold.kubernetes.api import ClusterForbids
    from sevenfold.model.spec import load_spec
    from sevenfold.release import release
    from sevenfold.release.going_back import go_back, tidy

    with one_sentence():
        spec, store, cluster = load_spec(model), open_store(), open_cluster(hurry=True)
        before = release.row(store, model).generation
        try:
            row = go_back(store, cluster, model, by=me(), reason=reason, again=again, say=_tell)
            tidy(cluster, model, row, spec.serving.replicas, _tell)
        except ClusterForbids as error:
            raise SevenfoldError(_forbidden(model, before, release.row(store, model))) from error
        _tell(f'no candidate is promoted until you say make resume MODEL={model} REASON="..."')


def _forbidden(model: str, before: int, row: ReleaseRow) -> str:
    """How far a roll-back came that this account may not carry through, and what works."""
    where = settings().namespace_of("production")
    if row.generation > before:
        return (
            f"{row.champion} serves everything by the release row (generation {row.generation}), and "
            "gateways follow it by themselves. This account may not look whether they do: "
            f"kubectl --namespace {where} logs deployment/gateway"
        )
    return (
        f"nothing was changed: this account, like that of Airflow's own pods, may not look after {where}. "
        f"Trigger the DAG {model}.roll_back, or with Airflow down make a Job of the CronJob roll-back there "
        "(docs/cluster.md, Where to look when something is red)"
    )


@app.command()
def resume(model: Model, reason: Reason) -> None:
    """Let candidates be promoted again after a roll-back."""
    from sevenfold.evidence.store import open_store
    from sevenfold.model.spec import load_spec
    from sevenfold.release import release

    with one_sentence():
        load_spec(model)
        release.release_hold(open_store(), model, by=me(), reason=reason)
        console.print(f"candidates of {model} can be promoted again")


@app.command()
def gate(
    model: Model,
    environment: Annotated[str, typer.Argument(help="one of the environments that have a gate")],
    share: Annotated[float, typer.Option(help="the canary's share of the traffic")] = 0.1,
) -> None:
    """Walk through a gate: what it measures, on how much data, what passes, and how long it takes."""
    from sevenfold.environments import require_environment
    from sevenfold.gates.planner import walk_through
    from sevenfold.gates.policy import gate_path, load_gate
    from sevenfold.model.spec import load_spec

    with one_sentence():
        load_spec(model)
        if not gate_path(settings().models, model, require_environment(environment)).is_file():
            raise SevenfoldError(f"{environment} of {model} has no gate: nothing is promoted out of it")
        policy = load_gate(settings().models, model, environment)
        console.print(walk_through(policy, share=share), markup=False)


@app.command()
def aa(
    model: Model,
    hours: Annotated[float, typer.Option(help="look at so much of the past, wall time")] = 24.0,
) -> None:
    """Split the champion's own traffic in two: how much more do its bad events vary than independent ones?

    What is printed belongs into the gate of production as over_dispersion, before the first canary and after
    every change of how the service runs.
    """
    from sevenfold import clock
    from sevenfold.evidence.store import open_store
    from sevenfold.gates.policy import load_gate
    from sevenfold.measures import aa as champion_against_itself
    from sevenfold.model.spec import load_spec
    from sevenfold.release import release

    with one_sentence():
        spec, store = load_spec(model), open_store()
        champion = release.row(store, model).champion
        if champion is None:
            raise SevenfoldError(f"{model} has no champion, so there is no traffic to split in two")
        asked = {m.metric: m for m in load_gate(settings().models, model, "production").metrics if m.interval}
        interval = min((m.interval for m in asked.values() if m.interval), default=timedelta(seconds=2))
        mature = max((m.matured_after for m in asked.values() if m.matured_after), default=timedelta(0))
        since, final = datetime.now(UTC) - timedelta(hours=hours), clock.now(store, model) - mature
        logs = settings().logs
        for found in champion_against_itself.measure(logs, spec, champion, interval, since, final):
            console.print(champion_against_itself.sentence(found, asked.get(found.metric)), markup=False)


@app.command()
def verify(promotion: Annotated[str, typer.Argument(help="a promotion; empty: all evidence")] = "") -> None:
    """Check that all evidence is as it was written: signatures, audit log, bytes of the reports."""
    from sevenfold.evidence.artifacts import open_artifacts
    from sevenfold.evidence.store import open_store
    from sevenfold.evidence.verify import verify as problems

    with one_sentence():
        found = problems(open_store(), promotion or None, open_artifacts())
        for problem in found:
            console.print(problem, markup=False)
        if found:
            raise typer.Exit(1)
        console.print("all evidence is as it was written")


@app.command()
def replay(
    promotion: Annotated[str, typer.Argument(help="a promotion: model/environment/run")],
    policy: Annotated[Path, typer.Option(help="the gate file to judge by instead")],
) -> None:
    """Judge stored measurements again by another gate file, and say what would change. Nothing is written."""
    from sevenfold.evidence.store import open_store
    from sevenfold.gates.policy import load_policy
    from sevenfold.gates.replay import replay as judge_again

    with one_sentence():
        found = judge_again(open_store(), promotion, load_policy(policy))
        console.print(f"was: {found.before.verdict}. {found.before.reason}", markup=False)
        console.print(f"would be: {found.after.verdict}. {found.after.reason}", markup=False)
        for change in found.changes:
            console.print(f"  {change}", markup=False)


@app.command()
def revoke(
    promotion: Annotated[str, typer.Argument(help="a promotion: model/environment/run")], reason: Reason
) -> None:
    """Take back the evidence of a promotion, and name what relied on it."""
    from sevenfold.evidence.revoke import revoke as take_back
    from sevenfold.evidence.store import open_store

    with one_sentence():
        revoked = take_back(open_store(), promotion, me(), reason)
        relied = ", ".join(revoked.relied) or "nothing"
        console.print(f"revoked: {promotion}; relied on it: {relied}", markup=False)
        if revoked.serves:
            console.print("its candidate serves production: roll it back unless you are sure")


def _tell(line: str) -> None:
    console.print(line, markup=False, highlight=False)


@app.command()
def explain(
    subject: Annotated[str, typer.Argument(help="a promotion (model/environment/run), candidate or model")],
) -> None:
    """Say why something was promoted, held or refused, with the numbers."""
    from sevenfold.evidence.store import open_store
    from sevenfold.gates.explain import explain as explained

    with one_sentence():
        store = open_store()
        for promotion in _promotions(store, subject):
            console.print(explained(store, promotion), end="\n\n", markup=False)


def _promotions(store: Store, subject: str) -> list[str]:
    if subject.count("/") >= 2:
        return [subject]
    model = subject.split("-")[0]
    candidate = store.candidate(subject).id if "-" in subject else None
    found = [
        promotion.id
        for promotion in store.promotions(model)
        if candidate is None or candidate in (promotion.candidate, promotion.origin)
    ]
    if not found:
        raise SevenfoldError(f"the evidence store knows no promotion of {subject!r}")
    return found


def _say_where() -> None:
    from sevenfold.secrets import airflow_passwords

    here = settings()
    passwords = airflow_passwords(here.secrets)
    table = Table(box=None, show_header=False)
    table.add_row(
        "Airflow", here.airflow_url, f"sign in as admin or approver; passwords in {here.secrets}/airflow.json"
    )
    table.add_row("MLflow", here.mlflow_url, "experiments, models, aliases")
    table.add_row("gateway", here.gateway_url, f"predictions; tokens in {here.secrets}")
    console.print(table)
    if sys.stdout.isatty():
        console.print(f"[dim]admin: {passwords['admin']}   approver: {passwords['approver']}[/]")
