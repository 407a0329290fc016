"""supervisord, which looks after its programs ten times a second.

By itself it looks once a second, and starts a program again in the round after the one in which it saw that
it had ended: a killed gateway would be away for up to two seconds before its own start has even begun.
"""

from __future__ import annotations

from typing import Any

from supervisor import poller, supervisord

LOOK_S = 0.1


class _Poller(poller.Poller):  # type: ignore[misc]
    """Waits for news of programs and callers, and not for long."""

    def poll(self, timeout: float) -> Any:
        return super().poll(min(timeout, LOOK_S))


if __name__ == "__main__":
    poller.Poller = _Poller
    supervisord.main()
