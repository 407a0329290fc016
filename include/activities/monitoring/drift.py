"""drift: are the rows and the scores of the last weeks like those that the champion was trained on?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.predictions import values
from sevenfold.data.snapshot import snapshot
from sevenfold.data.weeks import Week, within
from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring import drift
from sevenfold.monitoring.drift import SCORE, Reference, Shift
from sevenfold.monitoring.watch import Watch
from sevenfold.reports import plots
from sevenfold.serving.pseudonyms import Pseudonyms

TOP = 5
"""Features named in measurements; all are in the plot and the report."""
SAMPLE = 3000
"""Rows of each side in the report for people: its cost grows with rows, what it shows does not."""


def main(activity: Activity) -> None:
    """Compares each complete week with the champion's reference; the report for people shows the last one."""
    watch = Watch(activity)
    champion = watch.champion
    if champion is None:
        activity.progress(f"{activity.promotion.model} has no champion: there is no reference to drift from")
        return
    reference = watch.reference(champion)
    activity.report("reference.json", reference.model_dump_json(indent=1), "Reference: what is usual")
    hidden = watch.pseudonyms
    for said in cannot_see(activity.spec):
        activity.progress(said)
    columns = [*reference.numeric, *reference.categorical]
    rows = watch.champion_rows(["prediction", *(name for name in columns if name != SCORE)])
    full = [
        (week, inside)
        for week in watch.served(rows)
        if (inside := within(rows, week)).num_rows >= watch.rule.min_rows
    ]
    if not full:
        activity.progress(
            f"{champion.id} has no complete week with {watch.rule.min_rows:,} answers: nothing to compare"
        )
        return
    shifts = {
        week: drift.compare(comparable(activity, reference, inside, hidden), inside, scores(activity, inside))
        for week, inside in full
    }
    for week, inside in full:
        measure(activity, reference, week, shifts[week], inside.num_rows)
    week, inside = full[-1]
    if activity.promotion.params.get("report", True):
        draw(activity, reference, shifts)
        with activity.phase("writing the drift report for people"):
            activity.report(
                "drift.html", evidently(activity, champion, inside), f"Drift of {week}, by Evidently"
            )


def cannot_see(spec: ModelSpec) -> list[str]:
    """A sentence for each personal feature: what drift sees of it, and what it does not."""
    rule = spec.privacy
    equality = "the log has keyed hashes of it: drift sees how often equal values are, not what they are"
    numbers = "the log has keyed hashes of its numbers, which say nothing of near and far: drift skips it"
    nothing = "the log keeps nothing of it: drift skips it"
    return [
        f"{name} is personal, and "
        + (nothing if name in rule.left_out else equality if name in spec.categorical else numbers)
        for name in rule.personal
    ]


def comparable(
    activity: Activity, reference: Reference, rows: pa.Table, hidden: Pseudonyms | None
) -> Reference:
    """The reference without the features whose hashes in `rows` were made with another key than today's."""
    if hidden is None:
        return reference
    mine = f"{hidden.name}:"
    strange = [
        name
        for name in reference.categorical
        if name in hidden.hashed and not pc.all(pc.starts_with(rows[name], mine)).as_py()
    ]
    if strange:
        activity.progress(
            f"not compared in a week that was logged with another key of the pseudonyms: {', '.join(strange)}"
        )
    kept = {name: shares for name, shares in reference.categorical.items() if name not in strange}
    return reference.model_copy(update={"categorical": kept})


def scores(activity: Activity, rows: pa.Table) -> NDArray[np.float64]:
    """What of the answers in joined `rows` is watched, one number a row."""
    return activity.spec.task.score(values(rows["prediction"]))


def measure(activity: Activity, reference: Reference, week: Week, shifts: list[Shift], rows: int) -> None:
    """Leaves the score's distance, the number of drifted features, and the features that drifted most."""
    where: dict[str, Any] = {"window": (week.start, week.end), "interval": week.key, "n": rows}
    score, features = shifts[0], shifts[1:]
    activity.measure("score_psi", score.psi, unit="PSI", counts={"limit": score.limit}, **where)
    drifted = [shift for shift in features if shift.drifted]
    activity.measure("drifted_features", len(drifted), unit=f"of {len(features)}", **where)
    for shift in drifted[:TOP]:
        activity.measure(
            "feature_psi",
            shift.psi,
            unit="PSI",
            slice=shift.column,
            counts={"limit": shift.limit, "unseen": shift.unseen},
            **where,
        )


def draw(activity: Activity, reference: Reference, shifts: dict[Week, list[Shift]]) -> None:
    """Draws the score's distance by week, and every feature's in the last week."""
    last = list(shifts)[-1]
    with tempfile.TemporaryDirectory() as folder:
        path = plots.series(
            Path(folder) / "score_psi.png",
            [week.end for week in shifts],
            {"PSI of the score": ([found[0].psi for found in shifts.values()], None, None)},
            f"{activity.spec.title}: distance of the week's scores from the reference",
            "PSI",
            limits={f"largest of the reference's own {reference.weeks} weeks": reference.limits[SCORE]},
        )
        activity.report(path.name, path, "Drift of the score, week by week")
        path = plots.intervals(
            Path(folder) / "features.png",
            [(shift.column, shift.psi / shift.limit, None, None) for shift in shifts[last]],
            f"{last}: PSI over its limit, by column",
            "1 = the largest PSI of the reference's own weeks",
            limit=1.0,
        )
        activity.report(path.name, path, "Drift of every column in the last week")


def evidently(activity: Activity, champion: Candidate, rows: pa.Table) -> bytes:
    """Evidently's drift report as one HTML page: a sample of the training rows against one of `rows`.

    Personal features are not in it: a page must not show them.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    class Page(DataDriftPreset):  # type: ignore[misc, unused-ignore]
        """Without readings of each column, which would be made and drawn beside the page and thrown away."""

        def generate_metrics(self, context: Any) -> list[Any]:
            return []

    spec = activity.spec
    personal = spec.privacy.personal
    numeric, categorical = (
        [name for name in names if name not in personal] for names in (spec.numeric, spec.categorical)
    )
    shown = [*numeric, *categorical, SCORE]
    kept = snapshot(spec, activity.settings.data)
    training = sample(kept.rows(*champion.train_window, columns=spec.columns))
    usual_scores = spec.task.score(Scorer(activity.model_file(champion)).predict(training))
    training = training.append_column(SCORE, pa.array(usual_scores))
    rows = sample(rows)
    rows = rows.append_column(SCORE, pa.array(scores(activity, rows)))
    definition = DataDefinition(numerical_columns=[*numeric, SCORE], categorical_columns=categorical)
    now, usual = (
        Dataset.from_pandas(_frame(side, shown), data_definition=definition) for side in (rows, training)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drift.html"
        Report([Page()]).run(now, usual).save_html(str(path))
        return path.read_bytes()


def sample(rows: pa.Table) -> pa.Table:
    """Every k-th row, at most `SAMPLE`: all days are in it, and the same rows are chosen every time."""
    step = max(1, -(-rows.num_rows // SAMPLE))
    return rows.take(pa.array(range(0, rows.num_rows, step)))


def _frame(rows: pa.Table, columns: list[str]) -> Any:
    """A pandas frame whose columns all hold something: Evidently cannot draw a column without a value."""
    table = rows.select(columns)
    for number, name in enumerate(columns):
        if pa.types.is_string(table[name].type):
            table = table.set_column(number, name, pc.fill_null(table[name], "missing"))
        else:
            table = table.set_column(number, name, table[name].cast(pa.float64()))
    return table.to_pandas()


if __name__ == "__main__":
    run(main)
