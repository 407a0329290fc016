"""The real flights for tests: the whole year's snapshot, made once a session (about 4 CPU seconds)."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from sevenfold.data.snapshot import Snapshot, snapshot
from sevenfold.model.spec import load_spec


@lru_cache(maxsize=1)
def flights() -> Snapshot:
    """The snapshot of flight_delay in a temporary folder that goes when the tests end."""
    folder = tempfile.mkdtemp(prefix="sevenfold-flights-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return snapshot(load_spec("flight_delay"), Path(folder), progress=lambda line: None)
