"""Whether rows fit into memory, and into how many parts they are dealt if they do not."""

from __future__ import annotations

SHARE_FOR_ALL = 1 / 8
"""Of the pod's memory that all encoded rows may take: beside them lie the table that they come from and, in
double precision, what their means and spreads are computed from."""
SHARE_FOR_ONE = 1 / 16
"""Of the pod's memory that one part may take: beside it lie the libraries and the file that is being read."""


def parts_for(rows: int, numeric: int, categorical: int, memory: int, chunk_rows: int = 0) -> int:
    """Into how many parts to deal rows of so many columns.

    Args:
        memory: of the pod, in bytes.
        chunk_rows: rows that may be in memory at a time; 0: as many as the memory allows.
    """
    bytes_a_row = 4 * numeric + 8 * categorical + 4
    if not chunk_rows and rows * bytes_a_row <= memory * SHARE_FOR_ALL:
        return 1
    return max(1, -(-rows // (chunk_rows or max(1, int(memory * SHARE_FOR_ONE) // bytes_a_row))))
