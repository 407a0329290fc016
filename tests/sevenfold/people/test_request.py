"""Requests: two people, each by a key of their own, or nothing changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert
from tests.sevenfold.evidence_world import (
    APPROVER,
    OPERATOR,
    REQUESTER,
    World,
    analysis,
    candidate,
    private_key,
    public_key,
    signed,
)

from sevenfold.evidence.tables import grants
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import conclude
from sevenfold.gates.explain import explain
from sevenfold.people.anchor import NoAnchor, anchor, request_anchor
from sevenfold.people.approval import SamePerson
from sevenfold.people.identity import People, UnknownPerson, is_locked, sign_as
from sevenfold.people.override import BadOverride, grant_override, request_override, terms_of
from sevenfold.people.request import BadRequest, Request, find_request, open_requests, wording
from sevenfold.release.promotion import Promotion
from sevenfold.settings import settings


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(days=7)


@pytest.fixture
def refused(world: World) -> Promotion:
    """A candidate refused by preproduction, and two people who are known."""
    world.know(REQUESTER, APPROVER)
    return world.judged(world.store.add_candidate(candidate("a")), "preproduction", "Failed")


def test_an_override_where_users_are_concerned_takes_two_people(world: World, refused: Promotion) -> None:
    asked = world.asks_override(refused, ["auc"], soon())
    assert world.store.promotion(refused.id).state == "refused", "asking changes nothing"
    assert [waiting.number for waiting in open_requests(world.store)] == [asked.number]
    lifted = world.grants_override(asked)
    assert (lifted.state, lifted.verdict) == ("promoted", "Failed")
    assert world.store.passed(refused.candidate or "", "preproduction")
    assert open_requests(world.store) == []
    told = explain(world.store, refused.id)
    assert f"{APPROVER} lifted auc until" in told
    assert f"at the request of {REQUESTER}: known gap" in told
    assert world.grants_override(asked) == lifted, "granted twice it stays as it is"
    assert verify(world.store) == []


def test_one_person_is_not_two(world: World, refused: Promotion) -> None:
    asked = world.asks_override(refused, ["auc"], soon())
    with pytest.raises(SamePerson, match=f"was made by {REQUESTER}: somebody else has to grant it"):
        world.grants_override(asked, REQUESTER)
    assert world.store.promotion(refused.id).state == "refused"


def test_a_typed_name_is_no_person(world: World, refused: Promotion) -> None:
    """The old hole: who asks types the name of somebody else."""
    asked = world.asks_override(refused, ["auc"], soon())
    with pytest.raises(BadRequest, match=f"{APPROVER} has signed nothing"):
        grant_override(world.store, asked.number, APPROVER, "agreed")
    forged = world.signs_grant(asked, REQUESTER)
    with pytest.raises(BadRequest, match=f"{REQUESTER} signed it, not {APPROVER}"):
        grant_override(world.store, asked.number, APPROVER, "agreed", forged)
    typed = request_override(world.store, refused.id, "carol", "known gap", ["auc"], soon())
    with pytest.raises(BadRequest, match="carol has signed nothing"):
        world.grants_override(typed)
    assert world.store.promotion(refused.id).state == "refused"


def test_who_nobody_knows_grants_nothing(world: World, refused: Promotion) -> None:
    asked = world.asks_override(refused, ["auc"], soon())
    with pytest.raises(UnknownPerson, match="signed by nobody who is known"):
        world.grants_override(asked, "mallory")


def test_a_signature_counts_for_what_was_signed_only(world: World, refused: Promotion) -> None:
    until = soon()
    narrow = signed(REQUESTER, wording("override", refused.id, terms_of(["latency"], until), "known gap"))
    with pytest.raises(BadRequest, match=f"{REQUESTER} signed something else"):
        request_override(world.store, refused.id, REQUESTER, "known gap", ["*"], until, narrow)
    first = world.asks_override(refused, ["latency"], until)
    second = world.asks_override(refused, ["auc"], until)
    of_the_first = world.signs_grant(first, APPROVER)
    with pytest.raises(BadRequest, match=f"{APPROVER} signed something else"):
        grant_override(world.store, second.number, APPROVER, "agreed", of_the_first)


def test_a_grant_after_the_expiry_is_too_late(
    world: World, refused: Promotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = world.asks_override(refused, ["auc"], soon())

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return soon() + timedelta(days=1)

    monkeypatch.setattr("sevenfold.people.override.datetime", Later)
    with pytest.raises(BadOverride, match="needs an expiry within"):
        world.grants_override(asked)


def test_a_production_that_has_ended_cannot_be_brought_back(world: World) -> None:
    world.know(REQUESTER, APPROVER)
    promotion = world.rolling(world.proven("a"))
    asked = world.asks_override(promotion, ["auc"], soon())
    world.store.end_promotion(promotion.id, "held", "Inconclusive", "too few answers")
    with pytest.raises(BadOverride, match="has ended"):
        world.grants_override(asked)


def test_where_four_eyes_are_off_one_person_is_enough(
    world: World, refused: Promotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEVENFOLD_FOUR_EYES", "false")
    settings.cache_clear()
    try:
        asked = request_override(world.store, refused.id, REQUESTER, "known gap", ["auc"], soon())
        assert grant_override(world.store, asked.number, REQUESTER, "alone here").state == "promoted"
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_a_request_needs_words_and_has_to_exist(world: World) -> None:
    made = world.crowned("a")
    with pytest.raises(BadRequest, match="needs a reason"):
        request_anchor(world.store, made, " ", REQUESTER)
    with pytest.raises(BadRequest, match="no request number 7"):
        grant_override(world.store, 7, APPROVER, "agreed")


# The anchor


def asks_anchor(world: World, letter: str) -> Request:
    made = candidate(letter)
    content = wording("anchor", made.model, {"candidate": made.id}, "best so far")
    return request_anchor(world.store, made, "best so far", REQUESTER, signed(REQUESTER, content))


def test_the_anchor_is_the_first_champion_until_two_people_say_otherwise(world: World) -> None:
    world.know(REQUESTER, APPROVER)
    assert anchor(world.store, "coin") is None
    first, second = world.crowned("a"), world.crowned("b")
    assert anchor(world.store, "coin") == first
    asked = asks_anchor(world, "b")
    assert anchor(world.store, "coin") == first, "asking changes nothing"
    with pytest.raises(SamePerson):
        world.grants(asked, REQUESTER)
    world.grants(asked)
    assert anchor(world.store, "coin") == second
    assert verify(world.store) == []


def test_only_a_champion_can_be_an_anchor(world: World) -> None:
    world.know(REQUESTER, APPROVER)
    world.crowned("a")
    world.proven("b")
    with pytest.raises(NoAnchor, match="was never champion"):
        asks_anchor(world, "b")


def test_an_anchor_slipped_into_the_database_is_none(world: World) -> None:
    world.know(REQUESTER, APPROVER)
    first, _ = world.crowned("a"), world.crowned("b")
    asked = asks_anchor(world, "b")
    row = {"request": asked.number, "granted_by": APPROVER, "reason": "agreed", "envelope": None}
    with world.store.writing() as connection:
        connection.execute(insert(grants).values(row | {"at": datetime.now(UTC)}))
    assert anchor(world.store, "coin") == first
    found = verify(world.store)
    print(found)
    assert any(f"Request {asked.number} (anchor of coin) is not signed by two people" in one for one in found)


# People


def test_two_people_cannot_share_a_name_or_a_key(tmp_path: Path) -> None:
    people = People(tmp_path / "people")
    people.add("ann", public_key("ann"))
    for name, key in (("Ann", public_key("bob")), ("bob", public_key("ann"))):
        with pytest.raises(UnknownPerson, match="ann is known already"):
            people.add(name, key)
    for name, key in (("../eve", public_key("eve")), ("eve", b"no key"), ("", public_key("eve"))):
        with pytest.raises(UnknownPerson):
            people.add(name, key)


def test_pem_and_locked_ssh_keys_sign_too(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    people = People(tmp_path / "people")
    key = generate_private_key(SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"secret"))
    people.add("ann", key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert people.who_signed(sign_as({"asks": 1}, pem)).name == "ann"
    assert (is_locked(pem), is_locked(locked)) == (False, True)
    assert people.who_signed(sign_as({"asks": 1}, locked, b"secret")).content == {"asks": 1}
    with pytest.raises(UnknownPerson, match="cannot be used"):
        sign_as({"asks": 1}, locked, b"wrong")


def test_an_altered_envelope_is_signed_by_nobody(tmp_path: Path) -> None:
    people = People(tmp_path / "people")
    people.add("ann", public_key("ann"))
    envelope = sign_as({"asks": 1}, private_key("ann"))
    for altered in (envelope.replace('"payload": "', '"payload": "e'), "{}", "no json"):
        with pytest.raises(UnknownPerson):
            people.who_signed(altered)


def test_a_request_can_be_read_back(world: World, refused: Promotion) -> None:
    asked = world.asks_override(refused, ["auc"], soon())
    with world.store.reading() as connection:
        assert find_request(connection, asked.number) == asked
    assert (asked.kind, asked.subject, asked.granted_by) == ("override", refused.id, None)
    assert OPERATOR not in (asked.requested_by, asked.granted_by)


def test_an_override_granted_before_the_gate_counts_when_it_speaks(world: World) -> None:
    world.know(REQUESTER, APPROVER)
    promotion = world.begin(world.store.add_candidate(candidate("a")), "preproduction")
    world.grants_override(world.asks_override(promotion, ["*"], soon()))
    world.measure(promotion)
    assert conclude(world.store, promotion.id, analysis(promotion, "Failed")).state == "promoted"
