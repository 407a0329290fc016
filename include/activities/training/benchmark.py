"""benchmark: is the network worth its cost? Against simpler models that learned from the same rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from activities.training.train import windows_of
from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.measures import evaluation, quality
from sevenfold.measures.evaluation import Floats, Interval
from sevenfold.measures.quality import Rows
from sevenfold.model.tasks import Task
from sevenfold.reports import page, plots
from sevenfold.training import Examples
from sevenfold.training.baselines import baselines


def main(activity: Activity) -> None:
    """Measures the gain in log loss over each baseline, on the test window."""
    spec, candidate = activity.spec, activity.candidate
    of = windows_of(activity)
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
    gains = compare(spec.task, rows, predictions)
    for name, gain in gains["log_loss"].items():
        quality.measure(activity, f"log_loss_gain_over_{name}", gain, "nats", of.test)
    report(activity, rows, predictions, gains)


def compare(task: Task, rows: Rows, predictions: dict[str, Floats]) -> dict[str, dict[str, Interval]]:
    """What the network gains over each rival, by metric: above zero it is the better one, on either."""
    label, days, mine = rows.label, rows.days, predictions["network"]
    rivals = {name: theirs for name, theirs in predictions.items() if name != "network"}
    losses = {name: task.losses(label, theirs) for name, theirs in predictions.items()}

    def second_gain(theirs: Floats) -> Interval:
        better, worse = (mine, theirs) if task.more_is_better else (theirs, mine)
        return task.second_difference(label, better, worse, days)

    return {
        "log_loss": {name: evaluation.mean(losses[name] - losses["network"], days) for name in rivals},
        task.second: {name: second_gain(theirs) for name, theirs in rivals.items()},
    }


def in_words(metric: str, gains: dict[str, Interval]) -> str:
    """Whom the network beats on a metric, and, with numbers, whom it does not."""
    beaten = [_words(name) for name, gain in gains.items() if gain.low > 0]
    others = []
    for name, gain in gains.items():
        if gain.low > 0:
            continue
        interval = f"gain {gain.value:+.4f}, 95 % {gain.low:+.4f} to {gain.high:+.4f}"
        others.append(f"{_words(name)} ({'worse' if gain.high < 0 else 'not proven better'}: {interval})")
    said = f"On {_words(metric)} the network beats {', '.join(beaten) or 'none of them'}"
    return f"{said}; it does not beat {', '.join(others)}." if others else f"{said}."


def report(
    activity: Activity,
    rows: Rows,
    predictions: dict[str, Floats],
    gains: dict[str, dict[str, Interval]],
) -> None:
    """A page that says plainly, metric by metric, whom the network beats and whom it does not."""
    task = activity.spec.task
    verdicts = [in_words(metric, of) for metric, of in gains.items()]
    for verdict in verdicts:
        activity.progress(verdict)
    found = {
        "log_loss": {name: task.log_loss(rows.label, one, rows.days) for name, one in predictions.items()},
        task.second: {
            name: task.second_metric(rows.label, one, rows.days) for name, one in predictions.items()
        },
    }
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for metric, of in gains.items():
            title = f"What the network gains in {_words(metric)}, 95 % intervals by day"
            bars = [(_words(name), gain.value, gain.low, gain.high) for name, gain in of.items()]
            unit = task.headline_units[metric] or _words(metric)
            plot = plots.intervals(Path(folder) / f"{metric}.png", bars, title, unit, limit=0.0)
            cells = [
                [
                    _words(name),
                    one.value,
                    _range(one),
                    of[name].value if name in of else None,
                    _range(of.get(name)),
                ]
                for name, one in found[metric].items()
            ]
            columns = ["model", _words(metric), "95 % by day", "the network gains", "95 % by day"]
            parts += [page.heading(_words(metric).capitalize()), page.table(columns, cells)]
            parts.append(page.image(plot, f"gain in {_words(metric)} over each baseline"))
    content = page.page(
        f"{activity.spec.title}: the network against simpler models",
        *(page.text(verdict) for verdict in verdicts),
        page.text(
            f"Same rows to learn from, same {len(rows.label):,} rows to be compared on, of "
            f"{rows.window[0]:%Y-%m-%d} to {rows.window[1]:%Y-%m-%d}.",
        ),
        *parts,
    )
    activity.report("benchmark.html", content, "Against simpler models")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _range(of: Interval | None) -> str:
    return f"{of.low:.4f} to {of.high:.4f}" if of else ""


if __name__ == "__main__":
    run(main)
