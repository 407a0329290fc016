"""A sample of rows: what ideas are tried on, and settings sought with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def sample(rows: pa.Table, wanted: int, seed: int) -> pa.Table:
    """So many of the rows, drawn at random and kept in their order; all of them if there are not more."""
    if rows.num_rows <= wanted:
        return rows
    drawn = np.random.default_rng(seed).choice(rows.num_rows, wanted, replace=False)
    return rows.take(np.sort(drawn))
