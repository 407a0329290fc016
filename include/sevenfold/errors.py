"""The errors a person may see: one sentence that names what is wrong and where."""

from __future__ import annotations

NO_RETRY_HELPS = 64
"""Exit code of a program whose input must be put right first (EX_USAGE of sysexits.h)."""


class SevenfoldError(Exception):
    """Something a person can put right. The message is one sentence naming what and where.

    `retry` says whether the same call may succeed later without anybody's doing.
    """

    retry: bool = False
