"""What a notebook needs beside the library: tables and pictures in its cells, and the way to the DAG."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sevenfold.model.spec import ModelSpec
from sevenfold.reports import page
from sevenfold.settings import settings


def moment(spec: ModelSpec, as_of: str | None) -> datetime:
    """The day to look back from: as a date, or the end of the model's data."""
    return datetime.fromisoformat(as_of or spec.data.ends.isoformat()).replace(tzinfo=UTC)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table below the cell."""
    from IPython.display import HTML, display

    display(HTML(page.table(columns, rows)))  # type: ignore[no-untyped-call]


def show_pictures(draw: Callable[[Path], Sequence[tuple[Path, str]]]) -> None:
    """The pictures that `draw` makes in a folder, each with its sentence."""
    from IPython.display import HTML, Image, display

    with tempfile.TemporaryDirectory() as folder:
        for path, sentence in draw(Path(folder)):
            display(HTML(page.heading(sentence)), Image(path.read_bytes()))  # type: ignore[no-untyped-call]


def hand_over(spec: ModelSpec, form: Mapping[str, Any], *, start: bool) -> str:
    """Starts the model's development DAG with the form filled in, or says what to fill in by hand.

    Raises:
        AirflowError: Airflow does not answer (`make up` starts it), or refuses a field of the form.
    """
    dag = f"{spec.name}.development"
    if not start:
        return f"fill in the form of {dag} with {dict(form)}"
    from sevenfold.local import stack

    here = settings()
    run = f"notebook-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    stack.airflow(here, "admin").trigger(dag, form, run)
    return f"started: {here.airflow_url}/dags/{dag}/runs/{run}"
