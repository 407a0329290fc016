"""An idea: the small candidate that development makes of a sample, whose settings training takes over."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.candidates import artefact
from sevenfold.candidates.bundle import bundle
from sevenfold.candidates.candidate import Candidate
from sevenfold.development.rehearsal import Sample
from sevenfold.training.learning import Learned

if TYPE_CHECKING:
    from sevenfold.activity import Activity


def keep_idea(
    activity: Activity,
    sample: Sample,
    learned: Learned,
    hyperparameters: Mapping[str, Any],
    mlflow_run: str,
    parent: Candidate | None = None,
) -> Candidate:
    """Exports the small network and makes it the promotion's candidate."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        artefact.export(learned.network, learned.encoder, model)
        candidate = bundle(
            activity,
            model,
            data=sample.digest,
            window=sample.windows.training,
            hyperparameters=hyperparameters,
            parent=parent,
            mlflow_run=mlflow_run,
        )
    activity.store.set_promotion_candidate(activity.promotion.id, candidate.id)
    activity.progress(f"made candidate {candidate.id}")
    return candidate
