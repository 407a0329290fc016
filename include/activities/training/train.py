"""train: the candidate, from all rows of the training window. A killed run continues where it was."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sevenfold import search, training
from sevenfold.activity import Activity, run
from sevenfold.candidates import artefact, lineage
from sevenfold.candidates.bundle import bundle
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.snapshot import Snapshot, snapshot
from sevenfold.data.windows import Windows, windows
from sevenfold.development.beforehand import claim
from sevenfold.errors import SevenfoldError
from sevenfold.measures import quality
from sevenfold.measures.evaluation import Interval
from sevenfold.measures.quality import Rows
from sevenfold.reports import plots
from sevenfold.training import CannotLearn, Epoch, Examples, TrainingSettings, tracking
from sevenfold.training.launch import Launch
from sevenfold.training.learning import Learned, learn, learn_from_files
from sevenfold.training.memory import parts_for
from sevenfold.training.monitor import Monitor, watching
from sevenfold.training.record import Progress


def main(activity: Activity) -> None:
    """Trains, exports, registers the version in MLflow, and makes the promotion's candidate."""
    spec, promotion = activity.spec, activity.promotion
    parent = idea(activity)
    hyperparameters = search.found(activity) or chosen(activity, parent)
    of = windows_of(activity)
    launch = Launch.of(spec.resources_of("training", "train"), gpus())
    data = snapshot(spec, activity.settings.data, activity.progress)
    if launch.node:
        train(activity, data, of, hyperparameters, launch)
        activity.progress(f"node {launch.node} has done its part; node 0 keeps what came of it")
        return
    checkpoint, data_digest = checkpoint_of(activity), data.digest(*of.training, of.as_of)
    with tracking.tracked(
        activity.settings.mlflow_url, f"{spec.name}.training", promotion.run, promotion.id, promotion.reason
    ) as tracked:
        rows = data.count(*of.training)
        seed = {"seed": seed_of(activity), "processes": launch.processes * launch.nodes}
        tracked.params(hyperparameters | seed)
        tracked.data(spec.name, spec.data.source, data_digest, of.training, rows)
        with watching(tracked.series, activity.progress) as monitor:
            learned = train(activity, data, of, hyperparameters, launch, tracked, monitor)
        tracked.params({"rows": learned.rows})
        resumed = learned.fitted.resumed_at
        activity.progress(
            f"kept epoch {learned.fitted.best.number} of a training on {learned.rows:,} labelled rows"
            + (f"; took over at step {resumed} from a run that was killed" if resumed else "")
        )
        verified = training.verified(checkpoint, learned.trained)
        test = data.labelled(*of.test, of.as_of, spec.columns)
        with tempfile.TemporaryDirectory() as folder, activity.phase("exporting and registering"):
            model = Path(folder) / "model.onnx"
            artefact.export(learned.network, learned.encoder, model)
            examples = Examples.of(test, learned.encoder)
            difference = artefact.difference(learned.network, model, examples.numeric, examples.categorical)
            candidate = bundle(
                activity,
                model,
                data=data_digest,
                window=of.training,
                hyperparameters=hyperparameters,
                parent=parent,
                mlflow_run=tracked.id,
            )  # the promotion carries it only once it is registered
            register(activity, tracked, model, learned, candidate)
        prediction = artefact.Scorer(activity.model_file(candidate)).predict(test)
        activity.store.set_promotion_candidate(promotion.id, candidate.id)
        claim(activity, candidate)
        found = quality.measure_alone(activity, Rows.of(test, of.test), prediction)
        activity.measure("checkpoint_verified", 0 if verified else 1, unit="checks", n=1)
        changed = lineage.code().changed
        activity.measure("dirty_tree", len(changed), unit="files", n=1 + len(changed))
        activity.measure("onnx_difference", difference, unit=spec.task.unit, n=len(examples))
        tracked.metrics({f"test_{name}": interval.value for name, interval in found.items()})
        tracked.text("model_card.md", card(activity, candidate, of, learned, found))
    report(activity, learned)
    checkpoint.unlink(missing_ok=True)


def train(
    activity: Activity,
    data: Snapshot,
    of: Windows,
    hyperparameters: dict[str, Any],
    launch: Launch,
    tracked: tracking.TrackedRun | None = None,
    monitor: Monitor | None = None,
) -> Learned | None:
    """Trains in this process, or in as many as the resources say; None on all nodes but the first.

    Rows that do not fit into the pod's memory are streamed from Parquet.
    """
    spec, memory = activity.spec, activity.spec.resources_of("training", "train").memory_bytes
    rows, stopping = data.count(*of.fitting), data.labelled(*of.stopping, of.as_of, spec.columns)
    chunk = TrainingSettings.of(hyperparameters).chunk_rows
    parts = parts_for(rows, len(spec.numeric), len(spec.categorical), memory, chunk)
    activity.progress(
        f"training on {of.fitting[0]:%Y-%m-%d} to {of.fitting[1]:%Y-%m-%d} ({rows:,} rows, of which "
        "those with a label count), "
        f"{'all in memory' if parts == 1 else f'streamed in {parts} parts'}, by {launch}; "
        f"{stopping.num_rows:,} more say when to stop; settings {hyperparameters}"
    )

    def on_epoch(epoch: Epoch) -> None:
        activity.progress(
            f"epoch {epoch.number} of {hyperparameters['epochs']}: log loss {epoch.training_loss:.4f}, "
            f"on the stopping days {epoch.stopping_loss:.4f}, {epoch.rows_per_second:,.0f} rows a second"
        )
        if tracked is not None:
            log_epoch(tracked, epoch)

    def on_progress(progress: Progress) -> None:
        if monitor is not None:
            monitor.progress(progress)

    checkpoint, seed, columns = checkpoint_of(activity), seed_of(activity), spec.columns
    told = (on_epoch, on_progress)
    try:
        with activity.phase("training"):
            if launch.alone and parts == 1:
                fitting = data.labelled(*of.fitting, of.as_of, columns)
                learned = learn(spec, fitting, stopping, hyperparameters, seed, checkpoint, *told)
            else:
                learned = learn_from_files(
                    spec,
                    lambda: data.labelled_pieces(*of.fitting, of.as_of, columns),
                    stopping,
                    hyperparameters,
                    seed,
                    checkpoint,
                    launch,
                    parts,
                    *told,
                )
    except CannotLearn:
        checkpoint.unlink(missing_ok=True)
        raise
    if tracked is not None and learned is not None and learned.fitted.resumed_at:
        known = tracked.steps_of("stopping_loss")  # a kill may have come between a checkpoint and its log
        for epoch in learned.fitted.history:
            if epoch.number not in known:
                log_epoch(tracked, epoch)
    return learned


def log_epoch(tracked: tracking.TrackedRun, epoch: Epoch) -> None:
    """What an epoch came to, at its number as the step."""
    tracked.metrics({name: value for name, value in asdict(epoch).items() if name != "number"}, epoch.number)


def windows_of(activity: Activity) -> Windows:
    """The windows of this run: its form may shorten the training window."""
    months = activity.promotion.params.get("window_months")
    return windows(activity.spec, activity.promotion.as_of, int(months) if months else None)


def seed_of(activity: Activity) -> int:
    """The start of all chance in this run."""
    return int(activity.promotion.params.get("seed") or 0)


def gpus() -> int:
    """How many GPUs torch sees."""
    import torch

    return torch.cuda.device_count()


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


if __name__ == "__main__":
    run(main)
