"""The end of a demo: candidates, verdicts with their sentences, quality before and after, time and memory."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from sevenfold.activity import FINISHED
from sevenfold.environments import ENVIRONMENTS
from sevenfold.evidence.store import Store
from sevenfold.gates.measurement import Measurement
from sevenfold.model.spec import ModelSpec
from sevenfold.settings import Settings

COLOURS = {"promoted": "green", "refused": "red", "error": "red", "held": "yellow"}


@dataclass(frozen=True)
class Cost:
    """When this telling of the story began, its seconds; bytes at the peak and of the stack at rest."""

    began: datetime
    seconds: float
    peak: int
    idle: int


def tell(store: Store, spec: ModelSpec, settings: Settings, console: Console, cost: Cost) -> None:
    """Prints the summary of everything that the evidence store knows about the model."""
    console.print()
    console.rule("[bold]Summary", align="left")
    _candidates(store, spec, console)
    _verdicts(store, spec, console)
    _alerts(store, spec, console)
    _quality(store, spec, settings, console)
    _costs(store, spec, console, cost)
    where(settings, console)


def _candidates(store: Store, spec: ModelSpec, console: Console) -> None:
    table = Table(
        "candidate", "made in", "learned from", "because", "reached", box=None, title_justify="left"
    )
    moves = [move for move in store.promotions(spec.name) if move.environment != "monitoring"]
    for candidate in store.candidates(spec.name):
        mine = [move for move in moves if move.candidate == candidate.id]
        last = max(mine, key=lambda move: ENVIRONMENTS.index(move.environment), default=None)
        first, end = candidate.train_window
        table.add_row(
            candidate.id,
            min(mine, key=lambda move: move.began_at).environment if mine else "",
            f"{first:%-d %b} to {end - timedelta(days=1):%-d %b %Y}",
            candidate.reason,
            f"[{COLOURS.get(last.state, 'dim')}]{last.environment}: {last.state}[/]" if last else "nothing",
        )
    console.print(table)


def _verdicts(store: Store, spec: ModelSpec, console: Console) -> None:
    console.print("\n[bold]Verdicts[/]")
    for move in sorted(store.promotions(spec.name), key=lambda move: move.began_at):
        if move.environment == "monitoring" or move.state in ("running", "superseded"):
            continue
        colour = COLOURS.get(move.state, "dim")
        console.print(f"{move.environment:<14}{move.candidate or '':<28}[{colour}]{move.state}[/]")
        console.print(f"  {move.outcome}", markup=False)


def _alerts(store: Store, spec: ModelSpec, console: Console) -> None:
    console.print("\n[bold]Alerts[/]")
    for alert in store.alerts(spec.name):
        console.print(f"{alert.window}  {alert.state}: {alert.reason}", markup=False)
        if alert.outcome and alert.outcome != alert.reason:
            console.print(f"  {alert.outcome}", markup=False)


def _quality(store: Store, spec: ModelSpec, settings: Settings, console: Console) -> None:
    """Every week that monitoring has measured, under the champion of that week."""
    weeks: dict[str, dict[str, Measurement]] = defaultdict(dict)
    plots: dict[str, str] = {}
    for move in store.promotions(spec.name, "monitoring"):
        for reading in store.measurements(move.id, "monitor"):
            if reading.interval and reading.slice is None:
                weeks[reading.interval][reading.metric] = reading
        for report in store.reports(move.id):
            if report.activity == "monitor":
                plots[report.title] = report.path
    table = Table("week", "champion", "log loss", "95 % interval", "observed over expected", box=None)
    for week in sorted(weeks):
        loss, ratio = weeks[week].get("log_loss"), weeks[week].get("observed_over_expected")
        if loss is None or ratio is None or loss.value is None or ratio.value is None:
            continue
        table.add_row(
            week,
            loss.candidate,
            f"{loss.value:.3f}",
            f"{loss.low:.3f} to {loss.high:.3f}" if loss.low is not None and loss.high is not None else "",
            f"{ratio.value:.2f}",
        )
    console.print("\n[bold]Quality in production, week by week[/]")
    console.print(table)
    for title, path in plots.items():
        console.print(f"{title}: {settings.airflow_url}/sevenfold/{path}")


def _costs(store: Store, spec: ModelSpec, console: Console, cost: Cost) -> None:
    """Time per environment: from beginning to end, and of the activities' own processes."""
    own: dict[str, float] = defaultdict(float)
    cpu: dict[str, float] = defaultdict(float)
    runs: dict[str, int] = defaultdict(int)
    took: dict[str, float] = defaultdict(float)
    told = 0.0
    for line in store.audit_lines():
        if line.what == FINISHED and str(line.detail["promotion"]).startswith(f"{spec.name}/"):
            environment = str(line.detail["promotion"]).split("/")[1]
            own[environment] += float(line.detail["seconds"])
            cpu[environment] += float(line.detail["cpu_seconds"])
            told += float(line.detail["seconds"]) if line.at >= cost.began else 0.0
    for move in store.promotions(spec.name):
        runs[move.environment] += 1
        took[move.environment] += ((move.ended_at or datetime.now(UTC)) - move.began_at).total_seconds()
    table = Table("environment", "runs", "from begin to end", "its activities alone", "their CPU", box=None)
    for environment in ENVIRONMENTS:
        table.add_row(
            environment,
            str(runs[environment]),
            f"{took[environment]:.0f} s",
            f"{own[environment]:.0f} s",
            f"{cpu[environment]:.0f} s",
        )
    console.print("\n[bold]Times[/]")
    console.print(table)
    ratio = f"{cost.seconds / told:.2f} times" if told else "without any of"
    console.print(
        f"this took {cost.seconds:.0f} s, {ratio} what its activities ran themselves ({told:.0f} s)"
    )
    console.print(
        f"memory: {cost.peak / 2**30:.2f} GiB at the peak, {cost.idle / 2**30:.2f} GiB at rest (PSS)"
    )


def where(settings: Settings, console: Console) -> None:
    """Addresses, how to sign in, and how to stop."""
    console.print("\n[bold]Look around[/]")
    console.print(f"Airflow   {settings.airflow_url}  (admin and approver: {settings.secrets}/airflow.json)")
    console.print(f"board     {settings.airflow_url}/sevenfold/  every environment, verdict and report")
    console.print(f"MLflow    {settings.mlflow_url}  experiments, models and their aliases")
    console.print("make down stops everything, make up starts it again without repeating anything")
