"""What a person sees: signs in, opens the graph of a run, and comes to a report in one click."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.end_to_end.conftest import MODEL, Stack

from sevenfold.secrets import airflow_passwords

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.browser,
    pytest.mark.timeout(900),  # as test_whole_path: who comes first waits until the candidate is carried
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def page(running: Stack) -> Iterator[Any]:
    """A browser in which the approver has signed in."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_context(viewport={"width": 1500, "height": 950}).new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{running.settings.airflow_url}/auth/login", timeout=PATIENCE_MS)
        page.fill("input[name=username]", "approver")
        page.fill("input[name=password]", airflow_passwords(running.settings.secrets)["approver"])
        page.press("input[name=password]", "Enter")
        page.get_by_text("Dags", exact=True).first.wait_for()
        yield page
        browser.close()


@pytest.fixture(scope="module")
def run(running: Stack, carried: str) -> str:
    """The run in which testing promoted the candidate."""
    [move] = running.store.promotions(MODEL, "testing", candidate=carried)
    return move.run


def test_the_graph_of_a_run_reads_like_the_table(running: Stack, page: Any, run: str) -> None:
    page.goto(f"{running.settings.airflow_url}/dags/{MODEL}.testing/runs/{quote(run)}")
    page.locator("button[aria-label^='Show Graph']").click()
    checks = ("validate_data", "validate_model", "contract", "adversarial", "benchmark", "resources")
    for name in ("admit", *checks, "gate", "promote"):
        page.locator(".react-flow__node").get_by_text(name, exact=True).wait_for()


def test_a_report_is_one_click_from_its_task(running: Stack, page: Any, run: str) -> None:
    page.goto(f"{running.settings.airflow_url}/dags/{MODEL}.testing/runs/{quote(run)}/tasks/validate_data")
    page.locator("a[href$='/plugin/report']").click()
    report = page.frame_locator("iframe").first
    report.get_by_text("Expectation", exact=False).first.wait_for()


def test_the_board_shows_all_environments_and_why(running: Stack, page: Any, carried: str) -> None:
    page.goto(f"{running.settings.airflow_url}/sevenfold/")
    text = page.inner_text("body")
    for environment in ("development", "training", "testing", "staging", "preproduction", "production"):
        assert environment in text
    assert f"Champion {carried}" in text
    assert "good enough to go on" in text


def test_the_trigger_form_asks_for_what_a_run_needs(running: Stack, page: Any) -> None:
    page.goto(f"{running.settings.airflow_url}/dags/{MODEL}.training")
    page.get_by_role("button", name="Trigger").first.click()
    for field in (
        "The candidate of development to train in full",
        "The day that it looks back from",
        "Why; it",
    ):
        page.get_by_text(field).first.wait_for()
