"""train: the candidate, from all rows of the training window. A killed run continues where it was."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sevenfold import artefact, lineage, plots, quality, search, tracking, training
from sevenfold.activity import Activity, run
from sevenfold.beforehand import claim
from sevenfold.candidate import Candidate, hash_of_gates
from sevenfold.errors import SevenfoldError
from sevenfold.evaluation import Interval
from sevenfold.learning import Learned, learn
from sevenfold.quality import Rows
from sevenfold.snapshot import snapshot
from sevenfold.training import Epoch, Examples
from sevenfold.windows import Windows, windows


def main(activity: Activity) -> None:
    """Trains, exports, registers the version in MLflow, and makes the promotion's candidate."""
    spec, promotion = activity.spec, activity.promotion
    seed = int(promotion.params.get("seed", 0))
    parent = idea(activity)
    hyperparameters = search.found(activity) or chosen(activity, parent)
    of = windows(spec, promotion.as_of, _months(activity))
    with activity.phase("reading the rows"):
        data = snapshot(spec, activity.settings.data, activity.progress)
        fitting, stopping, test = (
            data.labelled(*window, of.as_of, spec.columns) for window in (of.fitting, of.stopping, of.test)
        )
    data_digest = data.digest(*of.training, of.as_of)
    activity.progress(
        f"{fitting.num_rows:,} rows of {of.fitting[0]:%Y-%m-%d} to {of.fitting[1]:%Y-%m-%d}, and "
        f"{stopping.num_rows:,} that say when to stop; settings {hyperparameters}"
    )
    checkpoint = checkpoint_of(activity)
    with tracking.tracked(
        activity.settings.mlflow_url, f"{spec.name}.training", promotion.run, promotion.id, promotion.reason
    ) as tracked:
        tracked.params(hyperparameters | {"seed": seed, "rows": fitting.num_rows})
        tracked.data(
            spec.name, spec.data.source, data_digest, of.training, fitting.num_rows + stopping.num_rows
        )

        def on_epoch(epoch: Epoch) -> None:
            activity.progress(
                f"epoch {epoch.number} of {hyperparameters['epochs']}: log loss {epoch.training_loss:.4f}, "
                f"on the stopping days {epoch.stopping_loss:.4f}, {epoch.rows_per_second:,.0f} rows a second"
            )
            tracked.metrics({k: v for k, v in asdict(epoch).items() if k != "number"}, epoch.number)

        with activity.phase("training"):
            learned = learn(spec, fitting, stopping, hyperparameters, seed, checkpoint, on_epoch)
        resumed = learned.fitted.resumed_at
        activity.progress(
            f"kept epoch {learned.fitted.best.number}"
            + (f"; took over at step {resumed} from a run that was killed" if resumed else "")
        )
        verified = training.verified(checkpoint, learned.trained)
        with tempfile.TemporaryDirectory() as folder, activity.phase("exporting and registering"):
            model = Path(folder) / "model.onnx"
            artefact.export(learned.network, learned.encoder, model)
            examples = Examples.of(test, learned.encoder)
            difference = artefact.difference(learned.network, model, examples.numeric, examples.categorical)
            candidate = make(activity, of, model, data_digest, hyperparameters, parent, tracked.id)
            register(activity, tracked, model, learned, candidate)
        rows = Rows.of(test, of.test)
        prediction = artefact.Scorer(activity.model_file(candidate)).predict(test)
        activity.store.set_promotion_candidate(promotion.id, candidate.id)
        claim(activity, candidate)
        found = quality.measure_alone(activity, rows, prediction)
        activity.measure("checkpoint_verified", 0 if verified else 1, unit="checks", n=1)
        changed = lineage.code().changed
        activity.measure("dirty_tree", len(changed), unit="files", n=1 + len(changed))
        activity.measure("onnx_difference", difference, unit=spec.task.unit, n=len(examples))
        tracked.metrics({f"test_{name}": interval.value for name, interval in found.items()})
        tracked.text("model_card.md", card(activity, candidate, of, learned, found))
    report(activity, learned)
    checkpoint.unlink(missing_ok=True)


def idea(activity: Activity) -> Candidate | None:
    """The development candidate to learn from: the one this run was asked for, else the newest promoted."""
    store, promotion = activity.store, activity.promotion
    if promotion.origin is not None:
        return store.candidate(promotion.origin)
    promoted = [p for p in store.promotions(promotion.model, "development") if p.state == "promoted"]
    newest = max(promoted, key=lambda p: p.ended_at or p.began_at, default=None)
    return store.candidate(newest.candidate) if newest and newest.candidate else None


