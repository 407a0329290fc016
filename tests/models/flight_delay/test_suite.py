"""The model's own suite lets a trained candidate pass and refuses each kind of bad one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.flights import flights

from sevenfold.candidates import artefact
from sevenfold.data.sample import sample
from sevenfold.data.windows import windows
from sevenfold.model.spec import load_spec
from sevenfold.model.suite import KINDS, Case, read, run_suite
from sevenfold.training.learning import learn

SPEC = load_spec("flight_delay")
AS_OF = datetime(2013, 5, 1, tzinfo=UTC)


def outcome(model: Path) -> list[Case]:
    return read(run_suite(SPEC.folder / "tests", model, AS_OF.isoformat(), flights().folder.parents[1]))


def trained(folder: Path, spoil: Callable[[pa.Table], pa.Table] = lambda rows: rows) -> Any:
    """A network trained on 20,000 rows of January to March, their labels spoilt or not."""
    of = windows(SPEC, AS_OF)
    fitting, stopping = (
        flights().labelled(*window, AS_OF, SPEC.columns) for window in (of.fitting, of.stopping)
    )
    return learn(
        SPEC, spoil(sample(fitting, 20_000, 0)), spoil(stopping), SPEC.defaults, 0, folder / "checkpoint.pt"
    )


def test_a_trained_candidate_passes(tmp_path: Path) -> None:
    learned = trained(tmp_path)
    artefact.export(learned.network, learned.encoder, tmp_path / "model.onnx")
    cases = outcome(tmp_path / "model.onnx")
    assert [case.name for case in cases if case.outcome == "failed"] == []
    assert len(cases) > 20
    assert {case.kind for case in cases} == set(KINDS)


def _upside_down(rows: pa.Table) -> pa.Table:
    return rows.set_column(rows.column_names.index("label"), "label", pa.array(1 - np.asarray(rows["label"])))


def _shuffled(rows: pa.Table) -> pa.Table:
    mixed = np.random.default_rng(0).permutation(np.asarray(rows["label"]))
    return rows.set_column(rows.column_names.index("label"), "label", pa.array(mixed))


@pytest.mark.parametrize(
    ("spoil", "missed"),
    [
        (_upside_down, {"minimum", "direction", "calibration"}),
        (_shuffled, {"minimum", "calibration"}),
    ],
)
def test_a_candidate_of_spoilt_labels_fails(
    tmp_path: Path, spoil: Callable[[pa.Table], pa.Table], missed: set[str]
) -> None:
    learned = trained(tmp_path, spoil)
    artefact.export(learned.network, learned.encoder, tmp_path / "model.onnx")
    failed = {case.kind for case in outcome(tmp_path / "model.onnx") if case.outcome == "failed"}
    assert missed <= failed


def test_a_candidate_that_exaggerates_or_trembles_fails(tmp_path: Path) -> None:
    """Shifted logits keep the ranking but not the meaning; sine waves see every trace of noise."""
    import torch

    learned = trained(tmp_path)
    network, temperature = learned.network, SPEC.numeric.index("wx_temp")

    class Trembling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, numeric: Any, categorical: Any) -> Any:
            wave = torch.sin(20 * torch.nan_to_num(numeric[:, temperature]))
            return self.network(numeric, categorical) + wave

    artefact.export(Trembling(), learned.encoder, tmp_path / "trembling.onnx")
    with torch.no_grad():
        network.layers[-1].bias += 2.5
    artefact.export(network, learned.encoder, tmp_path / "exaggerating.onnx")
    for name, missed in (
        ("trembling", {"measurement_noise"}),
        ("exaggerating", {"half_the_expected", "near_the_observed_rates"}),
    ):
        failed = [case.name for case in outcome(tmp_path / f"{name}.onnx") if case.outcome == "failed"]
        assert {words for words in missed if any(words in test for test in failed)} == missed
