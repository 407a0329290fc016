"""Makes a candidate of everything that it takes to make it again: file, code, data, environment and gates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.candidates import lineage
from sevenfold.candidates.candidate import Candidate, hash_of_gates

if TYPE_CHECKING:
    from sevenfold.activity import Activity
    from sevenfold.data.windows import Window


def bundle(
    activity: Activity,
    model: Path,
    *,
    data: str,
    window: Window,
    hyperparameters: Mapping[str, Any],
    parent: Candidate | None,
    mlflow_run: str,
) -> Candidate:
    """Keeps the model file and the candidate; whether the promotion carries it, the caller decides.

    Args:
        model: the ONNX file.
        data: hash of the data it learned from.
        window: the days of those data.
        parent: the candidate whose settings it took over, if there is one.
    """
    promotion, code = activity.promotion, lineage.code()
    gates = lineage.gates(activity.settings.models, promotion.model)
    hashes = {environment: gate.hash for environment, gate in gates.items()}
    return activity.store.add_candidate(
        Candidate(
            model=promotion.model,
            model_digest=activity.artifacts.put(model),
            data_snapshot=data,
            code_commit=code.commit,
            image_digests=lineage.environment_digest(),
            policy_hash=hash_of_gates(hashes),
            gates=hashes,
            parent=parent.id if parent else None,
            as_of=promotion.as_of,
            reason=promotion.reason,
            hyperparameters=dict(hyperparameters),
            train_window=window,
            code_dirty=bool(code.changed),
            mlflow_run=mlflow_run,
        ),
        gates.values(),
    )
