"""The database of the evidence: its tables, and who may write what in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sevenfold.cli_common import console, one_sentence
from sevenfold.settings import settings

app = typer.Typer()


@app.command()
def migrate() -> None:
    """Make the tables of the evidence store, or bring them to this version. Twice is no harm, nor at once."""
    from sevenfold.database import Database
    from sevenfold.tables import SCHEMA

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
    from sevenfold import grants
    from sevenfold.database import Database

    with one_sentence():
        for role in grants.grant_roles(Database(settings().evidence_url), prefix, logins):
            console.print(role)
        if logins is not None:
            console.print(f"their URLs, with passwords, are in {logins}", markup=False, soft_wrap=True)
