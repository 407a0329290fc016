"""checkpoint: is training safe from a kill, and is everything of this candidate on record?

A drill, and an audit. A real training process, with the candidate's network and settings on a slice of its
rows, is killed with SIGKILL at a random step and started again: it has to end on the same bits as one that
nobody disturbed. And MLflow has to have what the candidate is made of.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import of_candidate
from sevenfold.errors import SevenfoldError
from sevenfold.reports import page
from sevenfold.training import tracking
from sevenfold.training.drill import CHECKPOINT_STEPS, DrillFailed, drill_job, kill_at, steps_of
from sevenfold.training.job import Job
from sevenfold.training.tracking import Record

ATTEMPTS = 3
EARLIEST, LATEST = 0.05, 0.75
"""Between which parts of its steps the training is killed: it has begun, and it is not at its end."""


@dataclass(frozen=True)
class Resumption:
    """What the drill found."""

    killed_at: int
    resumed_at: int
    steps: int
    tensors: int
    different: list[str]
    """Weights and epochs that are not the same, bit for bit."""
    seconds: float


def main(activity: Activity) -> None:
    """Measures how many weights differ after the kill, and how much is not on record."""
    candidate = activity.candidate
    with activity.phase("a training is killed and goes on"):
        found = drill(activity, candidate)
    activity.progress(
        f"killed past step {found.killed_at} of {found.steps}, went on from step {found.resumed_at}: "
        f"{len(found.different)} of {found.tensors} tensors and epochs differ"
    )
    with activity.phase("reading what MLflow has"):
        checks = audit(activity, candidate)
    missing = [said for said, kept in checks.items() if not kept]
    for said in missing:
        activity.progress(f"not on record: {said}")
    activity.measure("resumed_differently", len(found.different), unit="tensors", n=found.tensors)
    activity.measure("not_on_record", len(missing), unit="checks", n=len(checks))
    report(activity, found, checks)


def drill(activity: Activity, candidate: Candidate) -> Resumption:
    """Trains one model undisturbed and one that is killed, and compares what came of them."""
    import torch

    spec, data = activity.spec, snapshot(activity.spec, activity.settings.data, activity.progress)
    of = of_candidate(spec, candidate)
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            drill_job(spec, data, of, candidate.hyperparameters, Path(folder) / name)
            for name in ("undisturbed", "killed")
        ]
        undisturbed, whole = jobs[0].run()
        began = time.monotonic()
        step, steps = kill(jobs[1]), steps_of(jobs[1])
        resumed, cut = jobs[1].run()
        if cut.resumed_at < step:
            raise SevenfoldError(f"the training killed past step {step} went on from {cut.resumed_at}")
    one, other = undisturbed.state_dict(), resumed.state_dict()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    different += [
        f"epoch {a.number}"
        for a, b in zip(whole.history, cut.history, strict=True)
        if (a.training_loss, a.stopping_loss) != (b.training_loss, b.stopping_loss)
    ]
    checked = len(one) + len(whole.history)
    return Resumption(step, cut.resumed_at, steps, checked, different, time.monotonic() - began)


def kill(job: Job) -> int:
    """Kills the training past a random step, which it gives; on a busy machine it may take some tries."""
    steps = steps_of(job)
    earliest, latest = max(CHECKPOINT_STEPS, int(EARLIEST * steps)), int(LATEST * steps)
    for left in reversed(range(ATTEMPTS)):
        step = random.SystemRandom().randint(earliest, latest)
        try:
            kill_at(job, step)
        except DrillFailed:
            if not left:
                raise
        else:
            break
    return step


def audit(activity: Activity, candidate: Candidate) -> dict[str, bool]:
    """What has to be on record of a candidate, in words, and whether it is."""
    run = candidate.mlflow_run
    if run is None:
        return {"the candidate names its run in MLflow": False}
    record = tracking.record_of(activity.settings.mlflow_url, activity.spec.name, candidate.id, run)
    wanted = {name: str(value) for name, value in candidate.hyperparameters.items()}
    inputs = {"numeric"} | ({"categorical"} if activity.spec.categorical else set())
    return {
        "every hyperparameter, with its value": wanted.items() <= record.params.items(),
        "the seed and the number of processes": {"seed", "processes"} <= set(record.params),
        "the data, by the hash that the candidate has": candidate.data_snapshot in record.data,
        "the losses of every epoch": _epochs_are_whole(record, candidate),
        "use of CPU and memory, and rows a second": _is_watched(record),
        "the model card": "model_card.md" in record.files,
        "a registered version that says how it came to be": record.version is not None and record.described,
        "its signature": inputs <= set(record.inputs),
        "an example of its input": any("input_example" in name for name in record.model_files),
        "the model as ONNX, and no pickle": _is_onnx(record),
    }


def _epochs_are_whole(record: Record, candidate: Candidate) -> bool:
    """Both losses at 1, 2, 3 and so on, none twice."""
    steps = [record.steps.get(name, []) for name in ("training_loss", "stopping_loss")]
    return bool(steps[0]) and steps[0] == steps[1] == list(range(1, len(steps[0]) + 1))


def _is_watched(record: Record) -> bool:
    return all(
        record.steps.get(name)
        for name in ("system/cpu_cores", "system/memory_mib", "throughput/rows_per_second")
    )


def _is_onnx(record: Record) -> bool:
    endings = {Path(name).suffix for name in record.model_files}
    return ".onnx" in endings and not endings & {".pkl", ".pickle", ".pth", ".pt", ".joblib", ".bin"}


def report(activity: Activity, found: Resumption, checks: dict[str, bool]) -> None:
    """A page with both."""
    ended = "on the same bits" if not found.different else f"elsewhere: {', '.join(found.different)} differ"
    content = page.page(
        f"{activity.spec.title}: killed and resumed, and what is on record",
        page.heading("The drill"),
        page.text(
            f"A training with this candidate's network and settings was killed with SIGKILL past step "
            f"{found.killed_at} of {found.steps} and went on from step {found.resumed_at}. It ended {ended} "
            f"({found.tensors} tensors and epochs compared, {found.seconds:.1f} s)."
        ),
        page.heading("What MLflow has of the candidate"),
        page.table(["", "on record"], [[said, "yes" if kept else "NO"] for said, kept in checks.items()]),
    )
    activity.report("checkpoint.html", content, "Killed, resumed, on record")


if __name__ == "__main__":
    run(main)
