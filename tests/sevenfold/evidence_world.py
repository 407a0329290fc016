"""A small world to test evidence in: candidates, promotions, and gates that say what the test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import text

from sevenfold.candidates.candidate import Candidate, hash_of_gates
from sevenfold.environments import ENVIRONMENTS, before
from sevenfold.evidence.store import Store
from sevenfold.gates.analysis import AnalysisRun, MetricResult
from sevenfold.gates.conclude import conclude
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.verdict import Verdict
from sevenfold.people.approval import approvals_of, record_approval
from sevenfold.people.identity import sign_as
from sevenfold.people.override import grant_override, request_override, terms_of
from sevenfold.people.request import Request, find_request, grant, granting, wording
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold.release.release_row import ReleaseRow

MODEL = "coin"
AS_OF = datetime(2013, 3, 31, tzinfo=UTC)
APPROVER, REQUESTER, OPERATOR = "ann", "bob", "olga"
GATE = "f" * 64
GATES = dict.fromkeys(ENVIRONMENTS, GATE)


@lru_cache
def private_key(person: str) -> bytes:
    """The person's SSH key: one a person, for as long as the tests run."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def public_key(person: str) -> bytes:
    """Its public half, as it stands in a .pub file."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    key = load_ssh_private_key(private_key(person), None).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def signed(person: str, content: Mapping[str, Any]) -> str:
    """What the person signs."""
    return sign_as(content, private_key(person))


def candidate(letter: str, model: str = MODEL, testing: str = GATE) -> Candidate:
    """One of sixteen candidates, made under these gates; that of testing may be another one."""
    gates = GATES | {"testing": testing}
    return Candidate(
        model=model,
        model_digest=letter * 64,
        data_snapshot="data",
        code_commit="code",
        policy_hash=hash_of_gates(gates),
        gates=gates,
        as_of=AS_OF,
        train_window=(AS_OF, AS_OF),
        created_at=AS_OF,
    )


def analysis(promotion: Promotion, verdict: str, failing: Sequence[str] = ("auc",)) -> AnalysisRun:
    """What a gate says; `failing` are the metrics whose verdict it is."""
    results = [
        MetricResult(
            metric=metric, activity="benchmark", slice=None, rule="at_least", verdict=Verdict(verdict),
            reason=f"{metric} is 0.7, which is {verdict.lower()}.", value=0.7, n=1000,
        )
        for metric in failing
    ]  # fmt: skip
    return AnalysisRun(
        promotion=promotion.id,
        candidate=promotion.candidate or "",
        environment=promotion.environment,
        policy_hash=GATE,
        verdict=Verdict(verdict),
        reason=f"{failing[0]} is 0.7, so the gate says {verdict}.",
        metrics=tuple(results),
    )


class World:
    """One store, and short ways to bring it where a test begins."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def begin(self, candidate: Candidate | None, environment: str, run: str = "run") -> Promotion:
        """A promotion that has begun."""
        return self.store.begin_promotion(
            MODEL, environment, run, candidate.id if candidate else None, AS_OF, "a test", {}, REQUESTER
        )

    def measure(self, promotion: Promotion, value: float = 0.7, interval: str | None = None) -> Measurement:
        """One reading of the promotion."""
        carried = self.store.candidate(promotion.candidate or "")
        reading = Measurement(
            promotion=promotion.id, candidate=carried.id, activity="benchmark", metric="auc", value=value,
            n=1000, digest=carried.model_digest, interval=interval, measured_at=AS_OF,
        )  # fmt: skip
        self.store.record([reading])
        return reading

    def judged(
        self, candidate: Candidate, environment: str, verdict: str = "Successful", run: str = "run"
    ) -> Promotion:
        """A promotion from its beginning to its conclusion."""
        promotion = self.begin(candidate, environment, run)
        self.measure(promotion)
        return conclude(self.store, promotion.id, analysis(promotion, verdict))

    def proven(self, letter: str, run: str = "run") -> Candidate:
        """A candidate that may go to production: all passed, and approved."""
        made = self.store.add_candidate(candidate(letter))
        if approvals_of(self.store, made.id):
            return made
        for environment in before("production"):
            promotion = self.judged(made, environment, run=f"{letter}-{run}")
        record_approval(self.store, promotion.id, APPROVER, "looks good")
        return made

    def rolling(self, candidate: Candidate, share: float = 0.1, run: str = "run") -> Promotion:
        """A production promotion with some of the requests."""
        promotion = self.begin(candidate, "production", f"{candidate.id}-{run}")
        release.claim(self.store, promotion.id, OPERATOR)
        release.set_share(self.store, promotion.id, share, OPERATOR)
        return promotion

    def crowned(self, letter: str, run: str = "run") -> Candidate:
        """A champion."""
        made = self.proven(letter, run)
        promotion = self.rolling(made, run=run)
        conclude(self.store, promotion.id, analysis(promotion, "Successful"))
        release.settle(self.store, promotion.id, OPERATOR)
        return made

    def know(self, *people: str) -> None:
        """Makes people known by their keys."""
        for person in people:
            self.store.people.add(person, public_key(person))

    def asks_override(
        self,
        promotion: Promotion,
        scope: Sequence[str],
        until: datetime,
        by: str = REQUESTER,
        reason: str = "known gap",
    ) -> Request:
        """A person asks to exempt a promotion, by signature."""
        envelope = signed(by, wording("override", promotion.id, terms_of(scope, until), reason))
        return request_override(self.store, promotion.id, by, reason, scope, until, envelope)

    def grants_override(self, request: Request, by: str = APPROVER, reason: str = "agreed") -> Promotion:
        """Another person grants it, by signature."""
        return grant_override(self.store, request.number, by, reason, self.signs_grant(request, by, reason))

    def grants(self, request: Request, by: str = APPROVER, reason: str = "agreed") -> Request:
        """A person grants a change of a gate or of the anchor, by signature."""
        with self.store.writing() as connection:
            envelope = self.signs_grant(request, by, reason)
            return grant(connection, self.store.people, request.number, reason, by, envelope)

    def signs_grant(self, request: Request, by: str, reason: str = "agreed") -> str:
        """What a person signs to grant a request."""
        with self.store.reading() as connection:
            return signed(by, granting(find_request(connection, request.number), reason))

    @property
    def row(self) -> ReleaseRow:
        """What production serves now."""
        return release.row(self.store, MODEL)


def tamper(store: Store, table: str, change: str) -> None:
    """What somebody with the database file can do: triggers do not stop them, signatures must."""
    with store.writing() as connection:
        for action in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_{action}"))
        changed = connection.execute(text(change))
        assert changed.rowcount
