"""explore: what do the rows look like before anything is learned from them? Facts, and pictures of them.

All rows lie inside the window that training will have: what is seen here spoils no later test.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.development.beforehand import Beforehand
from sevenfold.development.exploration import Exploration, explore
from sevenfold.development.rehearsal import rehearse
from sevenfold.reports import page


def main(activity: Activity) -> None:
    """Reads rows, unlabelled and missing share, constant features and those that tell the label alone."""
    with activity.phase("reading the rows"):
        sample = rehearse(
            activity.spec,
            activity.promotion.as_of,
            activity.promotion.params,
            activity.settings.data,
            activity.progress,
        )
    found = explore(sample)
    for name in found.constant:
        activity.progress(f"{name} never varies")
    for name in found.suspicious:
        activity.progress(f"{name} alone tells nearly all of the label: was it filled in afterwards?")
    n, features = found.sample.num_rows, len(found.features)
    readings = Beforehand(activity, sample.digest)
    readings.measure("rows", found.rows, unit="rows", n=found.rows)
    readings.measure("unlabelled_share", found.unlabelled, unit="share", n=found.rows)
    readings.measure("missing_share", found.missing, unit="share", n=n)
    readings.measure("constant_features", len(found.constant), unit="features", n=features)
    readings.measure("suspicious_features", len(found.suspicious), unit="features", n=features)
    with activity.phase("drawing"):
        report(activity, found)
    readings.keep()


def report(activity: Activity, found: Exploration) -> None:
    """A page of pictures, and a table of all features."""
    spec = activity.spec
    columns = ["feature", "kind", "known at", "missing", "different values", "typical", "association"]
    rows = [
        [
            one.name,
            one.kind,
            one.known_at.replace("_", " "),
            f"{one.missing:.1%}",
            one.distinct,
            one.typical,
            f"{one.association:.3f}",
        ]
        for one in found.features
    ]
    with tempfile.TemporaryDirectory() as folder:
        pictures = [
            part
            for path, sentence in found.pictures(Path(folder))
            for part in (page.heading(sentence), page.image(path, sentence))
        ]
    content = page.page(
        f"{spec.title}: the rows before anything is learned",
        page.text(
            f"{found.rows:,} rows of the training window, {found.unlabelled:.1%} of them without a label. "
            f"Looked at closely: a sample of {found.sample.num_rows:,} labelled rows, in which "
            f"{found.missing:.1%} of the features' values are missing.",
            _warning("never vary", found.constant),
            _warning("alone tell nearly all of the label, and may have been filled in afterwards",
                     found.suspicious),
        ),
        page.text(
            "Known at is the column of the rows that says from when on a feature is known; a snapshot "
            "refuses rows with a feature that is known later than the moment of their prediction."
        ),
        *pictures,
        page.heading("Every feature"),
        page.table(columns, rows),
    )  # fmt: skip
    activity.report("exploration.html", content, "The data")


def _warning(what: str, names: list[str]) -> str:
    return f"These {what}: {', '.join(names)}." if names else f"No features {what}."


if __name__ == "__main__":
    run(main)
