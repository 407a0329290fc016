"""The training loop against its floor, and ten million rows in two gibibytes.

The floor is forward, loss and backward on one batch that lies ready, and nothing else: no optimiser, no
shuffling, no checkpoint. Rounds of floor and ours take turns, so that what else the machine does falls on
both; ratios are medians over the pairs, in CPU seconds. Exits 1 if a goal is missed.

`python -m tests.benchmarks.training [--rows 10000000]` from the root with include/ on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.training.flights import HYPERPARAMETERS, all_flights

from sevenfold.model.spec import load_spec
from sevenfold.training import Examples, TrainingSettings, fit
from sevenfold.training.job import new_network
from sevenfold.training.schedule import optimiser

ROUNDS, WINDOW = 9, 78_000
"""Pairs of rounds, and the rows of an epoch: those of January to March."""
SLOWER, MEMORY_GIB = 1.3, 2
"""The goals: at most so many times the floor's CPU seconds a row; the peak of resident memory."""


def main(arguments: list[str] | None = None) -> int:
    """Prints both tables; 0 if both goals are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows to stream from Parquet")
    given = parser.parse_args(arguments)
    rows, cardinalities = all_flights()
    slower = loop_against_floor(rows, cardinalities)
    peak = stream(given.rows)
    return int(slower > SLOWER or peak > MEMORY_GIB)


def loop_against_floor(rows: Examples, cardinalities: list[int]) -> float:
    """Rows a CPU second of both, and the median ratio."""
    spec, settings = load_spec("flight_delay"), TrainingSettings(epochs=1, checkpoint_steps=1000)
    first = Examples(rows.numeric[:WINDOW], rows.categorical[:WINDOW], rows.label[:WINDOW])
    few = Examples(rows.numeric[-512:], rows.categorical[-512:], rows.label[-512:])
    batch = tuple(values[: settings.batch_size] for values in first.tensors())
    steps = -(-WINDOW // settings.batch_size)

    def network() -> Any:
        return new_network(spec, first, cardinalities, HYPERPARAMETERS, 0)

    def floor(with_optimiser: bool) -> None:
        net = network().train()
        optimizer, _ = optimiser(net, settings, steps)
        for _ in range(steps):
            net.zero_grad(set_to_none=True)
            rows.task.row_losses(net(*batch[:2]), batch[2]).mean().backward()
            if with_optimiser:
                optimizer.step()

    def ours(folder: Path) -> None:
        fit(network(), first, few, settings, folder / "checkpoint.pt")

    found: dict[str, list[float]] = {"floor": [], "floor with AdamW": [], "ours": []}
    for number in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as folder:
            measured = {
                "floor": cpu(lambda: floor(False)),
                "floor with AdamW": cpu(lambda: floor(True)),
                "ours": cpu(lambda at=Path(folder): ours(at)),
            }
        if number:  # the first warms up
            for name, seconds in measured.items():
                found[name].append(seconds)
    print(f"\none epoch of {WINDOW:,} rows, batches of {settings.batch_size:,}, {ROUNDS} rounds")
    print("loop | rows a CPU second | CPU s over the floor's\n---|---|---")
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds, found["floor"], strict=True))
        for name, seconds in found.items()
    }
    for name, seconds in found.items():
        print(f"{name} | {WINDOW / statistics.median(seconds):,.0f} | {ratios[name]:.2f}")
    print(f"goal: at most {SLOWER}; {'met' if ratios['ours'] <= SLOWER else 'MISSED'}", flush=True)
    return ratios["ours"]


def cpu(work: Callable[[], None]) -> float:
    """CPU seconds of a piece of work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def stream(rows: int) -> float:
    """Trains an epoch on so many rows in a process of its own; its peak of resident memory in GiB."""
    print(f"\n{rows:,} rows streamed from Parquet, the real ones repeated with noise", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.training.stream", folder, str(rows)]
        done = subprocess.run(
            [*command, str(MEMORY_GIB * 2**30)], check=True, stdout=subprocess.PIPE, text=True
        )
    told = json.loads(done.stdout.splitlines()[-1])
    for name, value in told.items():
        print(
            f"{name.replace('_', ' ')} | {value:,.2f}" if isinstance(value, float) else f"{name} | {value:,}"
        )
    peak = float(told["peak_GiB"])
    print(f"goal: at most {MEMORY_GIB} GiB; {'met' if peak <= MEMORY_GIB else 'MISSED'}")
    return peak


if __name__ == "__main__":
    sys.exit(main())
