"""The plots people look at: one style, in colours that colour-blind readers tell apart (Okabe and Ito, 2008).

Every function writes one image (PNG, or SVG by the path's suffix) in one step and returns its path. Values
that are None or NaN are left out. Nothing here needs a display or keeps state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sevenfold.measures.evaluation import CalibrationBin
from sevenfold.model.tasks import Task

Values = Sequence[float | None]
Line = tuple[Values, Values | None, Values | None]
"""Values, and the low and high ends of their intervals."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
SMALL: dict[str, Any] = {"fontsize": 8, "color": GREY}
PAPER = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
"""Behind a text, so that it can be read where a line passes."""
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "figure.dpi": 110,
}


def series(
    path: Path | str,
    x: Sequence[datetime] | Sequence[float],
    lines: Mapping[str, Line],
    title: str,
    ylabel: str,
    events: Sequence[tuple[datetime | float, str]] = (),
    limits: Mapping[str, float] | None = None,
    *,
    xlabel: str = "",
    log: bool = False,
) -> Path:
    """Lines over time. `lines` maps a label to (y, low, high), each as long as `x`; low and high may be None.

    `events` are vertical lines with a text (a promotion, an alarm), `limits` horizontal dashed ones. `xlabel`
    says what `x` is if not time; with `log` the values' axis is logarithmic.
    """
    with _axes(path) as axes:
        for index, (label, (y, low, high)) in enumerate(lines.items()):
            colour = COLOURS[index % len(COLOURS)]
            if low is not None and high is not None:
                axes.fill_between(x, _floats(low), _floats(high), color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, _floats(y), color=colour, marker=MARKERS[index % len(MARKERS)], label=label)
        for label, limit in (limits or {}).items():
            axes.axhline(limit, color=GREY, linestyle="--", linewidth=1)
            how = ("axes fraction", "data")
            axes.annotate(label, (1, limit), xycoords=how, ha="right", va="bottom", bbox=PAPER, **SMALL)
        for number, (where, text) in enumerate(events):
            axes.axvline(where, color=GREY, linestyle=":", linewidth=1.2)
            place = (
                where,
                0.99 - 0.07 * (number % 4),
            )  # heights differ, so that neighbours' texts stay apart
            axes.annotate(text, place, (3, 0), ("data", "axes fraction"), "offset points", va="top", **SMALL)
        axes.set(title=title, ylabel=ylabel, xlabel=xlabel)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if lines:
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2 if xlabel else -0.12), ncols=3)
        if len(x) and isinstance(x[0], datetime):
            _dates(axes)
    return Path(path)


