"""What must hold after every sequence of faults, whatever was killed when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import select
from tests.activities.small_world import MODEL
from tests.benchmarks.chaos.load import Load, Said
from tests.benchmarks.chaos.world import ChaosWorld, Order

from sevenfold.environments import before
from sevenfold.evidence.passing import lacking, unapproved
from sevenfold.evidence.tables import release_history, roll_backs
from sevenfold.evidence.verify import verify
from sevenfold.gateway import local_gateway
from sevenfold.release import release

GATEWAY_BACK_S = 5.0
"""So long after its death connections may fail; it is promised back within 2 s, on a machine that is idle."""
EVERYTHING = (*before("production"), "production")


def requests(load: Load, said: Sequence[Said], gateway_killed: Sequence[float]) -> Iterator[str]:
    """Every request was answered rightly, or refused honestly: with a status and a sentence."""
    if len(said) != load.asked or not any(one.status == 200 for one in said):
        yield f"of {load.asked} requests {len(said)} have an end: some got lost, or none was answered"
    for one in said:
        if one.status == 200:
            if problem := load.wrong(one):
                yield problem
        elif one.status == -1:
            yield f"row {one.row}: no answer at all within the limit"
        elif one.status == 0:
            end = one.at + one.seconds
            if not any(death - 0.5 <= end and one.at <= death + GATEWAY_BACK_S for death in gateway_killed):
                yield f"row {one.row}: the connection failed ({one.sentence}) and no gateway had died"
        elif not one.sentence:
            yield f"row {one.row}: {one.status} without a sentence"


def served(world: ChaosWorld, said: Sequence[Said]) -> Iterator[str]:
    """Whoever answered had its record: everything before production, and a person's approval."""
    for candidate in sorted({one.candidate for one in said if one.candidate}):
        with world.store.reading() as connection:
            found = [
                lacking(connection, world.store.keys, candidate, name, None) for name in before("production")
            ]
            found.append(unapproved(connection, candidate))
            history = connection.execute(
                select(release_history.c.generation).where(
                    (release_history.c.champion == candidate)
                    | ((release_history.c.candidate == candidate) & (release_history.c.share > 0))
                )
            ).first()
        yield from (f"{candidate} answered: {missing}" for missing in found if missing)
        if history is None:
            yield f"{candidate} answered, and no release row ever gave it a request"


def row(world: ChaosWorld) -> Iterator[str]:
    """The invariants of the release row (S1 to S7, as in tests/sevenfold/release) and of its router."""
    store = world.store
    now = release.row(store, MODEL)
    if (now.candidate, now.promotion, now.share, now.mirror) != (None, None, 0.0, 0.0):
        yield f"S3 somebody is being tried by nobody: {now}"
    if local_gateway().traffic(MODEL) != release.traffic(now):
        yield f"S2 the router is {local_gateway().traffic(MODEL)}, the row {now}"
    with store.reading() as connection:
        for environment in EVERYTHING:
            if missing := lacking(connection, store.keys, now.champion or "", environment, None):
                yield f"S1 the champion: {missing}"
        history = connection.execute(select(release_history).where(release_history.c.model == MODEL)).all()
        rolled = connection.execute(select(roll_backs).where(roll_backs.c.model == MODEL)).all()
    generations = [one.generation for one in history]
    if sorted(generations) != list(range(1, now.generation + 1)):
        yield "S5 the row's generations have gaps or come twice"
    for back in rolled:
        if any(one.champion == back.candidate for one in history if one.generation >= back.generation):
            yield f"S4 {back.candidate} serves again after it was rolled back"
    yield from (f"S6 {problem}" for problem in verify(store))
    passed = {one.id for one in store.promotions(MODEL) if one.state == "promoted"}
    ends = [line.detail["promotion"] for line in store.audit_lines() if line.what == "promotion promoted"]
    if sorted(ends) != sorted(passed):
        yield "L2 a finished promotion acted again"


def ended(world: ChaosWorld, order: Order, seconds: float, limit: float, kills: int) -> Iterator[str]:
    """The promotion has ended, in time and in the only way that its candidate deserves."""
    promotion = world.found(order)
    if promotion is None or promotion.state == "running":
        yield f"L1 {order.promotion} has not ended after {seconds:.0f} s"
        return
    if seconds > limit:
        yield f"L1 {order.promotion} took {seconds:.0f} s, its deadline is {limit:.0f} s"
    if order.breaks and promotion.state == "promoted":
        yield f"S7 {order.candidate.id} breaks and was promoted: {promotion.outcome}"
    if not order.breaks and not kills and promotion.state != "promoted":
        why = f"{promotion.state}: {promotion.outcome}"
        yield f"{order.candidate.id} is good, nothing was killed, and it is {why}"
    elif not order.breaks and promotion.state == "refused":
        yield f"{order.candidate.id} is good and was refused: {promotion.outcome}"
    champion = release.row(world.store, MODEL).champion
    if (promotion.state == "promoted") != (champion == order.candidate.id):
        yield f"{order.promotion} is {promotion.state}, and {champion} is champion"
