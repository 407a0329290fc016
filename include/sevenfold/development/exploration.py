"""What the rows of a model look like before anything is learned from them: facts and pictures.

Development's activity `explore` and the notebook show the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.data.sample import sample
from sevenfold.development.leakage import associations, ranks
from sevenfold.development.rehearsal import Sample
from sevenfold.measures import evaluation
from sevenfold.model.spec import ModelSpec
from sevenfold.reports import plots

if TYPE_CHECKING:
    import pyarrow as pa

TELLS_ALL = 0.95
"""Association with the label above which a feature was most likely filled in afterwards: the best feature of
an honest problem tells far less (flights: 0.3)."""
MOST_PANELS = 16
FEWEST_DAYS = 4
"""Days of a week below which it is not drawn."""
BINS = 10
MOST_CATEGORIES = 8


@dataclass(frozen=True)
class Feature:
    """One feature in the sample."""

    name: str
    kind: str
    """number or text."""
    known_at: str
    """The column of the rows that says from when on it is known."""
    missing: float
    """Share of the rows."""
    distinct: int
    """Different values, gaps not counted."""
    typical: str
    association: float
    """What it alone says about the label, between 0 and 1 (see sevenfold.development.leakage)."""


@dataclass(frozen=True)
class Exploration:
    """The rows that an idea may learn from, and a sample of them looked at closely."""

    spec: ModelSpec
    outcomes: pa.Table
    """Label and day of all labelled rows of the training window, in the order of time."""
    rows: int
    """All rows of the training window, with a label or without."""
    sample: pa.Table
    """Features, groups and label."""
    features: tuple[Feature, ...]
    """Strongest association first."""

    @property
    def unlabelled(self) -> float:
        """Share of the rows whose label is not known, or never will be."""
        return 1.0 - int(self.outcomes.num_rows) / max(self.rows, 1)

    @property
    def missing(self) -> float:
        """Share of all features' values that is missing."""
        return float(np.mean([feature.missing for feature in self.features]))

    @property
    def constant(self) -> list[str]:
        """Features that never vary in the sample."""
        return [feature.name for feature in self.features if feature.distinct < 2]

    @property
    def suspicious(self) -> list[str]:
        """Features that alone tell nearly all of the label."""
        return [feature.name for feature in self.features if feature.association > TELLS_ALL]

    @cached_property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """The sample's columns as arrays: numbers with NaN for a gap, texts with None."""
        return {name: _array(self.sample[name]) for name in self.sample.column_names}

    @cached_property
    def outcome(self) -> tuple[str, NDArray[np.float64]]:
        """What features are drawn against: its name, and its values [n] in the sample.

        It is the label, or of classes whether it is the most frequent one: the mean of places means nothing.
        """
        outcomes = self._outcomes(np.asarray(self.sample["label"], np.float64))
        return max(outcomes.items(), key=lambda item: float(item[1].mean()))

    @property
    def outcome_mean(self) -> str:
        """What its mean is called."""
        return f"share of '{self.outcome[0]}'" if self.spec.classes else "mean outcome"

    def group_sizes(self) -> list[tuple[str, int]]:
        """Rows of the sample in every group, such as ("origin=JFK", 4711), largest first."""
        found = []
        for column in self.spec.groups:
            names, sizes = np.unique(self.columns[column].astype(str), return_counts=True)
            found += [
                (f"{column}={name}", int(size))
                for size, name in sorted(zip(sizes, names, strict=True), reverse=True)
            ]
        return found

    def pictures(self, folder: Path) -> list[tuple[Path, str]]:
        """Every picture with the sentence that says what it shows."""
        shown = min(MOST_PANELS, len(self.features))
        strongest = f"the {shown} features that say most" if shown < len(self.features) else "every feature"
        made = [
            (self._over_time(folder), "The outcome week by week, with 95 % intervals by day"),
            (self._associations(folder), "What each feature alone says about the outcome, 0 to 1"),
            (self._distributions(folder), f"How the values of {strongest} are distributed"),
            (self._against_outcome(folder), f"The {self.outcome_mean} over the values of {strongest}"),
            (self._correlations(folder), "Which numbers go together (rank correlation)"),
        ]
        if self.missing > 0:
            made.append((self._gaps(folder), "How much is missing of each feature that has gaps"))
        if self.spec.groups:
            made.append((self._groups(folder), "Rows of each group in the sample"))
        return made

    def _over_time(self, folder: Path) -> Path:
        label, days = np.asarray(self.outcomes["label"], np.float64), np.asarray(self.outcomes["day"])
        first = days.min()
        week = ((days - first).astype("timedelta64[D]").astype(int)) // 7
        weeks = np.array([n for n in np.unique(week) if len(np.unique(days[week == n])) >= FEWEST_DAYS])
        start = datetime.combine(first.astype(object), time(), UTC)
        moments = [start + timedelta(weeks=int(number)) for number in weeks]
        lines: dict[str, plots.Line] = {}
        for name, values in self._outcomes(label).items():
            found = [evaluation.mean(values[week == number], days[week == number]) for number in weeks]
            lines[name] = (
                [one.value for one in found],
                [one.low for one in found],
                [one.high for one in found],
            )
        title = f"{self.spec.title}: outcome by week"
        return plots.series(folder / "over_time.png", moments, lines, title, self._unit)

    def _associations(self, folder: Path) -> Path:
        bars = [(one.name, one.association, None, None) for one in self.features]
        return plots.intervals(
            folder / "associations.png", bars, "What each feature alone says", "association with the outcome"
        )

    def _distributions(self, folder: Path) -> Path:
        drawn = [(one.name, *self._counts(one)) for one in self.features[:MOST_PANELS]]
        return plots.panels(folder / "distributions.png", drawn, "Share of the rows", "bars")

    def _against_outcome(self, folder: Path) -> Path:
        _, values = self.outcome
        drawn = [(one.name, *self._means(one, values)) for one in self.features[:MOST_PANELS]]
        title = f"{self.outcome_mean[0].upper()}{self.outcome_mean[1:]}, {self._unit}"
        return plots.panels(folder / "against_outcome.png", drawn, title, "line")

    def _correlations(self, folder: Path) -> Path:
        name, outcome = self.outcome
        columns = [self.columns[name].astype(np.float64) for name in self.spec.numeric]
        names, ranked = [*self.spec.numeric, name], np.stack([_ranked(one) for one in (*columns, outcome)])
        with np.errstate(invalid="ignore"):
            values = np.nan_to_num(np.corrcoef(ranked))
        return plots.heatmap(folder / "correlations.png", names, values, "Rank correlation of the numbers")

    def _gaps(self, folder: Path) -> Path:
        gaps = sorted((one for one in self.features if one.missing), key=lambda one: -one.missing)
        bars = [(one.name, one.missing, None, None) for one in gaps]
        return plots.intervals(folder / "missing.png", bars, "Missing values", "share of the rows")

    def _groups(self, folder: Path) -> Path:
        bars = [(name, float(size), None, None) for name, size in self.group_sizes()]
        return plots.intervals(folder / "groups.png", bars, "Size of the groups", "rows of the sample")

    @property
    def _unit(self) -> str:
        return self.spec.unit or "share"

    def _outcomes(self, label: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """What is drawn over time: one share for each class, or the label itself."""
        classes = self.spec.task.output.columns if self.spec.classes else ()
        if classes:
            return {name: (label == place).astype(np.float64) for place, name in enumerate(classes)}
        return {self.spec.positive or self.spec.target: label}

    def _counts(self, feature: Feature) -> tuple[list[Any], list[float]]:
        values = self.columns[feature.name]
        if feature.kind == "text":
            names, sizes = np.unique(values.astype(str), return_counts=True)
            largest = np.argsort(-sizes)[:MOST_CATEGORIES]
            return [str(names[i]) for i in largest], [float(sizes[i]) / len(values) for i in largest]
        known = values[np.isfinite(values)]
        if not len(known):
            return [], []
        low, high = np.quantile(known, (0.005, 0.995))
        counts, edges = np.histogram(np.clip(known, low, high), bins=20)
        return list((edges[:-1] + edges[1:]) / 2), list(counts / len(values))

    def _means(self, feature: Feature, label: NDArray[np.float64]) -> tuple[list[Any], list[float]]:
        values = self.columns[feature.name]
        if feature.kind == "text":
            names = sorted(self._counts(feature)[0])
            return names, [float(label[values.astype(str) == name].mean()) for name in names]
        known = np.isfinite(values)
        if not known.any():
            return [], []
        values, label = values[known], label[known]
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
        bin_of = np.searchsorted(edges, values, "left")  # equal values share a bin
        bins = [bin_of == number for number in np.unique(bin_of)]
        return [float(values[rows].mean()) for rows in bins], [float(label[rows].mean()) for rows in bins]


def explore(of: Sample) -> Exploration:
    """Looks at the rows that development may learn from, all inside the window that training will have."""
    spec, window = of.spec, of.windows.training
    wanted = tuple(dict.fromkeys((*spec.columns, *spec.groups)))
    all_rows = of.snapshot.rows(*window, []).num_rows
    labelled = of.labelled(window, wanted)
    drawn = sample(labelled, of.fitting.num_rows, of.seed)
    features = _features(spec, drawn)
    return Exploration(
        spec, labelled.select(["label", "day"]), all_rows, drawn.select([*wanted, "label"]), features
    )


def _features(spec: ModelSpec, rows: pa.Table) -> tuple[Feature, ...]:
    columns = {name: _array(rows[name]) for name in spec.columns}
    strength = {one.column: one.strength for one in associations(columns, np.asarray(rows["label"]))}
    known_at = {name: moment for moment, names in spec.features.known_at.items() for name in names}
    found = []
    for name, values in columns.items():
        text = name in spec.categorical
        gap = np.array([value is None for value in values]) if text else ~np.isfinite(values)
        known = values[~gap]
        found.append(
            Feature(
                name=name,
                kind="text" if text else "number",
                known_at=known_at.get(name, ""),
                missing=float(gap.mean()) if len(values) else 0.0,
                distinct=len(np.unique(known.astype(str) if text else known)),
                typical=_typical(known, text),
                association=strength[name],
            )
        )
    return tuple(sorted(found, key=lambda one: -one.association))


def _typical(known: NDArray[Any], text: bool) -> str:
    """The most frequent text, or the middle of the numbers with the range of nine tenths of them."""
    if not len(known):
        return "nothing"
    if text:
        names, sizes = np.unique(known.astype(str), return_counts=True)
        return f"{names[sizes.argmax()]} ({sizes.max() / len(known):.0%})"
    low, middle, high = np.quantile(known, (0.05, 0.5, 0.95))
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"


def _array(column: Any) -> NDArray[Any]:
    """Numbers as float64 with NaN for a gap, texts as objects with None."""
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return np.asarray(column.cast(pa.float64()), np.float64)


def _ranked(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks; a gap gets the middle one, so that it says nothing."""
    known = np.isfinite(values)
    found = np.full(len(values), (known.sum() + 1) / 2)
    found[known] = ranks(values[known])
    return found
