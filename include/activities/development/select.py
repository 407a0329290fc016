"""select: which kind of model suits the problem? One of each, trained on a sample in seconds.

What comes out is an idea, not a model for users: a small candidate with the hyperparameters that training
takes over. All rows lie inside the training window, so no idea has seen the days it will be tested on.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold import artefact, evaluation, lineage, page, plots, quality, tracking
from sevenfold.activity import Activity, run
from sevenfold.baselines import baselines
from sevenfold.candidate import Candidate, hash_of_gates
from sevenfold.errors import SevenfoldError
from sevenfold.evaluation import Floats, Interval
from sevenfold.learning import Learned, learn
from sevenfold.quality import Rows
from sevenfold.snapshot import snapshot
from sevenfold.tasks import Task
from sevenfold.training import Epoch, Examples
from sevenfold.windows import Windows, rehearsal

SAMPLE_ROWS = 15_000
NETWORK = "network"


@dataclass(frozen=True)
class Tried:
    """One algorithm: its predictions on the rows it was compared on, and the seconds it learned."""

    prediction: Floats
    seconds: float


def main(activity: Activity) -> None:
    """Compares the algorithms, logs them to MLflow, and makes the development candidate."""
    spec, params = activity.spec, activity.promotion.params
    seed, wanted = int(params.get("seed", 0)), int(params.get("sample_rows", SAMPLE_ROWS))
    if wanted < 1:
        raise SevenfoldError(f"sample_rows must be at least 1, not {wanted}")
    hyperparameters = spec.hyperparameters_with(params.get("hyperparameters") or {})
    windows = rehearsal(spec, activity.promotion.as_of)
    with activity.phase("reading the rows"):
        data = snapshot(spec, activity.settings.data, activity.progress)
        fitting, stopping, test = (
            data.labelled(*window, windows.as_of, spec.columns)
            for window in (windows.fitting, windows.stopping, windows.test)
        )
        fitting = sample(fitting, wanted, seed)
    activity.progress(
        f"learning from {fitting.num_rows:,} rows of {_days(windows.fitting)}, compared on "
        f"{test.num_rows:,} rows of {_days(windows.test)}"
    )
    with tempfile.TemporaryDirectory() as folder:
        learned, tried = try_all(activity, fitting, stopping, test, hyperparameters, seed, Path(folder))
        model = Path(folder) / "model.onnx"
        artefact.export(learned.network, learned.encoder, model)
        digest = activity.artifacts.put(model)
    rows = Rows.of(test, windows.test)
    data_digest = data.digest(*windows.training, windows.as_of)
    found = {name: scores(spec.task, rows, entry, tried["constant"]) for name, entry in tried.items()}
    with (
        activity.phase("logging to MLflow"),
        tracking.tracked(
            activity.settings.mlflow_url,
            f"{spec.name}.development",
            activity.promotion.run,
            activity.promotion.id,
            activity.promotion.reason,
        ) as tracked,
    ):
        tracked.params({**hyperparameters, "seed": seed, "sample_rows": fitting.num_rows})
        tracked.data(spec.name, spec.data.source, data_digest, windows.training, fitting.num_rows)
        tracked.metrics({name: of.value for name, of in found[NETWORK].items()})
        for name, entry in tried.items():
            metrics = {metric: of.value for metric, of in found[name].items()}
            tracked.child(name, {"algorithm": name}, metrics | {"seconds": entry.seconds})
    candidate = idea(activity, windows, digest, data_digest, hyperparameters, tracked.id)
    quality.measure_alone(activity, rows, tried[NETWORK].prediction)
    gain = found[NETWORK]["log_loss_gain_over_constant"]
    quality.measure(activity, "log_loss_gain_over_constant", gain, "nats", windows.test)
    report(activity, candidate, rows, tried, found)


def sample(rows: Any, wanted: int, seed: int) -> Any:
    """So many of the rows, drawn at random and kept in their order; all of them if there are not more."""
    if rows.num_rows <= wanted:
        return rows
    drawn = np.random.default_rng(seed).choice(rows.num_rows, wanted, replace=False)
    return rows.take(np.sort(drawn))


def try_all(
    activity: Activity,
    fitting: Any,
    stopping: Any,
    test: Any,
    hyperparameters: dict[str, Any],
    seed: int,
    folder: Path,
) -> tuple[Learned, dict[str, Tried]]:
    """Trains the network and every baseline on the same rows; returns their predictions on `test`."""

    def on_epoch(epoch: Epoch) -> None:
        activity.progress(f"epoch {epoch.number}: log loss {epoch.stopping_loss:.4f} on the stopping days")

    began = time.monotonic()
    learned = learn(
        activity.spec, fitting, stopping, hyperparameters, seed, folder / "checkpoint.pt", on_epoch
    )
    network = Tried(prediction(learned, test), time.monotonic() - began)
    examples, last, compared = (Examples.of(rows, learned.encoder) for rows in (fitting, stopping, test))
    tried = {}
    for name, fit in baselines(activity.spec.task).items():
        began = time.monotonic()
        with activity.phase(words(name)):
            predict = fit(examples, last, learned.encoder.cardinalities, seed)
            tried[name] = Tried(predict(compared), time.monotonic() - began)
    return learned, tried | {NETWORK: network}


def words(name: str) -> str:
    """What people call an algorithm."""
    return "the network" if name == NETWORK else name.replace("_", " ")


def prediction(learned: Learned, rows: Any) -> Floats:
    """The network's own predictions, before any export."""
    import torch

    numeric, categorical, _ = Examples.of(rows, learned.encoder).tensors()
    with torch.inference_mode():
        found: Floats = learned.encoder.task.served(learned.network(numeric, categorical)).numpy()
    return found


