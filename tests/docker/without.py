"""Imports or runs modules as if only some distributions were installed.

without.py MODULE... < allowed
without.py --run MODULE ARGUMENT... < allowed
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder, packages_distributions
from types import ModuleType


class OnlyAllowed(MetaPathFinder):
    """Hides every installed package that no allowed distribution brings."""

    def __init__(self, allowed: set[str]) -> None:
        self._allowed = allowed
        self._hidden = {
            package
            for package, distributions in packages_distributions().items()
            if not allowed & {name(distribution) for distribution in distributions}
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What is hidden is not found, as if it were not there."""
        if fullname.partition(".")[0] in self._hidden:
            return None
        return PathFinder.find_spec(fullname, path, target)

    def find_distributions(self, context: DistributionFinder.Context) -> Iterator[Distribution]:
        """What is not allowed has no metadata either."""
        found = PathFinder.find_distributions(context)
        return (one for one in found if name(one.metadata["Name"]) in self._allowed)


def name(distribution: str) -> str:
    """A distribution's name as PyPI normalises it."""
    return distribution.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    allowed = OnlyAllowed({line.strip() for line in sys.stdin})
    sys.meta_path[:] = [allowed if finder is PathFinder else finder for finder in sys.meta_path]
    if sys.argv[1] == "--run":
        sys.argv = sys.argv[2:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        for module in sys.argv[1:]:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as missing:
                print(f"missing: {module}: {missing}")
