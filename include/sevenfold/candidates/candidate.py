"""A candidate: one immutable bundle of model, data, code, images and policy; its id is a hash of those."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

Utc = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


def _now() -> datetime:
    return datetime.now(UTC)


class Candidate(BaseModel):
    """What moves through the environments.

    `model_digest` is the sha256 (hex) of the ONNX file, `data_snapshot` and `policy_hash` the hashes of the
    data manifest and of the gate files, `code_commit` the git commit, `image_digests` image name to digest.
    `gates` says of each environment which gate was in force when the candidate was made; `policy_hash` is the
    hash of it, so nobody can exchange one of them. The rest is lineage and does not change the id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    model_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    data_snapshot: str = Field(min_length=1)
    code_commit: str = Field(min_length=1)
    image_digests: dict[str, str] = Field(default_factory=dict)
    policy_hash: str = Field(min_length=1)
    gates: dict[str, str] = Field(default_factory=dict)

    parent: str | None = None
    as_of: Utc
    created_at: Utc = Field(default_factory=_now)
    reason: str = ""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    train_window: tuple[Utc, Utc]
    code_dirty: bool = False
    mlflow_run: str | None = None

    @model_validator(mode="after")
    def _gates_are_those_of_the_hash(self) -> Candidate:
        if self.gates and hash_of_gates(self.gates) != self.policy_hash:
            raise ValueError("policy_hash is not the hash of the gates that are named")
        return self

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of everything that makes this candidate what it is."""
        identity = {
            "model": self.model,
            "model_digest": self.model_digest,
            "data_snapshot": self.data_snapshot,
            "code_commit": self.code_commit,
            "image_digests": self.image_digests,
            "policy_hash": self.policy_hash,
        }
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def id(self) -> str:
        """`<model>-<first 12 hex digits of digest>`."""
        return f"{self.model}-{self.digest[:12]}"


def hash_of_gates(gates: Mapping[str, str]) -> str:
    """sha256 (hex) of environment to hash of its gate; an environment without a gate counts as such."""
    return hashlib.sha256(repr(sorted(gates.items())).encode()).hexdigest()
