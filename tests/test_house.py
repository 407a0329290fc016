"""The house rules that a machine can check: format, lint, types, and the rules of who may import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "command",
    [("ruff", "format", "--check", "--diff", "."), ("ruff", "check", "."), ("mypy",)],
    ids=["format", "lint", "types"],
)
def test_code_is_clean(command: tuple[str, ...]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


# Rooms may look down, never up.
FORBIDDEN = {
    "include/sevenfold": {"airflow", "activities", "models", "sevenfold_airflow"},
    "include/activities": {"airflow", "models", "sevenfold_airflow"},
    "include/models": {"airflow", "activities", "sevenfold_airflow"},
    "plugins": {"activities", "models"},
    "dags": {"activities", "models"},
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_look_down_never_up(room: str) -> None:
    seen = 0
    for path in sorted((ROOT / room).rglob("*.py")):
        for name in _imports(path):
            seen += 1
            assert name.split(".")[0] not in FORBIDDEN[room], f"{path.relative_to(ROOT)} imports {name}"
    assert seen, f"{room} imports nothing at all: is it still there?"


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append(node.module)
    return names


def test_end_to_end_tests_are_where_make_test_looks_for_them() -> None:
    """It collects their folder only: importing all other tests first takes 14 s of CPU."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    marked = {path for path in files if re.search(r"\bpytest\.mark\.end_to_end\b", path.read_text())}
    assert marked == {path for path in files if path.parent.name == "end_to_end"}


def test_every_direct_dependency_has_its_reason() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    bare = [line for line in lines if line and not line.startswith("#") and "#" not in line]
    assert not bare, f"say why these are here: {bare}"


def test_every_direct_dependency_is_locked() -> None:
    def name(line: str) -> str:
        requirement = line.split("#")[0].split(";")[0].split("[")[0]
        for sign in "=<>~":
            requirement = requirement.split(sign)[0]
        return requirement.strip().lower().replace("_", "-").replace(".", "-")

    locked = {name(line) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    direct = {name(line) for line in (ROOT / "requirements.txt").read_text().splitlines()} - {""}
    assert direct <= locked, f"run make lock: {sorted(direct - locked)} are not in requirements.lock"
