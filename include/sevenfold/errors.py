"""The errors a person may see: one sentence that names what is wrong and where."""

from __future__ import annotations


class SevenfoldError(Exception):
    """Something a person can put right. The message is one sentence naming what and where.

    `retry` says whether the same call may succeed later without anybody's doing.
    """

    retry: bool = False
