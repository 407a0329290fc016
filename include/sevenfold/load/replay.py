"""Real rows as requests of a load: single ones, and small batches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from sevenfold.data.snapshot import snapshot
from sevenfold.load.generator import Kind

if TYPE_CHECKING:
    from sevenfold.activity import Activity

BATCH = 8
"""Rows of a small batch."""
BODIES = 100
"""Different requests of each kind, sent in turn."""
LOOK_BACK = timedelta(days=3)
MIX = (0, 0, 0, 1)
"""Places in `replayed`: three single rows, then a small batch."""


def replayed(activity: Activity, path: str, sizes: Sequence[int] = (1, BATCH)) -> list[Kind]:
    """One kind of request a size, of the model's newest rows; `path` is the deployment's, below the host."""
    from sevenfold.trials.asking import bodies

    end = activity.promotion.as_of
    rows = snapshot(activity.spec, activity.settings.data).rows(end - LOOK_BACK, end)
    return [
        Kind(
            "1 row" if size == 1 else f"{size} rows",
            f"{path}/infer",
            [
                body.decode()
                for body in bodies(activity.spec, rows.slice(max(0, rows.num_rows - size * BODIES)), size)
            ],
        )
        for size in sizes
    ]
