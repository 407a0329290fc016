"""Who may serve where."""

from __future__ import annotations

import pytest
from tests.sevenfold.serving.tiny import Passes

from sevenfold.serving.admission import NotAdmitted, UnknownSlot, arm, require_admission

CHAIN = ("training", "testing", "staging", "preproduction")
NEEDED = {"testing": 1, "staging": 2, "shadow": 3, "challenger": 4, "champion": 4}


@pytest.mark.parametrize(("slot", "count"), NEEDED.items())
def test_a_slot_needs_all_environments_before_its_own(slot: str, count: int) -> None:
    needed = [("c", environment) for environment in CHAIN[:count]]
    require_admission(Passes(*needed), "c", slot)
    for missing in needed:
        held = [one for one in needed if one != missing] or [("other", "training")]
        with pytest.raises(NotAdmitted):
            require_admission(Passes(*held), "c", slot)


def test_the_refusal_names_what_is_missing() -> None:
    with pytest.raises(NotAdmitted, match=r"c may not serve as shadow: .* statement of testing, staging"):
        require_admission(Passes(("c", "training")), "c", "shadow")


def test_evidence_of_another_candidate_is_none() -> None:
    with pytest.raises(NotAdmitted):
        require_admission(Passes(("d", "training")), "c", "testing")


def test_a_slot_may_have_a_suffix() -> None:
    assert arm("staging-load") == "staging"
    with pytest.raises(NotAdmitted):
        require_admission(Passes(("c", "training")), "c", "staging-load")


@pytest.mark.parametrize("slot", ["", "prod", "champions", "-staging"])
def test_an_unknown_slot_is_refused(slot: str) -> None:
    with pytest.raises(UnknownSlot, match="there is no slot"):
        arm(slot)
