"""validate_data: may anything be decided on these rows? The model's expectations, and a look for leaks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.data import data_quality
from sevenfold.data.data_quality import KINDS, Finding, Findings
from sevenfold.data.snapshot import Snapshot, snapshot
from sevenfold.data.windows import Window, windows
from sevenfold.development.leakage import Association, associations
from sevenfold.reports import page

STRONGEST = 5
"""Columns whose association with the label is measured; the report has all."""
SHOWN = 5
"""Failing rows that the report shows whole."""


def main(activity: Activity) -> None:
    """Measures failed_critical_expectations, rows, and label_association of the columns that tell most."""
    spec, as_of = activity.spec, activity.promotion.as_of
    window = windows(spec, as_of).test
    data = snapshot(spec, activity.settings.data, activity.progress)
    with activity.phase("reading the rows"):
        frame, columns = raw(data, window, as_of)
    with activity.phase(f"checking {len(frame):,} rows"):
        expectations = spec.entry("expectations")(*window, columns)
        found = data_quality.validate(spec.name, frame, expectations)
    for failure in found.failures:
        rows = f", {failure.rows:,} rows" if failure.rows else ""
        activity.progress(
            f"{failure.severity}: {failure.column}: {failure.expectation}{rows}; {failure.detail}"
        )
    activity.measure(
        "failed_critical_expectations",
        len(found.critical),
        unit="expectations",
        n=len(found.all),
        window=window,
    )
    activity.measure("rows", len(frame), unit="rows", n=len(frame), window=window)
    told, n = leaks(data, window, as_of)
    for column in told[:STRONGEST]:
        activity.measure(
            "label_association", column.strength, unit="association", n=n, slice=column.column, window=window
        )
    activity.report("data.html", report(activity, frame, found, told), "Quality of the data")
    activity.report("expectations.json", found.json, "Expectations (Great Expectations' JSON)")


def raw(data: Snapshot, window: Window, as_of: datetime) -> tuple[Any, list[str]]:
    """All rows of the window as a pandas frame, with `label` and `lag_hours` where there is a label.

    Returns:
        The frame, and the names of the columns that are the rows' own.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows, labels = data.rows(*window), data.labels(*window, known_by=as_of)
    where = pc.index_in(rows["id"], value_set=labels["id"].combine_chunks())
    lag = pc.subtract(labels["known_at"].take(where), rows["time"]).cast(pa.int64())
    frame = rows.append_column("label", labels["label"].take(where))
    return frame.append_column("lag_hours", pc.divide(lag, 3.6e9)).to_pandas(), rows.column_names


def leaks(data: Snapshot, window: Window, as_of: datetime) -> tuple[list[Association], int]:
    """What each feature alone says about the label, strongest first, and the number of rows that say so."""
    features = data.spec.columns
    rows = data.labelled(*window, as_of, features)
    columns = {name: rows[name].to_numpy() for name in features}
    return associations(columns, np.asarray(rows["label"])), rows.num_rows


def report(activity: Activity, frame: Any, found: Findings, told: list[Association]) -> str:
    """A page with what was expected and what was found, failing rows whole, and columns that tell much."""
    warnings = len(found.failures) - len(found.critical)
    kinds = []
    for kind in KINDS:
        of = found.of_kind(kind)
        failed = sum(not finding.met for finding in of)
        kinds.append([kind, len(of), failed] if of else [kind, "nothing is expected", None])
    return page.page(
        f"{activity.spec.title}: quality of the data",
        page.text(
            f"{len(frame):,} rows, {len(found.all)} expectations: {len(found.critical)} failed, "
            f"{warnings} warned.",
        ),
        page.table(["about", "expectations", "not met"], kinds),
        *(part for failure in found.failures for part in failing(frame, failure)),
        page.heading("What each column alone says about the label"),
        page.text(
            "0 is nothing and 1 everything. A column that says nearly all of it was filled in when the "
            "outcome was known: such a model is brilliant here and useless where it serves."
        ),
        page.table(["column", "association"], [[one.column, one.strength] for one in told]),
        page.heading("All expectations"),
        page.table(
            ["about", "column", "expectation", "found"],
            [
                [f.kind, f.column, f.expectation, f.detail if f.met else f"NOT MET: {f.detail}"]
                for f in found.all
            ],
        ),
    )


def failing(frame: Any, failure: Finding) -> list[str]:
    """One failed expectation with some of its rows, whole."""
    rows = frame[frame["id"].isin(failure.ids)].head(SHOWN)
    count = f" {failure.rows:,} rows fail: {', '.join(failure.ids)}." if failure.rows else ""
    parts = [
        page.heading(f"{failure.severity}: {failure.column}: {failure.expectation}"),
        page.text(f"{failure.detail}.{count}"),
    ]
    if len(rows):
        cells = [[name, *(str(value) for value in rows[name])] for name in frame.columns]
        parts.append(page.table(["column", *(f"row {n + 1}" for n in range(len(rows)))], cells))
    return parts


if __name__ == "__main__":
    run(main)
