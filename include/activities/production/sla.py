"""The SLA against its error budget: what callers of production met in the last 30 days, this canary included.

When the budget is spent nothing new is released by itself: a person is asked, as a service that already
breaks its promise is no place to try something.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sevenfold.activity import Activity, run
from sevenfold.gates.rules import words
from sevenfold.gateway import open_gateway
from sevenfold.monitoring.error_budget import LATELY, WINDOW, Budget, budgets, callers_answers
from sevenfold.reports import page


def main(activity: Activity) -> None:
    """Leaves how much of each budget is spent, and the burn rate of errors."""
    now, marks = datetime.now(UTC), open_gateway().marks
    answers = callers_answers(activity.store, activity.settings.logs, activity.promotion.model, marks)
    found = budgets(activity.spec, answers, now)
    for budget in found:
        name = f"{budget.what}_spent" if budget.window is WINDOW else f"{budget.what}_burn_rate"
        activity.measure(name, budget.spent, unit="times what is promised", n=budget.n)
        activity.progress(sentence(budget))
    activity.report("sla.html", report(activity, found), "SLA and error budget")


def sentence(budget: Budget) -> str:
    """What there is to say of one budget."""
    when = "the last 30 days" if budget.window is WINDOW else f"the last {words.duration(LATELY)}"
    first = f" (the first on {budget.first:%Y-%m-%d at %H:%M})" if budget.first else ""
    return (
        f"{budget.what}: {budget.bad:,} of {budget.n:,} requests in {when}{first}, "
        f"{budget.allowed:,.0f} allowed: {budget.spent:.2f} times the budget"
    )


def report(activity: Activity, found: list[Budget]) -> str:
    """The page: a line for each promise and window."""
    rows = [
        (
            budget.what,
            words.duration(budget.window),
            f"{budget.first:%Y-%m-%d %H:%M}" if budget.first else "none",
            budget.n,
            budget.bad,
            budget.allowed,
            budget.spent,
        )
        for budget in found
    ]
    sla = activity.spec.serving.sla
    return page.page(
        f"{activity.spec.title}: SLA and error budget",
        page.text(
            f"Promised: at most {words.amount(sla.error_rate, 'share')} of the requests fail, and 99 of 100 "
            f"are answered within {sla.p99_ms:g} ms, at {sla.rate:g} requests a second."
        ),
        page.table(
            ("promise", "window", "first", "requests", "broke it", "allowed", "spent, 1 is all"), rows
        ),
    )


if __name__ == "__main__":
    run(main)
