"""What every test of a candidate has in hand: its artefact, and labelled rows that it has not learned from.

pytest include/models/flight_delay/tests --candidate-file model.onnx --as-of 2013-05-01 --data .sevenfold/data
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.model.spec import load_spec

MODELS = Path(__file__).resolve().parents[2]

Probabilities = NDArray[np.floating[Any]]
Changed = Callable[..., Probabilities]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The candidate, and the moment that decides which rows it is tested on."""
    parser.addoption("--candidate-file", required=True, type=Path, help="the candidate's ONNX file")
    parser.addoption("--as-of", required=True, help="the promotion's as_of, ISO 8601")
    parser.addoption("--data", required=True, type=Path, help="folder of the snapshots")


@dataclass(frozen=True)
class Test:
    """Labelled rows by column, what they came to, the day of each, and the candidate's probabilities."""

    __test__ = False

    columns: dict[str, NDArray[Any]]
    label: NDArray[np.float64]
    days: NDArray[Any]
    probability: Probabilities

    def __len__(self) -> int:
        return len(self.label)


@pytest.fixture(scope="session")
def scorer(request: pytest.FixtureRequest) -> Scorer:
    """The candidate."""
    return Scorer(request.config.getoption("--candidate-file"))


@pytest.fixture(scope="session")
def test(request: pytest.FixtureRequest, scorer: Scorer) -> Test:
    """The test window."""
    spec = load_spec("flight_delay", MODELS)
    as_of = datetime.fromisoformat(request.config.getoption("--as-of"))
    as_of = as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)
    columns = (*spec.columns, *spec.groups)
    rows = snapshot(spec, request.config.getoption("--data")).labelled(
        *windows(spec, as_of).test, as_of, columns
    )
    by_name = {name: np.asarray(rows[name]) for name in columns}
    label = np.asarray(rows["label"], np.float64)
    return Test(by_name, label, np.asarray(rows["day"]), scorer.predict(by_name))


@pytest.fixture(scope="session")
def changed(scorer: Scorer, test: Test) -> Changed:
    """Probabilities of the test window's rows with some columns replaced, each by values or by one value."""

    def score(**replaced: Any) -> Probabilities:
        columns = {name: np.broadcast_to(values, len(test)) for name, values in replaced.items()}
        return scorer.predict(test.columns | columns)

    return score
