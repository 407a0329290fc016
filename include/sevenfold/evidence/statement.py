"""Evidence as the supply chain knows it: an in-toto statement with a SLSA verification summary, in DSSE.

Statement: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
Predicate: https://slsa.dev/spec/v1.1/verification_summary
Envelope: https://github.com/secure-systems-lab/dsse
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sevenfold.errors import SevenfoldError

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer  # type: ignore[attr-defined]

    from sevenfold.candidates.candidate import Candidate

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
VERIFIER = "https://sevenfold.invalid/gate"
"""Who verified. A name, not an address: the key says who it really was."""


SIGNED = "statement signed"
"""What the audit log calls it."""


class BadStatement(SevenfoldError):
    """A statement that is unsigned, altered, signed by a key nobody trusts, or not over what it should be."""


class NotSigned(SevenfoldError):
    """The key that signs evidence cannot be used now; nothing was concluded."""

    retry = True


@dataclass(frozen=True)
class Evidence:
    """What a statement is about besides the candidate: where, judged how, on what.

    `measurements` is the digest of the readings judged, `count` how many, `last` the store's number of the
    last one. `audit` is number and hash of the last line of the audit log, so that cutting off its end shows.
    """

    promotion: str
    environment: str
    result: str
    verdict: str
    reason: str
    policy: str
    analysis: str
    measurements: str
    count: int
    last: int
    reports: Mapping[str, str]
    override: Mapping[str, Any] | None
    audit: tuple[int, str]


def subjects(candidate: Candidate) -> list[dict[str, Any]]:
    """The digests that a statement binds: the candidate as a whole, and the file that is served."""
    return [
        {"name": candidate.id, "digest": {"sha256": candidate.digest}},
        {"name": f"{candidate.model}.onnx", "digest": {"sha256": candidate.model_digest}},
    ]


def build(candidate: Candidate, evidence: Evidence, now: datetime) -> dict[str, Any]:
    """The statement, unsigned."""
    model, level = candidate.model, f"SEVENFOLD_{evidence.environment.upper()}"
    inputs = [
        {"uri": f"sevenfold:analysis/{evidence.promotion}", "digest": {"sha256": evidence.analysis}},
        {"uri": f"sevenfold:measurements/{evidence.promotion}", "digest": {"sha256": evidence.measurements}},
    ] + [{"uri": path, "digest": {"sha256": sha256}} for path, sha256 in sorted(evidence.reports.items())]
    predicate = {
        "verifier": {"id": VERIFIER},
        "timeVerified": now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "resourceUri": f"sevenfold://{model}/{evidence.environment}",
        "policy": {
            "uri": f"include/models/{model}/gates/{evidence.environment}.yaml",
            "digest": {"sha256": evidence.policy},
        },
        "inputAttestations": inputs,
        "verificationResult": evidence.result,
        "verifiedLevels": [level] if evidence.result == "PASSED" else [],
        "slsaVersion": "1.1",
        "sevenfold": {
            "promotion": evidence.promotion,
            "candidate": candidate.id,
            "environment": evidence.environment,
            "verdict": evidence.verdict,
            "reason": evidence.reason,
            "measurements": {"count": evidence.count, "last": evidence.last},
            "override": evidence.override,
            "audit": {"sequence": evidence.audit[0], "hash": evidence.audit[1]},
        },
    }
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects(candidate),
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }


def sign(statement: Mapping[str, Any], signer: Signer) -> str:
    """The statement in a signed DSSE envelope, as JSON text.

    Raises:
        NotSigned: the key cannot be reached, or does not sign.
    """
    from securesystemslib.dsse import Envelope

    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    try:
        envelope.sign(signer)
    except Exception as error:  # a KMS that is away has errors of its own
        raise NotSigned(f"The evidence could not be signed: {type(error).__name__}: {error}") from error
    return json.dumps(envelope.to_dict(), sort_keys=True)


def verified(envelope: str, trusted: Sequence[Key]) -> dict[str, Any]:
    """The statement inside the envelope, its signature checked.

    Raises:
        BadStatement: it is no envelope, it is unsigned, altered, or no trusted key signed it.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError

    try:
        opened = Envelope.from_dict(json.loads(envelope))
        if not trusted:
            raise BadStatement("no key is trusted here")
        if not opened.signatures:
            raise BadStatement("it is not signed")
        opened.verify(list(trusted), 1)
        statement: dict[str, Any] = json.loads(opened.payload)
    except (VerificationError, UnverifiedSignatureError) as error:
        raise BadStatement("its signature is of no trusted key, or its text was altered") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadStatement("it is no signed statement") from error
    if statement.get("_type") != STATEMENT_TYPE or statement.get("predicateType") != PREDICATE_TYPE:
        raise BadStatement("it is not a verification summary")
    return statement


def digest_of(bodies: Sequence[str]) -> str:
    """sha256 (hex) of stored texts in their order."""
    total = hashlib.sha256()
    for body in bodies:
        total.update(hashlib.sha256(body.encode()).digest())
    return total.hexdigest()
