"""What the README tells people to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from sevenfold.cli.main import app
from sevenfold.model import tasks

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^\W*make ([a-z-]+)", README, re.MULTILINE))))
def test_every_make_target_exists_and_is_listed(target: str) -> None:
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\bsevenfold(?:\.cli)? ([a-z][a-z-]*)", README))))
def test_every_command_exists(command: str) -> None:
    assert command in get_command(app).commands  # type: ignore[attr-defined]


def test_new_model_is_told_whole() -> None:
    chapter = README[README.index("## Ten minutes to your own model") :]
    chapter = chapter[: chapter.index("\n## ", 5)]
    assert "make new-model NAME=churn" in chapter
    assert {f"`{kind}`" for kind in tasks.KINDS} <= set(re.findall(r"`\w+`", chapter))
    folder = ROOT / "include" / "sevenfold" / "scaffold" / "folder"
    made = {path.relative_to(folder).parts[0].removesuffix(".txt") for path in folder.rglob("*.txt")}
    told = set(re.findall(r"`([\w.]+)(?:/[^`]*)?`", chapter))
    assert made - {"__init__.py"} <= told