def scores(task: Task, rows: Rows, tried: Tried, constant: Tried) -> dict[str, Interval]:
    """Log loss, second metric and gain over the constant of one algorithm, with intervals by day."""
    loss = task.losses(rows.label, tried.prediction)
    gain = task.losses(rows.label, constant.prediction) - loss
    return {
        "log_loss": evaluation.mean(loss, rows.days),
        task.second: task.second_metric(rows.label, tried.prediction, rows.days),
        "log_loss_gain_over_constant": evaluation.mean(gain, rows.days),
    }


def idea(
    activity: Activity,
    windows: Windows,
    model_digest: str,
    data_digest: str,
    hyperparameters: dict[str, Any],
    mlflow_run: str,
) -> Candidate:
    """Keeps the small network as this promotion's candidate."""
    promotion, code = activity.promotion, lineage.code()
    gates = lineage.gates(activity.settings.models, promotion.model)
    hashes = {environment: gate.hash for environment, gate in gates.items()}
    candidate = activity.store.add_candidate(
        Candidate(
            model=promotion.model,
            model_digest=model_digest,
            data_snapshot=data_digest,
            code_commit=code.commit,
            image_digests=lineage.environment_digest(),
            policy_hash=hash_of_gates(hashes),
            gates=hashes,
            as_of=promotion.as_of,
            reason=promotion.reason,
            hyperparameters=hyperparameters,
            train_window=windows.training,
            code_dirty=bool(code.changed),
            mlflow_run=mlflow_run,
        ),
        gates.values(),
    )
    activity.store.set_promotion_candidate(promotion.id, candidate.id)
    activity.progress(f"made candidate {candidate.id}")
    return candidate


def report(
    activity: Activity,
    candidate: Candidate,
    rows: Rows,
    tried: dict[str, Tried],
    found: dict[str, dict[str, Interval]],
) -> None:
    """A page that compares the algorithms."""
    second = activity.spec.task.second
    losses = {name: of["log_loss"] for name, of in found.items()}
    best = min(losses, key=lambda name: losses[name].value)
    verdict = (
        "The network is the best of them."
        if best == NETWORK
        else f"The network does not beat {words(best)} on these rows."
    )
    cells = [
        [
            words(name),
            of["log_loss"].value,
            _range(of["log_loss"]),
            None if name == "constant" else of[second].value,
            of["log_loss_gain_over_constant"].value,
            _range(of["log_loss_gain_over_constant"]),
            round(tried[name].seconds, 2),
        ]
        for name, of in found.items()
    ]
    second_words = second.replace("_", " ")
    columns = [
        "algorithm",
        "log loss",
        "95 % by day",
        second_words,
        "gain over constant",
        "95 % by day",
        "seconds",
    ]
    title = f"Which kind of model suits {activity.spec.title.lower()}?"
    with tempfile.TemporaryDirectory() as folder:
        bars = [(words(name), of.value, of.low, of.high) for name, of in losses.items()]
        plot = plots.intervals(Path(folder) / "losses.png", bars, "Log loss, 95 % intervals by day", "nats")
        content = page.page(
            title,
            page.text(
                verdict,
                f"All learned from the same sample and were compared on {len(rows.label):,} rows of "
                f"{_days(rows.window)}. Candidate {candidate.id}.",
            ),
            page.table(columns, cells),
            page.image(plot, "log loss of each algorithm"),
        )
    activity.report("algorithms.html", content, "Algorithms compared")
    activity.progress(verdict)


def _days(window: tuple[Any, Any]) -> str:
    return f"{window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}"


def _range(of: Interval) -> str:
    return f"{of.low:.4f} to {of.high:.4f}"


if __name__ == "__main__":
    run(main)
