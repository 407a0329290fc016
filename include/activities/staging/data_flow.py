"""Follows a day of rows hop by hop: what is sent, logged, labelled and monitored is what is trained on.

Every hop is counted and hashed, and must have the rows and bytes of the snapshot. Between training and
serving nothing may differ at all: neither a feature as the model gets it, nor an answer.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.predictions import values
from sevenfold.data.snapshot import snapshot
from sevenfold.demo.player.batches import moments
from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring import alarm
from sevenfold.reports import page
from sevenfold.serving.protocol import Signature, parse_request
from sevenfold.serving.pseudonyms import Pseudonyms, pseudonyms
from sevenfold.trials.asking import MINUTE, ask, bring_labels
from sevenfold.trials.trace import Trace, newest_day
from sevenfold.trials.trial import on_trial

SLOT = "staging"


@dataclass(frozen=True)
class Hop:
    """One place that the data come through: rows and their hash, labels and theirs; None where none are."""

    name: str
    rows: int | None
    features: str | None
    labels: int | None
    outcomes: str | None

    def broken(self, source: Hop) -> list[str]:
        """What is not as in the source, of what there is here."""
        pairs = {
            "rows": (self.rows, source.rows),
            "features": (self.features, source.features),
            "labels": (self.labels, source.labels),
            "outcomes": (self.outcomes, source.outcomes),
        }
        return [what for what, (here, there) in pairs.items() if here is not None and here != there]


def main(activity: Activity) -> None:
    """Counts hops that changed something, feature values that differ from training's, and answers that do."""
    spec, window = activity.spec, newest_day(activity.promotion.as_of)
    data, maturity = snapshot(spec, activity.settings.data), alarm.load_rule(spec.folder).maturity
    rows, labels = data.rows(*window, columns=spec.columns), data.labels(*window)
    with tempfile.TemporaryDirectory() as folder:
        trace = Trace.begin(Path(folder), activity.settings.logs, spec.name, activity.candidate.id, SLOT)
        with on_trial(activity, SLOT, keep=True) as target:
            activity.progress(f"{window[0]:%-d %B %Y}: {ask(target, spec, rows)}")
            bring_labels(target, labels)
        trace.collect()
        logged, returned = trace.logged(window), trace.labels()
        newest = pc.max(labels["known_at"]).as_py() or window[1]
        table = trace.joined(max(newest, window[1] + maturity), maturity)
    hidden = pseudonyms(spec, activity.settings.secrets)
    hops = [
        hop("snapshot", spec, as_logged(rows, hidden), labels),
        hop("requests", spec, as_logged(requested(spec, rows), hidden), None),
        hop("prediction log", spec, logged, None),
        hop("feedback log", spec, None, returned),
        hop("monitoring's table", spec, table, table.filter(pc.is_valid(table["label"]))),
    ]
    measure(activity, hops, rows, logged, hidden)
    activity.report("flow.html", flow_page(activity, hops), "Data flow, hop by hop")


def measure(
    activity: Activity, hops: Sequence[Hop], rows: pa.Table, logged: pa.Table, hidden: Pseudonyms | None
) -> None:
    """Leaves the readings."""
    broken = {one.name: found for one in hops[1:] if (found := one.broken(hops[0]))}
    for name, found in broken.items():
        activity.progress(f"{name}: {', '.join(found)} are not those of the snapshot")
    activity.measure("broken_hops", len(broken), unit="hops", n=len(hops) - 1)
    scorer = Scorer(activity.model_file(activity.candidate))
    cells, different = feature_skew(scorer, rows, logged, hidden)
    activity.measure("feature_skew", different, unit="values", n=cells)
    wrong = answer_skew(scorer, rows, logged)
    activity.measure("answer_skew", wrong, unit="rows", n=logged.num_rows)
    activity.progress(f"{different:,} of {cells:,} feature values and {wrong:,} answers differ from offline")


def hop(name: str, spec: ModelSpec, rows: pa.Table | None, labels: pa.Table | None) -> Hop:
    """Counts and hashes what is at one place."""
    return Hop(
        name,
        rows.num_rows if rows is not None else None,
        hash_of_features(spec, rows) if rows is not None else None,
        labels.num_rows if labels is not None else None,
        hash_of_labels(labels) if labels is not None else None,
    )


def as_logged(rows: pa.Table, hidden: Pseudonyms | None) -> pa.Table:
    """Rows as a log keeps them: with hashes of personal features, or without them."""
    return hidden.table(rows, hidden.hashed).drop_columns(list(hidden.left_out)) if hidden else rows


def hash_of_features(spec: ModelSpec, rows: pa.Table) -> str:
    """SHA-256 (hex) of ids and features, in the order of the ids; numbers as the model gets them.

    `rows` are as a log keeps them.
    """
    rows, personal = rows.sort_by("id"), spec.privacy.personal
    made = hashlib.sha256(orjson.dumps(rows["id"].to_pylist()))
    for name in spec.numeric:
        if name in personal:
            continue
        numbers = np.asarray(rows[name].to_numpy(), np.float32).copy()
        numbers[np.isnan(numbers)] = np.nan  # there are many, and here they are one
        made.update(numbers.tobytes())
    for name in (*(one for one in spec.categorical if one not in personal), *personal):
        if name not in spec.privacy.left_out:
            made.update(orjson.dumps(rows[name].to_pylist()))
    return made.hexdigest()


