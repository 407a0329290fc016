"""`sevenfold`: start, stop and look at the local stack; promote, roll back, explain."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sevenfold.errors import SevenfoldError
from sevenfold.settings import settings

if TYPE_CHECKING:
    from sevenfold.store import Store

console = Console(highlight=False)
app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

Model = Annotated[str, typer.Argument(help="name of a model, a folder in include/models")]
Reason = Annotated[str, typer.Option(help="why: it stands in the evidence for ever")]


@contextmanager
def one_sentence() -> Iterator[None]:
    """A problem that a person can put right ends as its sentence, not as a traceback."""
    try:
        yield
    except SevenfoldError as error:
        console.print(f"[red]{error}[/]", markup=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print(
            "\nstopped; nothing is lost: the same command goes on from here, `make down` stops the stack"
        )
        raise typer.Exit(130) from None


@app.command()
def up() -> None:
    """Start the stack, or what is missing of it, and say where it is."""
    from sevenfold import stack

    with one_sentence():
        stack.up(settings(), console.print)
        _say_where()


@app.command()
def down() -> None:
    """Stop everything. What was decided, measured and trained stays."""
    from sevenfold import stack

    with one_sentence():
        console.print("stopped" if stack.down(settings()) else "nothing was running")


@app.command()
def status() -> None:
    """What runs where, what production serves, and what waits for a person."""
    from sevenfold import release
    from sevenfold.spec import models
    from sevenfold.store import open_store
    from sevenfold.supervision import Supervisor

    with one_sentence():
        supervisor = Supervisor(settings().home)
        parts = Table("part", "state", "process", "since", box=None)
        for part in supervisor.status() if supervisor.running() else []:
            since = (
                datetime.fromtimestamp(part.since, UTC).strftime("%H:%M:%S UTC") if part.pid else part.detail
            )
            parts.add_row(part.name, part.state.lower(), str(part.pid or ""), since)
        console.print(parts if parts.row_count else "nothing runs: start it with make up")
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
            if row.held:
                console.print(f"  automatic promotion is on hold: {row.held}")
            for alert in store.open_alerts(model):
                console.print(f"  open alert: {alert.reason}")


@app.command()
def demo(
    model: Annotated[str, typer.Argument(help="a model with a story")] = "flight_delay",
    approve_after: Annotated[float, typer.Option(help="seconds that a person has to approve first")] = 10.0,
    wait_for_approval: Annotated[bool, typer.Option(help="never approve by itself")] = False,
) -> None:
    """Start the stack and play a model's story through all seven environments."""
    from sevenfold.performance import perform

    with one_sentence():
        perform(model, settings(), console, None if wait_for_approval else approve_after)


@app.command()
def replay(
    model: Model,
    start: Annotated[datetime, typer.Option("--from", help="first day", formats=["%Y-%m-%d"])],
    end: Annotated[datetime, typer.Option("--to", help="first day not to play", formats=["%Y-%m-%d"])],
) -> None:
    """Play real days of requests through the gateway; labels come back when they became known."""
    from sevenfold.performance import replay as play

    with one_sentence():
        play(model, settings(), start.replace(tzinfo=UTC), end.replace(tzinfo=UTC), console.print)


@app.command()
def promote(
    model: Model,
    environment: Annotated[str, typer.Argument(help="environment to try to leave")],
    candidate: Annotated[str, typer.Option(help="candidate id; empty: whatever is due")] = "",
    reason: Reason = "started from the command line",
) -> None:
    """Start a run of an environment's DAG. Its gate decides, not this command."""
    from sevenfold import stack
    from sevenfold.environments import require_environment
    from sevenfold.spec import load_spec
    from sevenfold.store import open_store

    with one_sentence():
        load_spec(model)
        require_environment(environment)
        conf = {"reason": reason}
        if candidate:
            conf["candidate"] = open_store().candidate(candidate).id
        run = f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        stack.airflow(settings(), "admin").trigger(f"{model}.{environment}", conf, run)
        console.print(f"started: {settings().airflow_url}/dags/{model}.{environment}/runs/{run}")


@app.command()
def rollback(model: Model, reason: Reason = ...) -> None:  # type: ignore[assignment]
    """Give all traffic back to the previous champion, now. Works with Airflow down."""
    from sevenfold.reconciler import reconcile_now
    from sevenfold.release import roll_back
    from sevenfold.spec import load_spec
    from sevenfold.store import open_store

    with one_sentence():
        load_spec(model)
        store = open_store()
        row = roll_back(store, model, by=os.environ.get("USER", "operator"), reason=reason)
        reconcile_now(store, model, settings())
        console.print(
            f"{model} is served by {row.champion or 'nobody'} (generation {row.generation}); held: {row.held}"
        )


@app.command()
def explain(
    subject: Annotated[str, typer.Argument(help="a promotion (model/environment/run), candidate or model")],
) -> None:
    """Say why something was promoted, held or refused, with the numbers."""
    from sevenfold.explain import explain as explained
    from sevenfold.store import open_store

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


if __name__ == "__main__":
    app()
