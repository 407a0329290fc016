"""Imports modules as if only some distributions were installed: `without.py MODULE... < allowed`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from types import ModuleType


class OnlyAllowed(MetaPathFinder):
    """Hides every installed package that no allowed distribution brings."""

    def __init__(self, allowed: set[str]) -> None:
        self._hidden = {
            package
            for package, distributions in packages_distributions().items()
            if not allowed & {name(distribution) for distribution in distributions}
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing is found here; what is hidden is not found at all."""
        if fullname.partition(".")[0] in self._hidden:
            raise ModuleNotFoundError(f"{fullname} is not in this image", name=fullname)
        return None


def name(distribution: str) -> str:
    """A distribution's name as PyPI normalises it."""
    return distribution.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.meta_path.insert(0, OnlyAllowed({line.strip() for line in sys.stdin}))
    for module in sys.argv[1:]:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as missing:
            print(f"missing: {module}: {missing}")
