"""Who signs evidence: a key on this machine, or a KMS that keeps its key to itself."""

# mypy: disable-error-code="attr-defined"

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Signer
from tests.sevenfold.evidence_world import World, analysis, candidate

from sevenfold.evidence.signing import BadKey, Keys
from sevenfold.evidence.statement import NotSigned
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import conclude


class FarAway(Signer):
    """A KMS of the tests, with the interface of securesystemslib's own: it signs, and its key stays there."""

    KEYS: ClassVar[dict[str, CryptoSigner]] = {"evidence": CryptoSigner.generate_ecdsa()}
    up = True

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def import_(cls, name: str) -> tuple[str, Any]:
        return f"faraway:{name}", cls.KEYS[name].public_key

    @classmethod
    def from_priv_key_uri(cls, uri: str, public_key: Any, secrets_handler: Any = None) -> FarAway:
        return cls(uri.partition(":")[2])

    @property
    def public_key(self) -> Any:
        return self.KEYS[self.name].public_key

    def sign(self, payload: bytes) -> Any:
        if not self.up:
            raise ConnectionError("the KMS is away")
        return self.KEYS[self.name].sign(payload)


@pytest.fixture(autouse=True)
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "faraway", FarAway)


def test_a_kms_signs_and_no_private_key_lies_here(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    keyid = world.store.keys.use("faraway:evidence")
    world.judged(made, "testing")
    assert world.store.passed(made.id, "testing")
    assert Keys(world.store.keys.folder).signer.public_key.keyid == keyid, "the next process finds it too"
    assert not (world.store.keys.folder / "signing.pem").exists()
    assert verify(world.store) == []


def test_what_was_signed_before_stays_valid(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing")
    world.store.keys.use("faraway:evidence")
    world.judged(made, "staging")
    assert world.store.passed(made.id, "testing")
    assert world.store.passed(made.id, "staging")


def test_a_kms_that_is_away_concludes_nothing_and_the_next_try_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.store.keys.use("faraway:evidence")
    promotion = world.begin(made, "testing")
    world.measure(promotion)
    monkeypatch.setattr(FarAway, "up", False)
    with pytest.raises(NotSigned, match="the KMS is away") as away:
        conclude(world.store, promotion.id, analysis(promotion, "Successful"))
    assert away.value.retry
    assert world.store.promotion(promotion.id).state == "running"
    assert world.store.analyses(promotion.id) == []
    monkeypatch.setattr(FarAway, "up", True)
    assert conclude(world.store, promotion.id, analysis(promotion, "Successful")).state == "promoted"


@pytest.mark.parametrize(("scheme", "client"), [("gcpkms", "google-cloud-kms"), ("hv", "hvac")])
def test_the_schemes_that_are_promised_exist_and_say_what_they_need(
    world: World, scheme: str, client: str
) -> None:
    """Their clients are not installed here (AWS's is): what is missing is said, and nothing changes."""
    with pytest.raises(BadKey, match=client):
        world.store.keys.use(f"{scheme}:evidence")
    assert not (world.store.keys.folder / "signer.json").exists()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What AWS's KMS (moto's) is asked to sign.

    By AWS's documentation `MessageType: DIGEST` skips the hashing step; moto hashes once more all the same
    (getmoto/moto#10202), so that step is taken out of it here.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256
    from moto import mock_aws
    from moto.kms.utils import ECDSAPrivateKey

    signed: list[bytes] = []

    def sign(self: Any, message: bytes, *_: object) -> Any:
        signed.append(message)
        return self.private_key.sign(message, ec.ECDSA(Prehashed(SHA256())))

    monkeypatch.setattr(ECDSAPrivateKey, "sign", sign)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield signed


def test_aws_signs_digests_and_what_it_signed_counts(world: World, asked: list[bytes]) -> None:
    import boto3

    kms = boto3.client("kms")
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/evidence", TargetKeyId=key)
    made = world.store.add_candidate(candidate("a"))
    world.store.keys.use("awskms:alias/evidence")
    world.judged(made, "testing")
    assert world.store.passed(made.id, "testing")
    assert verify(world.store) == []
    assert {len(digest) for digest in asked} == {32}


def test_a_setting_that_names_no_key_says_so(world: World) -> None:
    with pytest.raises(BadKey, match="with one of awskms"):
        world.store.keys.use("nokms:evidence")
    with pytest.raises(BadKey, match="did not give its public key"):
        world.store.keys.use("faraway:nothing")
    folder = world.store.keys.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "signer.json").write_text('{"uri": "awskms:x"}')
    with pytest.raises(BadKey, match="names no key that can sign evidence"):
        assert Keys(folder).signer
