from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from sevenfold.measures.evaluation import CalibrationBin, Interval
from sevenfold.model.tasks import BINARY
from sevenfold.reports import plots

WEEKS = [datetime(2013, 4, 1, tzinfo=UTC) + timedelta(weeks=week) for week in range(10)]
LINE = [0.50 + 0.01 * week for week in range(10)]


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.round(imread(path)[..., :3] * 255).astype(int)


def has_colour(path: Path, colour: str) -> bool:
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return bool((np.abs(pixels(path) - wanted).max(axis=-1) <= 30).any())


def test_series_draws_every_line_its_band_and_its_events(tmp_path):
    plain = plots.series(tmp_path / "a.png", WEEKS, {"champion": (LINE, None, None)}, "Log loss", "nats")
    low, high = [y - 0.02 for y in LINE], [y + 0.02 for y in LINE]
    lines = {"champion": (LINE, low, high), "challenger": ([None, *LINE[1:]], None, None)}
    full = plots.series(
        tmp_path / "b.png", WEEKS, lines, "Log loss", "nats", [(WEEKS[4], "promoted")], {"limit": 0.55}
    )
    assert has_colour(plain, plots.COLOURS[0]) and not has_colour(plain, plots.COLOURS[1])
    assert has_colour(full, plots.COLOURS[0]) and has_colour(full, plots.COLOURS[1])
    assert not np.array_equal(pixels(plain)[:300], pixels(full)[:300])


def test_series_of_numbers_and_of_nothing(tmp_path):
    assert plots.series(tmp_path / "n.png", [1.0, 2.0], {"x": ([1.0, None], None, None)}, "t", "y").exists()
    assert plots.series(tmp_path / "e.png", [], {}, "nothing yet", "y").exists()


def test_intervals_draw_a_bar_a_row(tmp_path):
    one = plots.intervals(tmp_path / "one.png", [("JFK", 0.7, 0.6, 0.8)], "TPR", "rate")
    rows = [("JFK", 0.7, 0.6, 0.8), ("LGA", 0.5, None, None), ("EWR", None, None, None)]
    three = plots.intervals(tmp_path / "three.png", rows, "TPR", "rate", limit=0.3)
    assert has_colour(one, plots.COLOURS[5]) and has_colour(three, plots.COLOURS[1])
    assert pixels(three).shape != pixels(one).shape or not np.array_equal(pixels(one), pixels(three))


def test_calibration_draws_a_curve_a_model(tmp_path):
    curve = [
        CalibrationBin(predicted, Interval(predicted + 0.1, predicted, predicted + 0.2, 0.05, 100, 9))
        for predicted in (0.1, 0.3, 0.6)
    ]
    path = plots.calibration(tmp_path / "c.png", {"now": curve}, BINARY)
    assert has_colour(path, plots.COLOURS[0])


def test_writing_is_whole_and_makes_folders(tmp_path):
    path = plots.series(tmp_path / "deep" / "er" / "a.svg", WEEKS, {"x": (LINE, None, None)}, "t", "y")
    assert path.read_text().lstrip().startswith("<?xml") and list(path.parent.iterdir()) == [path]
