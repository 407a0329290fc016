"""The folders of all models whose gates are ours: those that ship, and a new one of each kind of task."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from sevenfold.model import tasks
from sevenfold.model.scaffold import new_model
from sevenfold.settings import REPOSITORY


@lru_cache(maxsize=1)
def every_model() -> tuple[Path, ...]:
    """In a folder of models each; new ones are named after their kind of task."""
    shipped = REPOSITORY / "include" / "models"
    scaffolded = Path(tempfile.mkdtemp(prefix="sevenfold-new-models-"))
    atexit.register(shutil.rmtree, scaffolded, ignore_errors=True)
    return (
        *sorted(path.parent for path in shipped.glob("*/model.yaml")),
        *(new_model(f"new_{kind}", kind, "tests", scaffolded) for kind in tasks.KINDS),
    )
