"""How requests of one model are split: the one value that the gateway, locally or on a cluster, is told."""

from __future__ import annotations

from dataclasses import dataclass

from sevenfold.errors import SevenfoldError


class BadTraffic(SevenfoldError):
    """A split that no gateway can serve."""


@dataclass(frozen=True)
class Traffic:
    """What the gateway does with the requests of `model`.

    `champion` and `challenger` are candidate ids. `share` is the part of the requests (0 to 1) that the
    challenger answers, `mirror` the part that it also sees, with its answers thrown away. `sticky` keeps a
    caller on one side. `generation` is the release row's: a gateway never goes back to an older one.
    """

    model: str
    champion: str | None
    challenger: str | None = None
    share: float = 0.0
    mirror: float = 0.0
    sticky: bool = False
    generation: int = 0

    def __post_init__(self) -> None:
        for name, part in (("share", self.share), ("mirror", self.mirror)):
            if not 0.0 <= part <= 1.0:
                raise BadTraffic(f"The traffic of {self.model} has {name} {part}, not between 0 and 1.")
        if self.challenger is None and (self.share or self.mirror):
            raise BadTraffic(f"The traffic of {self.model} has a share or a mirror but no challenger.")
        if self.champion is None and 0.0 < self.share < 1.0:
            raise BadTraffic(f"The traffic of {self.model} is split, but nobody serves the champion's part.")
