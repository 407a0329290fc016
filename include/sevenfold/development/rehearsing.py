"""A small candidate of a model on the spot, for whoever writes its test suite: no promotion, no evidence."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sevenfold.candidates import artefact
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.model.spec import ModelSpec
from sevenfold.training.learning import learn


def newest(spec: ModelSpec) -> datetime:
    """Midnight UTC after the last day of the data."""
    last = spec.data.ends
    return datetime(last.year, last.month, last.day, tzinfo=UTC)


def rehearsed(spec: ModelSpec, as_of: datetime, data: Path, folder: Path) -> Path:
    """Trains with the default settings as of a moment, and returns the artefact, `folder`/model.onnx."""
    of, rows = windows(spec, as_of), snapshot(spec, data, lambda line: None)
    fitting, stopping = (
        rows.labelled(*window, of.as_of, spec.columns) for window in (of.fitting, of.stopping)
    )
    learned = learn(spec, fitting, stopping, spec.defaults, 0, folder / "checkpoint.pt")
    artefact.export(learned.network, learned.encoder, folder / "model.onnx")
    return folder / "model.onnx"
