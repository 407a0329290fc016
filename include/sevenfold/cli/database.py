"""The database of the evidence: its tables, and who may write what in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sevenfold.cli.common import console, me, one_sentence
from sevenfold.settings import settings

app = typer.Typer()


@app.command()
def migrate() -> None:
    """Make the tables of the evidence store, or bring them to this version. Twice is no harm, nor at once."""
    from sevenfold.evidence.database import Database
    from sevenfold.evidence.tables import SCHEMA

    with one_sentence():
        database = Database(settings().evidence_url)
        database.prepare()
        console.print(f"{database.name} has schema {SCHEMA}", markup=False, soft_wrap=True)


@app.command()
def grant_roles(
    prefix: Annotated[str, typer.Option(help="what the roles' names begin with")] = "sevenfold",
    logins: Annotated[
        Path | None, typer.Option(help="let them log in, and keep the URL of each in this folder")
    ] = None,
) -> None:
    """Make PostgreSQL's roles, and set what each may write: what an environment does, and no more."""
    from sevenfold.evidence import grants
    from sevenfold.evidence.database import Database

    with one_sentence():
        for role in grants.grant_roles(Database(settings().evidence_url), prefix, logins):
            console.print(role)
        if logins is not None:
            console.print(f"their URLs, with passwords, are in {logins}", markup=False, soft_wrap=True)


@app.command()
def move_evidence(
    to: Annotated[str, typer.Option(help="URL of the database to move to: its owner's")],
    artifacts: Annotated[
        str, typer.Option(help="URL of the storage to move reports and models to; empty: they stay")
    ] = "",
) -> None:
    """Move all evidence to another database, from a laptop to a cluster. Killed, it is simply said again.

    Everything is verified here before, and there before it counts. What is here stays as it is.
    """
    from sevenfold.evidence.artifacts import open_artifacts
    from sevenfold.evidence.moving import move
    from sevenfold.evidence.store import Store

    with one_sentence():
        stores = (open_artifacts(), open_artifacts(artifacts)) if artifacts else None
        source, target = Store(settings().evidence_url), Store(to)
        moved = move(source, target, stores, me(), _say)
        filled = ", ".join(f"{count:,} {name}" for name, count in moved.rows.items() if count)
        _say(f"moved to {target.name}, and all of it is as it was written: {filled or 'nothing'}")
        if artifacts:
            _say(f"{moved.artifacts:,} artifacts are in {artifacts}, {moved.copied:,} of them came now")
        else:
            _say(f"artifacts stayed in {settings().artifacts_url}: --artifacts moves them")
        _say(LEFT.format(home=settings().home, data=settings().data, logs=settings().logs))


LEFT = """\
not moved, for it is no evidence:
  keys, without which nobody believes the evidence: sevenfold cluster-secrets takes them along
  {home}/mlflow: experiments and the registry of MLflow; a candidate serves without them, by its digest
  {data}: snapshots and searches, which are made again by who needs them
  {logs}: predictions; copy them into the volume of logs if monitoring is to know the past
from now on, set SEVENFOLD_EVIDENCE_URL (and SEVENFOLD_ARTIFACTS_URL) for whoever writes"""


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
