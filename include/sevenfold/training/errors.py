"""What training says when it cannot go on."""

from __future__ import annotations

from sevenfold.errors import SevenfoldError


class CannotLearn(SevenfoldError):
    """Data or settings from which nothing can be learned."""
