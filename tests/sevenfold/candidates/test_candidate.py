from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError
from tests.sevenfold.evidence_world import candidate

from sevenfold.candidates.candidate import Candidate, hash_of_gates

GATES = {"testing": "f" * 64}


def test_the_id_is_the_model_and_a_hash_of_what_the_candidate_is() -> None:
    assert candidate("a").id == candidate("a").id
    assert candidate("a").id.startswith("coin-")
    assert candidate("a").id == f"coin-{candidate('a').digest[:12]}"


@pytest.mark.parametrize(
    "change",
    [
        {"model_digest": "b" * 64},
        {"data_snapshot": "other"},
        {"code_commit": "other"},
        {"image_digests": {"train": "sha256:1"}},
        {"gates": GATES, "policy_hash": hash_of_gates(GATES)},
        {"model": "dice"},
    ],
)
def test_another_model_data_code_image_or_policy_is_another_candidate(change: dict[str, object]) -> None:
    assert candidate("a").model_copy(update=change).model_dump() != candidate("a").model_dump()
    changed = Candidate.model_validate(candidate("a").model_dump() | change)
    assert changed.id != candidate("a").id


def test_lineage_does_not_change_the_id() -> None:
    story = {"reason": "again", "parent": "coin-1", "hyperparameters": {"epochs": 3}, "mlflow_run": "r"}
    assert Candidate.model_validate(candidate("a").model_dump() | story).id == candidate("a").id


def test_a_candidate_survives_its_text() -> None:
    assert Candidate.model_validate_json(candidate("a").model_dump_json()) == candidate("a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_digest": "short"},
        {"as_of": datetime(2013, 1, 1)},
        {"colour": "red"},
        {"model": "../coin"},
    ],
)
def test_a_candidate_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Candidate.model_validate(candidate("a").model_dump() | wrong)


def test_times_are_utc_whatever_zone_they_come_in() -> None:
    given = candidate("a").model_dump() | {"as_of": "2013-03-31T02:00:00+02:00"}
    assert Candidate.model_validate(given).as_of == datetime(2013, 3, 31, tzinfo=UTC)
