"""A process that trains: `python -m sevenfold.training.worker FOLDER`, alone or as one of torchrun's.

It tells what happens as lines of JSON on standard output; of several processes the first one does.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sevenfold.errors import SevenfoldError
from sevenfold.light_imports import without_much_garbage
from sevenfold.training.job import Job
from sevenfold.training.processes import end_with_parent, joined

FAILED = 3


def main(arguments: list[str]) -> int:
    """Runs the job in the folder that is given; 0, or 3 after an error that was told."""
    end_with_parent()
    without_much_garbage()
    try:
        with joined() as processes:
            _, fitted = Job.read(Path(arguments[0])).run(
                lambda epoch: _tell(processes.first, epoch=asdict(epoch)),
                lambda progress: _tell(processes.first, progress=asdict(progress)),
                processes,
            )
            _tell(processes.first, ended={"resumed_at": fitted.resumed_at, "seconds": fitted.seconds})
    except SevenfoldError as error:
        _tell(True, error=str(error), retry=error.retry)
        return FAILED
    return 0


def _tell(first: bool, **what: Any) -> None:
    if first:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # all is told: threads that torch's process group has left may abort an interpreter that is torn down
    os._exit(code)
