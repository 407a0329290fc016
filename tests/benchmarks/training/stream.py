"""Deals many rows into Parquet parts and trains an epoch on them: `stream FOLDER ROWS MEMORY_BYTES`.

Its last line is JSON. The real rows are made first and by another process, for they are the benchmark's, not
training's; so the peak of this process's resident memory is that of dealing and training, libraries included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tests.benchmarks.training.flights import HYPERPARAMETERS, all_flights

from sevenfold.model.spec import load_spec
from sevenfold.training import Examples, TrainingSettings, fit
from sevenfold.training.job import STATISTICS_ROWS, new_network
from sevenfold.training.memory import parts_for
from sevenfold.training.parts import Parts, deal

NOISE = 0.05
"""Standard deviation of what is added to every number, in those of its column."""
STOPPING = 20_000


def main(folder: Path, rows: int, memory: int) -> None:
    """Prints what it took."""
    program = "from tests.benchmarks.training import stream; import sys; stream.make_real(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, stdout=sys.stderr)
    real, cardinalities = Parts(folder / "real"), json.loads((folder / "cardinalities.json").read_text())
    one = real.read(0, 1)
    number = parts_for(rows, one.numeric.shape[1], one.categorical.shape[1], memory)
    began, cpu = time.monotonic(), time.process_time()
    parts = deal(repeated(real, rows), folder / "training", number)
    dealt, cpu_dealt = time.monotonic() - began, time.process_time() - cpu
    spec = load_spec("flight_delay")
    network = new_network(spec, parts.read(0, STATISTICS_ROWS), cardinalities, HYPERPARAMETERS, 0)
    began, cpu = time.monotonic(), time.process_time()
    settings = TrainingSettings(epochs=1, checkpoint_steps=500)
    fitted = fit(network, parts, real.read(1, STOPPING), settings, folder / "checkpoint.pt")
    trained, cpu_trained = time.monotonic() - began, time.process_time() - cpu
    print(
        json.dumps(
            {
                "parts": number,
                "rows": sum(parts.rows),
                "seconds_to_deal": dealt,
                "rows_dealt_a_CPU_second": rows / cpu_dealt,
                "seconds_to_train": trained,
                "rows_trained_a_second": fitted.best.rows_per_second,
                "rows_trained_a_CPU_second": rows / cpu_trained,
                "stopping_loss": fitted.best.stopping_loss,
                "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
    )


def make_real(folder: str) -> None:
    """The real rows as parts, so that they can be read in pieces."""
    examples, cardinalities = all_flights()
    deal([examples], Path(folder) / "real", 8)
    (Path(folder) / "cardinalities.json").write_text(json.dumps(cardinalities))


def repeated(real: Parts, rows: int) -> Iterator[Examples]:
    """The real rows again and again, with noise on every number."""
    chance, given = np.random.default_rng(0), 0
    spread = np.nanstd(real.read(0).numeric, axis=0).astype(np.float32)
    while given < rows:
        for number in range(len(real.rows)):
            part = real.read(number, rows - given) if rows > given else None
            if part is None:
                return
            given += len(part)
            noise = chance.standard_normal(part.numeric.shape, np.float32) * (NOISE * spread)
            yield Examples(part.numeric + noise, part.categorical, part.label, part.task)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