def intervals(
    path: Path | str,
    rows: Sequence[tuple[str, float | None, float | None, float | None]],
    title: str,
    xlabel: str,
    limit: float | None = None,
) -> Path:
    """One bar a row: (label, value, low, high), first row on top; low and high None draw no interval."""
    with _axes(path, height=max(2.2, 0.9 + 0.32 * len(rows))) as axes:
        places = np.arange(len(rows))[::-1]
        values = _floats([value for _, value, _, _ in rows])
        below = np.nan_to_num(values - _floats([low for _, _, low, _ in rows]))
        above = np.nan_to_num(_floats([high for _, _, _, high in rows]) - values)
        axes.barh(places, np.nan_to_num(values), color=COLOURS[5], height=0.62)
        whiskers = np.clip([below, above], 0, None)
        axes.errorbar(values, places, xerr=whiskers, fmt="o", color=COLOURS[6], capsize=3, linewidth=1.2)
        if limit is not None:
            axes.axvline(limit, color=COLOURS[1], linestyle="--", linewidth=1.2)
        axes.set_yticks(places, [label for label, *_ in rows])
        axes.set_ylim(-0.6, max(1, len(rows)) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.set(title=title, xlabel=xlabel)
    return Path(path)


def bundle(
    path: Path | str,
    lines: Sequence[tuple[Sequence[float], Sequence[float], str]],
    title: str,
    xlabel: str,
    ylabel: str,
) -> Path:
    """Many lines (x, y, kind) of few kinds: one colour and one entry of the legend for each kind."""
    with _axes(path) as axes:
        kinds = list(dict.fromkeys(kind for _, _, kind in lines))
        for x, y, kind in lines:
            number = kinds.index(kind)
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axes.plot(x, y, alpha=0.7, linewidth=1.2, **style)
        for number, kind in enumerate(kinds):
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axes.plot([], [], label=kind, **style)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if kinds:
            axes.legend(loc="upper right")
    return Path(path)


def calibration(
    path: Path | str,
    curves: Mapping[str, Sequence[CalibrationBin]],
    task: Task,
    title: str = "Calibration",
) -> Path:
    """What was observed over what was predicted, a curve a label, on the diagonal where both are the same."""
    values = [value for curve in curves.values() for bin in curve for value in _ends(bin)]
    low = min(values, default=0.0) if task.output.low is None else task.output.low
    high = max(values, default=1.0) if task.output.high is None else task.output.high
    with _axes(path, width=5.4, height=5.0) as axes:
        axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, label="as predicted")
        for index, (label, curve) in enumerate(curves.items()):
            colour, predicted = COLOURS[index % len(COLOURS)], _floats([bin.predicted for bin in curve])
            below, above = (_floats([getattr(bin.observed, end) for bin in curve]) for end in ("low", "high"))
            axes.fill_between(predicted, below, above, color=colour, alpha=0.18, linewidth=0)
            observed = _floats([bin.observed.value for bin in curve])
            axes.plot(predicted, observed, color=colour, marker=MARKERS[index % len(MARKERS)], label=label)
        words = task.words
        axes.set(
            title=title, xlabel=words.predicted, ylabel=words.observed, xlim=(low, high), ylim=(low, high)
        )
        axes.legend(loc="upper left")
    return Path(path)


def _ends(bin: CalibrationBin) -> Iterator[float]:
    return (value for value in (bin.predicted, bin.observed.value) if np.isfinite(value))


def panels(
    path: Path | str,
    of: Sequence[tuple[str, Sequence[float] | Sequence[str], Sequence[float]]],
    title: str,
    kind: Literal["bars", "line"],
    columns: int = 4,
) -> Path:
    """Small plots side by side, each (title, x, y); over numbers as bars or a line, over names as bars."""
    rows = max(1, -(-len(of) // columns))
    with _figure(path, 10.0, 0.5 + 1.7 * rows) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(of) :]:
            axes.set_axis_off()
        for axes, (name, x, y) in zip(grid, of, strict=False):
            named = len(x) > 0 and isinstance(x[0], str)
            if kind == "line" and not named:
                axes.plot(x, y, color=COLOURS[0], marker="o", markersize=3, linewidth=1.2)
            else:
                width = 0.9 * (float(x[1]) - float(x[0])) if len(x) > 1 and not named else 0.8
                axes.bar(x, y, width=width, color=COLOURS[5])
            axes.set_title(name, fontsize=8)
            axes.tick_params(labelsize=6)
            if named:
                axes.tick_params(axis="x", labelrotation=90)
    return Path(path)


def heatmap(path: Path | str, names: Sequence[str], values: Any, title: str) -> Path:
    """A square of numbers between -1 and 1, such as correlations: `values` [n, n] for n `names`."""
    size = 3.2 + 0.21 * len(names)
    with _axes(path, width=size + 1.2, height=size) as axes:
        shown = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.grid(visible=False)
        axes.figure.colorbar(shown, ax=axes, shrink=0.7)
        axes.set_title(title)
    return Path(path)


@contextmanager
def _axes(path: Path | str, width: float = 9.0, height: float = 4.2) -> Iterator[Any]:
    with _figure(path, width, height) as figure:
        yield figure.add_subplot()


@contextmanager
def _figure(path: Path | str, width: float, height: float) -> Iterator[Any]:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(half, format=path.suffix.lstrip(".") or "png")
    half.replace(path)  # a reader never sees half an image


def _dates(axes: Any) -> None:
    from matplotlib import dates

    locator: Any = dates.AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _floats(values: Values) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
