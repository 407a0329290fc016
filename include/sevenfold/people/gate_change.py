"""A gate that changed after a candidate was made: it judges that candidate only if two people let it.

A gate is an environment's policy at the time of judging, and a candidate says which gates were in force when
it was made. Where the two differ somebody has moved the bar while it was being jumped: the gate says Error,
its statements do not count and the server loads nothing on them, until one person has asked for the change
and another one has granted it. A candidate made anew is made under the new gates, and needs nothing of this.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.tables import policies
from sevenfold.gates.policy import Policy
from sevenfold.people.request import Request, ask, find_requests, flaw

if TYPE_CHECKING:
    from sevenfold.candidates.candidate import Candidate
    from sevenfold.evidence.store import Store
    from sevenfold.people.identity import People

UNCHANGED = ""
WORDS = ("meaning", "description")
"""Keys that say something to people and decide nothing."""


class MovedBar(SevenfoldError):
    """A gate that changed after the candidate was made, and that nobody let judge it."""


class NoGateChange(SevenfoldError):
    """The gate is the one that the candidate was made under, or the store does not know that one."""


def keep(connection: Connection, gates: list[Policy]) -> None:
    """Keeps the text of gates, so that it can be read and compared long after their files have changed."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    for gate in gates:
        row = {
            "hash": gate.hash,
            "model": gate.model,
            "environment": gate.environment,
            "body": gate.model_dump_json(),
            "at": datetime.now(UTC),
        }
        connection.execute(dialect.insert(policies).values(row).on_conflict_do_nothing())


def kept(connection: Connection, hash: str) -> Policy | None:
    """The gate with this hash, if the store has its text and that is unaltered."""
    body = connection.scalar(select(policies.c.body).where(policies.c.hash == hash))
    gate = Policy.model_validate_json(body, strict=False) if body is not None else None
    return gate if gate is not None and gate.hash == hash else None


def accepted(
    connection: Connection, people: People, candidate: Candidate, environment: str
) -> dict[str, str]:
    """The gates that may judge the candidate: hash to what is said of it ('' for the one it was made under).

    From that one on, along changes that two people let through; a change that is not signed by them leads
    nowhere, and a gate that was given up is not reached from the one that followed it.
    """
    own = candidate.gates.get(environment)
    found = {} if own is None else {own: UNCHANGED}
    changes = find_requests(connection, "gate", subject_of(candidate.model, environment))
    waiting = list(found)
    while waiting:
        before = waiting.pop()
        for change in (change for change in changes if change.granted_by is not None):
            after = str(change.terms["to"])
            if change.terms["from"] == before and after not in found and flaw(people, change) is None:
                found[after] = _said(change)
                waiting.append(after)
    return found


def refused(store: Store, candidate: Candidate, gate: Policy) -> str:
    """Why the gate may not judge the candidate, in one sentence; empty when it may."""
    with store.reading() as connection:
        if gate.hash in accepted(connection, store.people, candidate, gate.environment):
            return ""
        was = kept(connection, candidate.gates.get(gate.environment, ""))
    return refusal(candidate, gate, was)


def require_accepted(store: Store, candidate: Candidate, gate: Policy) -> Policy:
    """The gate, if it may judge the candidate: before anything is done by it that users would feel.

    Raises:
        MovedBar: it may not.
    """
    why_not = refused(store, candidate, gate)
    if why_not:
        raise MovedBar(why_not)
    return gate


def request_change(
    store: Store, candidate: Candidate, gate: Policy, reason: str, by: str, envelope: str | None = None
) -> Request:
    """Asks that the gate as it is now may judge the candidate, and others made under the same gate.

    Raises:
        NoGateChange: it may already.
        BadRequest, UnknownPerson: see sevenfold.people.request.ask.
    """
    with store.writing() as connection:
        terms = terms_of(candidate, gate)
        keep(connection, [gate])
        subject = subject_of(candidate.model, gate.environment)
        return ask(connection, store.people, "gate", subject, terms, reason, by, envelope)


def terms_of(candidate: Candidate, gate: Policy) -> dict[str, str]:
    """From which gate to which one.

    Raises:
        NoGateChange: there is no difference, or the candidate does not say what it was made under.
    """
    own = candidate.gates.get(gate.environment)
    if own is None:
        raise NoGateChange(
            f"Candidate {candidate.id} was made when {gate.environment} had no gate, or does not say which: "
            "make it anew."
        )
    if own == gate.hash:
        raise NoGateChange(f"The gate of {gate.environment} is the one that {candidate.id} was made under.")
    return {"from": own, "to": gate.hash}


def subject_of(model: str, environment: str) -> str:
    """What a request to change a gate is about."""
    return f"{model}/{environment}"


def refusal(candidate: Candidate, gate: Policy, was: Policy | None) -> str:
    """The sentence for a gate that nobody let judge this candidate."""
    changes = "; ".join(differences(was, gate)) if was is not None else "what it was is not known"
    return (
        f"The gate of {gate.environment} is not the one that {candidate.id} was made under ({changes}), and "
        "nobody let the change through: nothing is promoted until two people do, or a new candidate is made."
    )


def differences(before: Policy, after: Policy) -> list[str]:
    """What differs between two gates, one phrase each: 'errors of canary: limit 0.01 is now 0.05'."""
    old, new = _by_name(before), _by_name(after)
    found = [f"{name} is not asked any more" for name in old if name not in new]
    for name, asked in new.items():
        if name not in old:
            found.append(f"{name} is asked now")
            continue
        found += [
            f"{name}: {key} {_word(old[name][key])} is now {_word(asked[key])}"
            for key in asked
            if asked[key] != old[name][key] and key not in WORDS
        ]
    return found or ["its words only"]


def moved(connection: Connection, before: Candidate, after: Candidate) -> list[str]:
    """What of the gates changed between two candidates, one phrase each with its environment.

    A bar may be moved before a candidate is made, too: nobody has to let that through, but whoever approves
    the candidate should see it.
    """
    found = []
    for environment in {**before.gates, **after.gates}:
        was, now = before.gates.get(environment), after.gates.get(environment)
        if was == now:
            continue
        old, new = (kept(connection, hash or "") for hash in (was, now))
        if was is None or now is None:
            found.append(f"{environment}: there {'was no gate' if was is None else 'is no gate now'}")
        elif old is None or new is None:
            found.append(f"{environment}: changed, and its text is not kept")
        else:
            found += [f"{environment}: {difference}" for difference in differences(old, new)]
    return found


def _by_name(gate: Policy) -> dict[str, dict[str, object]]:
    """What a gate asks by name, and the gate's own keys under its environment's name."""
    dumped = gate.model_dump(mode="json")
    metrics = dumped.pop("metrics")
    often = Counter((one["metric"], one["activity"]) for one in metrics)
    found: dict[str, dict[str, object]] = {gate.environment: dumped}
    for one in metrics:
        alone = often[one["metric"], one["activity"]] == 1
        which = (
            "" if alone else f" ({one['rule']}, baseline {one['baseline']}, slices {_word(one['slices'])})"
        )
        found[f"{one['metric']} of {one['activity']}{which}"] = one
    return found


def _word(value: object) -> str:
    return "none" if value is None else json.dumps(value).strip('"')


def _said(change: Request) -> str:
    return (
        f"the gate was changed after the candidate was made, as {change.requested_by} asked "
        f"({change.reason}) and {change.granted_by} granted ({change.granted_because})"
    )