def hash_of_labels(labels: pa.Table) -> str:
    """SHA-256 (hex) of ids and labels, in the order of the ids."""
    labels = labels.sort_by("id")
    known = [float(label) for label in labels["label"].to_pylist()]
    return hashlib.sha256(orjson.dumps([labels["id"].to_pylist(), known])).hexdigest()


def requested(spec: ModelSpec, rows: pa.Table) -> pa.Table:
    """The rows as a server finds them in the requests that were made of them."""
    signature = Signature(spec.numeric, spec.categorical, spec.task.output)
    asked = [
        parse_request(batch.body, signature)
        for batch in chain.from_iterable(moments(rows, spec.numeric, spec.categorical, MINUTE))
    ]
    columns: dict[str, Any] = {
        "id": pa.array(chain.from_iterable(one.ids or [] for one in asked), pa.string())
    }
    for place, name in enumerate(spec.numeric):
        columns[name] = np.concatenate([one.numeric[:, place] for one in asked])
    for place, name in enumerate(spec.categorical):
        texts = chain.from_iterable(one.categorical[place] for one in asked)
        columns[name] = pa.array(texts, pa.string())
    return pa.table(columns)


def feature_skew(
    scorer: Scorer, rows: pa.Table, logged: pa.Table, hidden: Pseudonyms | None = None
) -> tuple[int, int]:
    """Values that the model got, and how many of them are not what training makes of the same rows.

    A row that was not logged, or that nobody asked, differs in all its values. Of personal features the
    hashes are compared; those of which a log keeps nothing are not counted.
    """
    here, there = _same_rows(rows, logged)
    ours, theirs = rows.take(here), logged.take(there)
    width = len(scorer.encoder.numeric) + len(scorer.encoder.categorical)
    different = 0
    if hidden:
        hashed = hidden.table(ours, hidden.hashed)
        for name in hidden.hashed:
            pairs = zip(hashed[name].to_pylist(), theirs[name].to_pylist(), strict=True)
            different += sum(one != other for one, other in pairs)
        theirs = theirs.drop_columns(list(hidden.hashed))
        for name in (*hidden.hashed, *hidden.left_out):  # the encoder wants them
            theirs = theirs.append_column(name, ours[name])
        width -= len(hidden.left_out)
    trained, served = (scorer.encoder.encode(table) for table in (ours, theirs))
    different += sum(int((~_equal(a, b)).sum()) for a, b in zip(trained, served, strict=True))
    strangers = rows.num_rows + logged.num_rows - 2 * len(here)
    return (len(here) + strangers) * width, different + strangers * width


def answer_skew(scorer: Scorer, rows: pa.Table, logged: pa.Table) -> int:
    """Answers that are not exactly what the artefact gives to the same rows offline.

    Rows are scored together as they were asked together: the last bit of a sum depends on it.
    """
    here, there = _same_rows(rows, logged)
    rows, logged = rows.take(here), logged.take(there)
    numeric, categorical = scorer.encoder.encode(rows)
    served = values(logged["prediction"]).astype(np.float32)
    request = logged["request"].combine_chunks().dictionary_encode().indices.to_numpy()
    wrong = 0
    for number in range(int(request.max(initial=-1)) + 1):
        together = np.flatnonzero(request == number)
        expected = scorer.run(numeric[together], categorical[together])
        equal = _equal(expected, served[together]).reshape(len(together), -1).all(axis=1)
        wrong += int((~equal).sum())
    return wrong


def flow_page(activity: Activity, hops: Sequence[Hop]) -> str:
    """The hops as a table."""
    shown = [
        [
            one.name,
            one.rows,
            one.features and one.features[:16],
            one.labels,
            one.outcomes and one.outcomes[:16],
            ", ".join(one.broken(hops[0])) or "the same",
        ]
        for one in hops
    ]
    columns = ["hop", "rows", "hash of features", "labels", "hash of labels", "against the snapshot"]
    return page.page(
        f"{activity.spec.title}: data flow",
        page.text(
            "The same rows at every place that they come through: how many, and the SHA-256 of their "
            "features and labels in the order of their ids."
        ),
        page.table(columns, shown),
    )


def _same_rows(rows: pa.Table, logged: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Places of the rows that both tables have, in the order of the second."""
    place = pc.index_in(logged["id"], value_set=rows["id"].combine_chunks())
    place = place.combine_chunks() if isinstance(place, pa.ChunkedArray) else place
    found = pc.is_valid(place)
    return place.filter(found), pa.array(range(logged.num_rows), pa.int64()).filter(found)


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where both hold the same, missing values included."""
    same = a == b
    return same | (np.isnan(a) & np.isnan(b)) if a.dtype.kind == "f" else same


if __name__ == "__main__":
    run(main)
