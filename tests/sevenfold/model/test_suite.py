"""A suite that gives no result ends as one sentence, not as a pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from sevenfold.errors import SevenfoldError
from sevenfold.model import suite

OPTIONS = """
def pytest_addoption(parser):
    for name in ("--candidate-file", "--as-of", "--data"):
        parser.addoption(name)
"""


def run(folder: Path, tests: str) -> None:
    (folder / "conftest.py").write_text(OPTIONS)
    (folder / "test_minimum.py").write_text(tests)
    suite.run_suite(folder, folder / "model.onnx", "2020-01-01", folder)


def test_a_suite_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "LONGEST_S", 1)
    with pytest.raises(SevenfoldError, match="was not done after 1 s"):
        run(tmp_path, "import time\n\ndef test_it():\n    time.sleep(60)\n")


@pytest.mark.parametrize("tests", ["", "def nothing(:\n"], ids=["no tests", "no Python"])
def test_a_suite_that_cannot_run_is_no_result(tmp_path: Path, tests: str) -> None:
    with pytest.raises(SevenfoldError, match="did not run"):
        run(tmp_path, tests)


def test_a_folder_without_a_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(SevenfoldError, match="holds no tests"):
        suite.run_suite(tmp_path, tmp_path / "model.onnx", "2020-01-01", tmp_path)
