"""`sevenfold new-model`: a folder for a model of one's own."""

from __future__ import annotations

from datetime import timedelta
from shlex import quote
from typing import Annotated

import typer

from sevenfold.cli.common import console, me, one_sentence
from sevenfold.settings import REPOSITORY, settings

app = typer.Typer()
SHIPPED = REPOSITORY / "include" / "models"


@app.command()
def new_model(
    name: Annotated[str, typer.Argument(help="its name: lower-case letters, digits and underscores")],
    task: Annotated[
        str, typer.Option(help="binary_classification, multiclass_classification or regression")
    ] = "binary_classification",
    owner: Annotated[str, typer.Option(help="who answers for it; whoever is signed in by default")] = "",
) -> None:
    """Make a folder for a new model that passes its own tests at once, with made-up data to replace."""
    from sevenfold.model.scaffold import new_model as make
    from sevenfold.model.spec import load_spec

    with one_sentence():
        folder = make(name, task, owner or me(), settings().models)
        console.print(f"made {folder}", markup=False, soft_wrap=True)
        elsewhere = f"SEVENFOLD_MODELS={quote(str(folder.parent))} " if folder.parent != SHIPPED else ""
        tests = quote(f"{folder}/tests")
        command = f"{elsewhere}PYTHONPATH=include:plugins .venv/bin/python -m pytest {tests}"
        console.print(f"test it:      {command}", markup=False, soft_wrap=True)
        console.print("then replace: data.py, model.yaml, network.py, expectations.py, card.md, tests, gates")
        console.print(f"and start:    {name}.development in the Airflow UI (make up), once it is committed")
        spec = load_spec(name, folder.parent)
        earlier = spec.data.ends - timedelta(days=spec.windows.holdout_days)
        console.print(f"              as_of {earlier}: production lives through the days that come after")
