"""Makes the README's pictures of the board and of the quality in production, from what a demo has left.

    make pictures

Only evidence is read, so the stack need not run. docs/graph.png is Airflow's own page of a run of testing.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.store import Store, open_store
from sevenfold.model.spec import load_spec
from sevenfold_airflow.board_pages import board_page

HERE = Path(__file__).parent
MODEL = "flight_delay"
VIEW = {"width": 1500, "height": 620}
QUALITY = "observed_over_expected.png"


def main() -> None:
    """Writes board.png and quality.png beside this file."""
    store = open_store()
    reports = [one for move in store.promotions(MODEL, "monitoring") for one in store.reports(move.id)]
    shown = [report for report in reports if report.path.endswith(f"/monitor/{QUALITY}")]
    if not shown:
        raise SevenfoldError(f"monitoring has not looked at {MODEL} yet: make demo first")
    (HERE / "quality.png").write_bytes(open_artifacts().read(shown[-1].path))
    board(store, HERE / "board.png")
    for name in ("quality.png", "board.png"):
        _fewer_colours(HERE / name)
        print(f"made docs/{name}")


def board(store: Store, file: Path) -> None:
    """The model's part of the board as a browser shows it.

    Raises:
        SevenfoldError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SevenfoldError("no Chromium here to draw the board with: tests/browser.sh installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=VIEW)
        page.set_content(board_page(store))
        title = page.get_by_role("heading", name=load_spec(MODEL).title, exact=True)
        title.evaluate("heading => heading.scrollIntoView()")
        page.screenshot(path=file)
        browser.close()


def _fewer_colours(file: Path) -> None:
    Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    try:
        main()
    except SevenfoldError as error:
        sys.exit(str(error))
