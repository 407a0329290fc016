"""The rule on the real year: silent in spring, loud when the winter champion decays, silent in September.

The limits are not tuned to this: they come from the reference's own weeks and from the research. What is
asserted leaves room for another machine's arithmetic, which moves a week's ratio by a few hundredths.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tests.flights import flights

from sevenfold import training
from sevenfold.candidates import artefact
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.tabular import Encoder
from sevenfold.data.weeks import complete, within
from sevenfold.data.windows import windows
from sevenfold.monitoring import alarm, drift, weekly
from sevenfold.training import Examples, TrainingSettings

END = datetime(2013, 10, 1, tzinfo=UTC)


def judged(as_of: datetime, folder: Path) -> dict[str, alarm.Judgement]:
    """What the alarm makes of each week from a champion's holdout to September, by the week's first day."""
    snapshot, spec = flights(), flights().spec
    known = windows(spec, as_of)
    scorer = Scorer(trained(as_of, folder))
    reference_rows = snapshot.rows(*known.training, columns=spec.columns)
    reference = drift.reference(
        "champion",
        reference_rows,
        scorer.predict(reference_rows).astype(np.float64),
        known.training,
        numeric=(),
        categorical=(),
        anchor=spec.data.starts,
    )
    weeks = complete(spec.data.starts, known.training[1], END)
    rows = snapshot.rows(weeks[0].start, END, spec.columns)
    rows = _as_joined(rows, scorer.predict(rows).astype(np.float64))
    rule = alarm.load_rule(spec.folder)
    seen = []
    for reading in weekly.by_week(spec.task, rows, weeks, rule.min_rows):
        inside = within(rows, reading.week)
        score = drift.compare(reference, inside, inside["prediction"])[0]
        seen.append(
            alarm.WeekSeen(
                reading.week,
                reading.over_expected.value,
                reading.log_loss.value,
                reading.expected_log_loss,
                score.psi,
                score.limit,
            )
        )
    judgements = alarm.judge(rule, seen, spec.task.words)
    return {one.week.key[:10]: one for one in judgements}


def trained(as_of: datetime, folder: Path) -> Path:
    """The champion that training makes as of that day, with the model's own settings."""
    import torch

    snapshot, spec = flights(), flights().spec
    known = windows(spec, as_of)
    fitting, stopping = (
        snapshot.labelled(*window, known_by=as_of, columns=spec.columns)
        for window in (known.fitting, known.stopping)
    )
    encoder = Encoder.fit(fitting, spec.name, spec.numeric, spec.categorical)
    learn, stop = (Examples(*encoder.encode(rows), _floats(rows)) for rows in (fitting, stopping))
    torch.manual_seed(0)
    network = spec.entry("network")(learn.numeric, encoder.cardinalities, spec.defaults)
    training.fit(network, learn, stop, TrainingSettings.of(spec.defaults), folder / "checkpoint.pt")
    artefact.export(network, encoder, folder / "model.onnx")
    return folder / "model.onnx"


def test_the_winter_champion_raises_the_alarm_in_summer_and_not_before(tmp_path: Path) -> None:
    weeks = judged(datetime(2013, 5, 1, tzinfo=UTC), tmp_path)
    harmful = [first for first, one in weeks.items() if one.state == "harmful"]
    assert harmful and "2013-06-11" <= harmful[0] <= "2013-07-16"
    assert weeks["2013-04-30"].state == "harmless", "strong drift in a week in which it was right"


def test_the_champion_of_june_drifts_in_september_and_is_left_alone(tmp_path: Path) -> None:
    weeks = judged(datetime(2013, 6, 27, tzinfo=UTC), tmp_path)
    assert "harmful" not in {one.state for one in weeks.values()}
    september = [one for first, one in weeks.items() if "2013-09-03" <= first <= "2013-09-24"]
    dismissed = [one for one in september if one.state == "harmless"]
    assert len(dismissed) >= 2 and all(one.value > 0.3 for one in dismissed)


def _as_joined(rows: pa.Table, probability: np.ndarray) -> pa.Table:
    """What sevenfold.monitoring.joined would hold of these rows, each a request of its own."""
    labels = flights().labels(rows["time"][0].as_py(), END)
    label = labels["label"].take(pc.index_in(rows["id"], value_set=labels["id"].combine_chunks()))
    n = rows.num_rows
    return pa.table(
        {
            "time": rows["time"],
            "candidate": ["champion"] * n,
            "label": label.cast(pa.float64()),
            "prediction": probability,
            "row": np.zeros(n, np.int64),
            "service_us": np.full(n, 1000),
        }
    )


def _floats(rows: pa.Table) -> np.ndarray:
    return rows["label"].to_numpy().astype(np.float32)
