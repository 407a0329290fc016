"""An idea: the small candidate that development makes of a sample, whose settings training takes over."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold import artefact, lineage
from sevenfold.candidate import Candidate, hash_of_gates
from sevenfold.learning import Learned
from sevenfold.rehearsal import Sample

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
    """Exports the small network and makes it the promotion's candidate: code, data, environment and gates."""
    promotion, code = activity.promotion, lineage.code()
    gates = lineage.gates(activity.settings.models, promotion.model)
    hashes = {environment: gate.hash for environment, gate in gates.items()}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        artefact.export(learned.network, learned.encoder, model)
        digest = activity.artifacts.put(model)
    candidate = activity.store.add_candidate(
        Candidate(
            model=promotion.model,
            model_digest=digest,
            data_snapshot=sample.digest,
            code_commit=code.commit,
            image_digests=lineage.environment_digest(),
            policy_hash=hash_of_gates(hashes),
            gates=hashes,
            parent=parent.id if parent else None,
            as_of=promotion.as_of,
            reason=promotion.reason,
            hyperparameters=dict(hyperparameters),
            train_window=sample.windows.training,
            code_dirty=bool(code.changed),
            mlflow_run=mlflow_run,
        ),
        gates.values(),
    )
    activity.store.set_promotion_candidate(promotion.id, candidate.id)
    activity.progress(f"made candidate {candidate.id}")
    return candidate
