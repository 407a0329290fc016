"""Which packages our code may ever ask for: also inside functions, and of the programs that it starts."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from tests.docker.making import ROOT

ROOMS = (ROOT / "include", ROOT / "plugins")
STANDARD = sys.stdlib_module_names


def packages(modules: Iterable[str]) -> dict[str, str]:
    """What these modules of ours, and all of ours that they lead to, name of others; and by which way."""
    led_by: dict[str, str] = dict.fromkeys(modules, "")
    todo, found = [*led_by], {}
    while todo:
        module = todo.pop()
        for name in sorted(_names(module)):
            if _file(name) is None:
                top = name.partition(".")[0]
                if top not in STANDARD and _file(top) is None:
                    found.setdefault(top, f"{top} <- {' <- '.join(_way(module, led_by))}")
            elif name not in led_by:
                led_by[name] = module
                todo.append(name)
    return found


def by(file: Path) -> set[str]:
    """The modules of others that one file names."""
    return {name for name in _in(ast.parse(file.read_text())) if name.partition(".")[0] not in STANDARD}


def _way(module: str, led_by: dict[str, str]) -> Iterator[str]:
    while module:
        yield module
        module = led_by[module]


@cache
def _file(module: str) -> Path | None:
    """The file, or folder without one, of a module of ours."""
    for room in ROOMS:
        place = room / module.replace(".", "/")
        for file in (place.with_suffix(".py"), place / "__init__.py", place):
            if file.exists():
                return file
    return None


@cache
def _names(module: str) -> frozenset[str]:
    file = _file(module)
    return frozenset(_in(ast.parse(file.read_text()))) if file and file.is_file() else frozenset()


def _in(tree: ast.AST) -> Iterator[str]:
    """The modules that code imports, and those that it runs by `-m`; not what types alone need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (name for alias in node.names if _file(name := f"{node.module}.{alias.name}"))
        elif isinstance(node, ast.List | ast.Tuple):
            texts = [one.value if isinstance(one, ast.Constant) else None for one in node.elts]
            yield from (str(run) for flag, run in pairwise(texts) if flag == "-m" and run)
        yield from _in(node)