def chosen(activity: Activity, parent: Candidate | None) -> dict[str, Any]:
    """The hyperparameters: development's, with what this run overrides."""
    overrides = activity.promotion.params.get("hyperparameters") or {}
    if parent is None and not overrides:
        model = activity.promotion.model
        raise SevenfoldError(
            f"no candidate of {model} has been promoted out of development yet: run {model}.development "
            "first, or set hyperparameters for this run"
        )
    return activity.spec.hyperparameters_with((parent.hyperparameters if parent else {}) | overrides)


def checkpoint_of(activity: Activity) -> Path:
    """Where this promotion's training keeps its checkpoint: the retry of a killed pod finds it."""
    name = hashlib.sha256(activity.promotion.id.encode()).hexdigest()[:16]
    return activity.settings.data / "checkpoints" / f"{activity.promotion.model}-{name}.pt"


def make(
    activity: Activity,
    of: Windows,
    model: Path,
    data_digest: str,
    hyperparameters: dict[str, Any],
    parent: Candidate | None,
    mlflow_run: str,
) -> Candidate:
    """Keeps the model file and the candidate; the promotion carries it only once it is registered."""
    promotion, code = activity.promotion, lineage.code()
    gates = lineage.gates(activity.settings.models, promotion.model)
    hashes = {environment: gate.hash for environment, gate in gates.items()}
    return activity.store.add_candidate(
        Candidate(
            model=promotion.model,
            model_digest=activity.artifacts.put(model),
            data_snapshot=data_digest,
            code_commit=code.commit,
            image_digests=lineage.environment_digest(),
            policy_hash=hash_of_gates(hashes),
            gates=hashes,
            parent=parent.id if parent else None,
            as_of=promotion.as_of,
            reason=promotion.reason,
            hyperparameters=hyperparameters,
            train_window=of.training,
            code_dirty=bool(code.changed),
            mlflow_run=mlflow_run,
        ),
        gates.values(),
    )


def register(
    activity: Activity, tracked: tracking.TrackedRun, model: Path, learned: Learned, candidate: Candidate
) -> None:
    """Registers the version once, however often this activity is retried."""
    url, name = activity.settings.mlflow_url, activity.promotion.model
    version = tracking.registered_version(url, name, candidate.id)
    if version is None:
        said = f"Trained as of {candidate.as_of:%Y-%m-%d} ({candidate.reason})."
        version = tracked.register(name, model, learned.encoder, candidate.id, said)
    activity.progress(f"candidate {candidate.id} is version {version} of {name} in MLflow")


def card(
    activity: Activity, candidate: Candidate, of: Windows, learned: Learned, found: dict[str, Interval]
) -> str:
    """The model card: what the model's folder says of all versions, and what is true of this one."""
    general = activity.spec.folder / "card.md"
    lines = [
        general.read_text().rstrip() if general.is_file() else f"# {activity.spec.title}",
        "",
        "## This version",
        "",
        f"- candidate {candidate.id}, code {candidate.code_commit}, reason: {candidate.reason}",
        f"- trained on {of.training[0]:%Y-%m-%d} to {of.training[1]:%Y-%m-%d} "
        f"(data {candidate.data_snapshot[:12]}), epoch {learned.fitted.best.number} kept",
        f"- settings: {candidate.hyperparameters}",
        f"- on {of.test[0]:%Y-%m-%d} to {of.test[1]:%Y-%m-%d}, {found['log_loss'].n:,} rows it had not seen "
        "(95 % intervals by day):",
        *(
            f"  - {name.replace('_', ' ')} {of_it.value:.4f} ({of_it.low:.4f} to {of_it.high:.4f})"
            for name, of_it in found.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def report(activity: Activity, learned: Learned) -> None:
    """The learning curve."""
    history = learned.fitted.history
    with tempfile.TemporaryDirectory() as folder:
        path = plots.series(
            Path(folder) / "learning.png",
            [float(epoch.number) for epoch in history],
            {
                "training rows": ([epoch.training_loss for epoch in history], None, None),
                "stopping days": ([epoch.stopping_loss for epoch in history], None, None),
            },
            f"{activity.spec.title}: log loss by epoch",
            "nats",
            [(float(learned.fitted.best.number), "kept")],
        )
        activity.report(path.name, path.read_bytes(), "Learning curve")


def _months(activity: Activity) -> int | None:
    months = activity.promotion.params.get("window_months")
    return int(months) if months else None


if __name__ == "__main__":
    run(main)
