"""The last look before users: quality on the newest days, which no environment before this one has seen."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.measures import quality
from sevenfold.measures.evaluation import Floats
from sevenfold.measures.quality import Rows
from sevenfold.reports import plots


def main(activity: Activity) -> None:
    """The headline metrics on the sealed days, alone and paired with the champion."""
    spec, as_of = activity.spec, activity.promotion.as_of
    window = windows(spec, as_of).sealed
    data = snapshot(spec, activity.settings.data)
    looks = activity.store.use_test_set(activity.promotion.id, data.digest(*window, as_of))
    rows = data.labelled(*window, known_by=as_of, columns=spec.columns)
    sealed = Rows.of(rows, window)
    activity.progress(
        f"{len(sealed):,} labelled rows of {len(np.unique(sealed.days))} sealed days, "
        f"{window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}; look number {looks} at them"
    )
    candidate = Scorer(activity.model_file(activity.candidate)).predict(rows)
    quality.measure_alone(activity, sealed, candidate)
    curves = {"candidate": candidate}
    if activity.champion is None:
        activity.progress("no champion: nothing compared")
    else:
        champion = Scorer(activity.model_file(activity.champion)).predict(rows)
        quality.measure_against(activity, sealed, candidate, champion, activity.champion, uses=looks)
        curves["champion"] = champion
    _plot(activity, sealed, curves)


def _plot(activity: Activity, rows: Rows, curves: dict[str, Floats]) -> None:
    task, title = activity.spec.task, "Calibration on the sealed days"
    with tempfile.TemporaryDirectory() as folder:
        bins = {name: task.calibration_curve(rows.label, one, rows.days) for name, one in curves.items()}
        path = plots.calibration(Path(folder) / "calibration.png", bins, task, title)
        activity.report(path.name, path.read_bytes(), title)


if __name__ == "__main__":
    run(main)
