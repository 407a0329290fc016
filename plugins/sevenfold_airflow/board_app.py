"""The pages behind /sevenfold in Airflow's api-server. Every route needs a user who may see the UI.

Our own pages run no script at all. Reports are HTML with scripts that other libraries made of data: they get
a sandbox of no origin, in which they can neither read the user's cookie nor send anything anywhere.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.records import Report
from sevenfold.evidence.store import open_store
from sevenfold.release.promotion import UnknownPromotion
from sevenfold_airflow.board_pages import board_page, evidence_page, message_page
from sevenfold_airflow.links import evidence_address, promotion_of

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OWN = EVERYWHERE | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
}
FOREIGN = EVERYWHERE | {
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; "
    "script-src 'unsafe-inline' 'unsafe-eval' blob: data:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; connect-src 'none'; form-action 'none'; frame-ancestors 'self'"
}
SHOWN = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".csv": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""What a browser shows; anything else is downloaded."""

app = FastAPI(
    title="Sevenfold",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
)


class NoReport(SevenfoldError):
    """There is no such report."""


class ReportAltered(SevenfoldError):
    """The report is not the one that the activity left."""


@app.exception_handler(SevenfoldError)
def explained(request: Request, error: SevenfoldError) -> Response:
    """What is wrong, in its one sentence, on a page."""
    status = 404 if isinstance(error, NoReport | UnknownPromotion) else 409
    return HTMLResponse(message_page(str(error)), status_code=status, headers=OWN)


@app.get("/")
def board() -> Response:
    """Every model's seven environments: what is where, and what waits for whom."""
    return HTMLResponse(board_page(open_store()), headers=OWN)


@app.get("/evidence")
def evidence(promotion: str) -> Response:
    """Everything that one promotion was decided on."""
    store = open_store()
    return HTMLResponse(evidence_page(store, store.promotion(promotion)), headers=OWN)


@app.get("/run")
def run(dag_id: str, run_id: str) -> Response:
    """The evidence of a run, for the tab on its page; Airflow puts the id of a run there unquoted."""
    return RedirectResponse(evidence_address(promotion_of(dag_id, run_id.replace(" ", "+"))))


@app.get("/task")
def task(dag_id: str, run_id: str, task_id: str) -> Response:
    """The main report of a task, for the tab on its page."""
    return main_report(promotion_of(dag_id, run_id.replace(" ", "+")), task_id)


@app.get("/report")
def main_report(promotion: str, activity: str) -> Response:
    """The main report of an activity, its first page; without any, the evidence of the promotion."""
    found = [report for report in open_store().reports(promotion) if report.activity == activity]
    pages = [report for report in found if report.path.endswith(".html")] or found
    return RedirectResponse(report_address(pages[0]) if pages else evidence_address(promotion))


@app.get("/reports/{path:path}")
def report(path: str) -> Response:
    """The bytes of a report that the store knows, unaltered.

    Raises:
        NoReport: the store knows none at this path.
        ReportAltered: the bytes have changed since the activity left them.
    """
    known = _known_report(path if path.startswith("reports/") else f"reports/{path}")
    content = open_artifacts().read(known.path)
    if hashlib.sha256(content).hexdigest() != known.sha256:
        raise ReportAltered(f"{known.path} has been altered since {known.activity} left it: it is not shown.")
    return Response(content, headers=FOREIGN | _kind(PurePosixPath(known.path)))


def report_address(report: Report) -> str:
    """Where a report is served."""
    return f"/sevenfold/{report.path}"


def _known_report(path: str) -> Report:
    parts = PurePosixPath(path).parts
    found = open_store().reports("/".join(parts[1:4])) if len(parts) > 5 else []
    for known in found:
        if known.path == path:
            return known
    raise NoReport(f"There is no report {path}.")


def _kind(path: PurePosixPath) -> dict[str, str]:
    kind = SHOWN.get(path.suffix)
    if kind:
        return {"Content-Type": kind}
    return {"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}
