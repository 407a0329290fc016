"""The notebooks: they run from top to bottom on a small model, and are kept without outputs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests import toy

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "include").rglob("*.ipynb"))
PARAMETERS = 'MODEL = "toy"\nAS_OF = None\nSAMPLE_ROWS, TRIALS, SEED = 900, 2, 0\nHAND_OVER = False\n'


def test_there_is_one_where_people_look() -> None:
    assert ROOT / "include" / "notebooks" / "development.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [], f"clear the outputs of {path.name} before you commit it"
            assert cell.execution_count is None


def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.spec_in(tmp_path / "models")
    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEVENFOLD_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "include"), str(ROOT)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(ROOT / "include" / "notebooks" / "development.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert parameters.source.startswith('MODEL = "flight_delay"')
    parameters.source = PARAMETERS
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(str(output.get("text", "")) for output in outputs)
    assert "rows, 10.0% without a label" in said
    assert "the settings" in said
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 8
    last = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert "fill in the form of toy.development with {'sample_rows': 900" in last


def test_make_notebook_opens_jupyterlab_on_loopback_with_its_token() -> None:
    shown = subprocess.run(
        ["make", "-n", "notebook"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "--ip=127.0.0.1" in shown
    assert "include/notebooks" in shown
    assert "token" not in shown, "JupyterLab's own token, new at each start, must stay"
