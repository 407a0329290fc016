"""benchmark: is the network worth its cost? Against simpler models that learned from the same rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sevenfold import evaluation, page, plots, quality
from sevenfold.activity import Activity, run
from sevenfold.artefact import Scorer
from sevenfold.baselines import baselines
from sevenfold.evaluation import Floats, Interval
from sevenfold.quality import Rows
from sevenfold.snapshot import snapshot
from sevenfold.training import Examples
from sevenfold.windows import windows


def main(activity: Activity) -> None:
    """Measures the gain in log loss over each baseline, on the test window."""
    spec, candidate = activity.spec, activity.candidate
    months = activity.promotion.params.get("window_months")
    of = windows(spec, activity.promotion.as_of, int(months) if months else None)
    scorer = Scorer(activity.model_file(candidate))
    with activity.phase("reading the rows"):
        data = snapshot(spec, activity.settings.data, activity.progress)
        fitting, stopping, test = (
            data.labelled(*window, of.as_of, spec.columns) for window in (of.fitting, of.stopping, of.test)
        )
        examples, last, compared = (Examples.of(rows, scorer.encoder) for rows in (fitting, stopping, test))
    rows, rivals = Rows.of(test, of.test), baselines(spec.task)
    predictions: dict[str, Floats] = {"network": scorer.predict(test)}
    for name, fit in rivals.items():
        with activity.phase(name.replace("_", " ")):
            predict = fit(examples, last, scorer.encoder.cardinalities, 0)
            predictions[name] = predict(compared)
    losses: dict[str, Floats] = {name: spec.task.losses(rows.label, one) for name, one in predictions.items()}
    gains = {name: evaluation.mean(losses[name] - losses["network"], rows.days) for name in rivals}
    for name, gain in gains.items():
        quality.measure(activity, f"log_loss_gain_over_{name}", gain, "nats", of.test)
    report(activity, rows, predictions, losses, gains)


def report(
    activity: Activity,
    rows: Rows,
    predictions: dict[str, Floats],
    losses: dict[str, Floats],
    gains: dict[str, Interval],
) -> None:
    """A page that says plainly which baselines the network beats."""
    beaten = [name.replace("_", " ") for name, gain in gains.items() if gain.low > 0]
    others = [name.replace("_", " ") for name, gain in gains.items() if not gain.low > 0]
    verdict = " ".join(
        [
            f"The network beats {', '.join(beaten)}." if beaten else "The network beats none of them.",
            f"It is not proven better than {', '.join(others)}." if others else "",
        ]
    ).strip()
    activity.progress(verdict)
    found = {name: evaluation.mean(loss, rows.days) for name, loss in losses.items()}
    task = activity.spec.task
    seconds = {name: task.second_metric(rows.label, one, rows.days) for name, one in predictions.items()}
    cells = [
        [
            name.replace("_", " "),
            of.value,
            f"{of.low:.4f} to {of.high:.4f}",
            seconds[name].value,
            gains[name].value if name in gains else None,
            f"{gains[name].low:.4f} to {gains[name].high:.4f}" if name in gains else "",
        ]
        for name, of in found.items()
    ]
    second = task.second.replace("_", " ")
    columns = ["model", "log loss", "95 % by day", second, "the network gains", "95 % by day"]
    with tempfile.TemporaryDirectory() as folder:
        bars = [(name.replace("_", " "), gain.value, gain.low, gain.high) for name, gain in gains.items()]
        title = "What the network gains in log loss, 95 % intervals by day"
        plot = plots.intervals(Path(folder) / "gains.png", bars, title, "nats", limit=0.0)
        content = page.page(
            f"{activity.spec.title}: the network against simpler models",
            page.text(
                verdict,
                f"Same rows to learn from, same {len(rows.label):,} rows to be compared on, of "
                f"{rows.window[0]:%Y-%m-%d} to {rows.window[1]:%Y-%m-%d}.",
            ),
            page.table(columns, cells),
            page.image(plot, "gain over each baseline"),
        )
    activity.report("benchmark.html", content, "Against simpler models")


if __name__ == "__main__":
    run(main)
