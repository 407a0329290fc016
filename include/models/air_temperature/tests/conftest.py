"""What every test of a candidate has in hand: its artefact, and labelled rows that it has not learned from.

Run `pytest include/models/air_temperature/tests` and a small candidate is trained and tested. The activity
validate_model names the candidate instead: --candidate-file model.onnx --as-of 2024-05-01 --data <snapshots>.
"""

from __future__ import annotations

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
from sevenfold.development.rehearsing import newest, rehearsed
from sevenfold.model.spec import ModelSpec, load_spec

HERE = Path(__file__).resolve()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The candidate, and the moment that decides which rows it is tested on."""
    parser.addoption("--candidate-file", type=Path, help="the candidate's ONNX file")
    parser.addoption("--as-of", help="the promotion's as_of, ISO 8601")
    parser.addoption("--data", type=Path, help="folder of the snapshots")


@dataclass(frozen=True)
class Test:
    """Labelled rows by column, what they came to, the day of each, and the candidate's predictions."""

    __test__ = False

    columns: dict[str, NDArray[Any]]
    label: NDArray[np.float64]
    days: NDArray[Any]
    prediction: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    """The model's spec."""
    return load_spec(HERE.parents[1].name, HERE.parents[2])


@pytest.fixture(scope="session")
def as_of(request: pytest.FixtureRequest, spec: ModelSpec) -> datetime:
    """The moment that decides which rows are tested on; the end of the data if nobody says."""
    said = request.config.getoption("--as-of")
    moment = datetime.fromisoformat(said) if said else newest(spec)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@pytest.fixture(scope="session")
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the snapshots."""
    said: Path | None = request.config.getoption("--data")
    return said or tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def scorer(
    request: pytest.FixtureRequest,
    spec: ModelSpec,
    as_of: datetime,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Scorer:
    """The candidate."""
    given: Path | None = request.config.getoption("--candidate-file")
    return Scorer(given or rehearsed(spec, as_of, data, tmp_path_factory.mktemp("candidate")))


@pytest.fixture(scope="session")
def test(spec: ModelSpec, as_of: datetime, data: Path, scorer: Scorer) -> Test:
    """The test window."""
    columns = (*spec.columns, *spec.groups)
    rows = snapshot(spec, data).labelled(*windows(spec, as_of).test, as_of, columns)
    by_name = {name: np.asarray(rows[name]) for name in columns}
    label = np.asarray(rows["label"], np.float64)
    return Test(by_name, label, np.asarray(rows["day"]), scorer.predict(by_name))
