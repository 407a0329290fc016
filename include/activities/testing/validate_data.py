"""validate_data: may anything be decided on these rows? The model's expectations on the test window."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sevenfold import data_quality, page
from sevenfold.activity import Activity, run
from sevenfold.data_quality import Findings
from sevenfold.snapshot import Snapshot, snapshot
from sevenfold.windows import Window, windows


def main(activity: Activity) -> None:
    """Measures failed_critical_expectations; warnings are reported and fail nothing."""
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
        n=found.expectations,
        window=window,
    )
    activity.measure("rows", len(frame), unit="rows", n=len(frame), window=window)
    activity.report("data_docs.html", found.html, "Data docs (Great Expectations)")
    activity.report("failing_rows.html", failing(frame, found), "Rows that fail an expectation")


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


def failing(frame: Any, found: Findings) -> str:
    """A page with some of the rows that fail each expectation, whole."""
    parts = [
        page.text(
            f"{found.expectations} expectations, {len(found.critical)} failed, "
            f"{len(found.failures) - len(found.critical)} warnings."
        )
    ]
    for failure in found.failures:
        parts += [
            page.heading(f"{failure.column}: {failure.expectation} ({failure.severity})"),
            page.text(f"{failure.detail}"),
        ]
        rows = frame[frame["id"].isin(failure.ids)]
        if len(rows):
            transposed = [[name, *(str(value) for value in rows[name].head(5))] for name in frame.columns]
            parts.append(
                page.table(["column", *(f"row {n + 1}" for n in range(min(5, len(rows))))], transposed)
            )
    return page.page("Rows that fail an expectation", *parts)


if __name__ == "__main__":
    run(main)
