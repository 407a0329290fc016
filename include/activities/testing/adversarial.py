"""adversarial: what do odd rows do to the server, and small lies about the numbers to the answers?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.measures import evaluation, quality
from sevenfold.measures.evaluation import Interval
from sevenfold.measures.quality import Rows
from sevenfold.reports import page, plots
from sevenfold.trials import attack
from sevenfold.trials.attack import Losses, Surface
from sevenfold.trials.conformance import Check
from sevenfold.trials.edge_cases import EdgeCases
from sevenfold.trials.lone_server import server_of, started

BUDGETS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""How far every number may be moved, in standard deviations of its column."""
BUDGET = 0.1
"""The one that the gate judges: about what a rounded, late or miscalibrated reading is off by."""
ATTACKED = 1000
"""Rows under attack, spread evenly over the test window."""
ORDINARY = 4


@dataclass(frozen=True)
class Hurt:
    """What moves within one budget did: extra loss (nats) under PGD, one FGSM step, and random signs."""

    budget: float
    pgd: Interval
    fgsm: Interval
    random: Interval
    changed: float
    """Share of rows whose decision is another one under PGD."""


def main(activity: Activity) -> None:
    """Measures unclean_answers of the server, and loss_under_attack at the stated budget."""
    spec, as_of = activity.spec, activity.promotion.as_of
    window = windows(spec, as_of).test
    test = snapshot(spec, activity.settings.data, activity.progress).labelled(*window, as_of, spec.columns)
    scorer = Scorer(activity.model_file(activity.candidate))
    checks = edge_cases(activity, scorer, test)
    broken = [check for check in checks if check.violation]
    for check in broken:
        activity.progress(f"broken: {check.promise}: {check.violation}")
    activity.measure("unclean_answers", len(broken), unit="cases", n=len(checks))
    with activity.phase(f"attacking {min(ATTACKED, test.num_rows):,} rows"):
        found = attacked(scorer, test, window)
    (judged,) = [hurt for hurt in found if hurt.budget == BUDGET]
    quality.measure(activity, "loss_under_attack", judged.pgd, "nats", window)
    activity.measure("decisions_under_attack", judged.changed, unit="share", n=judged.pgd.n, window=window)
    activity.report("adversarial.html", report(activity, checks, found), "Edge cases and attacks")


def edge_cases(activity: Activity, scorer: Scorer, test: Any) -> list[Check]:
    """Asks the real server of the candidate."""
    encoder = scorer.encoder
    rows = test.select([*encoder.numeric, *encoder.categorical]).slice(0, ORDINARY).to_pylist()
    rows = [{name: None if value != value else value for name, value in row.items()} for row in rows]
    numbers, _ = encoder.encode(test)
    surface = Surface.of(numbers, np.arange(0))
    low, high = np.nan_to_num(surface.low, posinf=0), np.nan_to_num(surface.high, neginf=0)
    reach = dict(zip(encoder.numeric, zip(low.tolist(), high.tolist(), strict=True), strict=True))
    command = server_of(activity.spec.name, activity.candidate.id)
    with (
        tempfile.TemporaryDirectory() as folder,
        started(command, Path(folder)) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
        activity.phase("asking the server about edge cases"),
    ):
        return EdgeCases(client, encoder, rows, reach).check()


def attacked(scorer: Scorer, test: Any, window: tuple[Any, Any]) -> list[Hurt]:
    """Attacks a sample of the test rows within each budget."""
    task = scorer.task
    numeric, categorical = scorer.encoder.encode(test)
    rows = Rows.of(test, window)
    sample = np.unique(np.linspace(0, len(rows) - 1, min(ATTACKED, len(rows))).astype(np.intp))
    surface, codes = Surface.of(numeric, sample), categorical[sample]
    label, days = rows.label[sample], rows.days[sample]

    def loss(numbers: attack.Numbers, of: np.ndarray[Any, np.dtype[np.intp]]) -> Losses:
        return task.losses(label[of], scorer.run(numbers, codes[of]))

    clean, before = loss(surface.numeric, np.arange(len(sample))), scorer.run(surface.numeric, codes)

    def more(losses: Losses) -> Interval:
        return evaluation.mean(losses - clean, days)

    return [
        Hurt(
            budget,
            more(worst),
            more(one_step),
            more(chance),
            float(task.differ(scorer.run(numbers, codes), before).mean()),
        )
        for budget, (worst, numbers), one_step, chance in zip(
            BUDGETS,
            attack.pgd(surface, loss, BUDGETS),
            attack.fgsm(surface, loss, BUDGETS),
            attack.random_signs(surface, loss, BUDGETS),
            strict=True,
        )
    ]


def report(activity: Activity, checks: list[Check], found: list[Hurt]) -> str:
    """A page with the robustness curve and every edge case, broken ones first."""
    kinds = {"worst case (PGD)": "pgd", "one step (FGSM)": "fgsm", "random signs": "random"}
    with tempfile.TemporaryDirectory() as folder:
        lines: dict[str, plots.Line] = {}
        for words, kind in kinds.items():
            of = [getattr(hurt, kind) for hurt in found]
            lines[words] = ([i.value for i in of], [i.low for i in of], [i.high for i in of])
        curve = plots.series(
            Path(folder) / "robustness.png",
            [hurt.budget for hurt in found],
            lines,
            "Extra log loss when every number is moved so far",
            "nats",
            [(BUDGET, "judged")],
            xlabel="standard deviations of the column",
        )
        image = page.image(curve, "robustness curve")
    cells = [
        [f"{hurt.budget:g}", hurt.pgd.value, hurt.fgsm.value, hurt.random.value, f"{hurt.changed:.1%}"]
        for hurt in found
    ]
    answered = sorted(checks, key=lambda check: check.violation is None)
    broken = sum(check.violation is not None for check in checks)
    return page.page(
        f"{activity.spec.title}: edge cases and attacks",
        page.heading("Small lies about the numbers"),
        page.text(
            f"Candidate {activity.candidate.id}, {found[0].pgd.n:,} rows of the test window. Every known "
            "number of a row is moved at once, by at most the budget and within its column's range; missing "
            "values and categories stay. The direction is the one that raises the loss: a hostile caller's, "
            "or the unluckiest combination of reading errors. Bands are 95 % by day.",
        ),
        image,
        page.table(["budget", *kinds, "decisions changed (PGD)"], cells),
        page.heading("Edge cases, asked of the real server"),
        page.text(f"{len(checks)} cases, {broken} of them broken."),
        page.table(
            ["the server", "found"], [[check.promise, check.violation or "kept"] for check in answered]
        ),
    )


if __name__ == "__main__":
    run(main)
