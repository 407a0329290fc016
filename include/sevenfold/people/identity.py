"""People who can be told apart: each signs with a key of their own, an SSH key for instance.

The folder `people` beside the evidence's keys holds one public key a person (on a cluster: `people.json`).
Who may write there decides who counts as a person, as with the trusted keys; nobody needs to hand over a
private key.
"""

# mypy: disable-error-code="attr-defined"
# securesystemslib re-exports its signers without saying so

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.errors import SevenfoldError
from sevenfold.evidence import public_keys
from sevenfold.secrets import private_folder, write_private

if TYPE_CHECKING:
    from securesystemslib.signer import Key

PAYLOAD_TYPE = "application/vnd.sevenfold.consent+json"


class UnknownPerson(SevenfoldError):
    """A signature of nobody that is known here, or a name or key that cannot be a new person's."""


@dataclass(frozen=True)
class Signed:
    """What a person signed, and who it was."""

    name: str
    keyid: str
    content: Mapping[str, Any]


class People:
    """The people of one installation, by their public keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, public_key: bytes) -> str:
        """Makes a person known by a public key, SSH or PEM, and returns its id.

        Raises:
            UnknownPerson: the name or the key is somebody's already, or it is no public key.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from securesystemslib.signer import SSlibKey

        name = name.strip()
        if not name or "/" in name or name.startswith("."):
            raise UnknownPerson(f"'{name}' is no name for a person.")
        try:
            key = SSlibKey.from_crypto(_public(public_key))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise UnknownPerson(
                f"What is given for {name} is no public key that can sign: {error}."
            ) from error
        for known, theirs in self._keys().items():
            if known.lower() == name.lower() or theirs.keyid == key.keyid:
                raise UnknownPerson(f"{known} is known already with key {theirs.keyid[:12]}.")
        content = {"keyid": key.keyid, **key.to_dict()}
        write_private(private_folder(self.folder) / f"{name}.json", json.dumps(content, indent=1))
        return str(key.keyid)

    def who_signed(self, envelope: str) -> Signed:
        """Who signed the envelope, and what.

        Raises:
            UnknownPerson: none of the known people did, or it was altered.
        """
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError

        try:
            opened = Envelope.from_dict(json.loads(envelope))
            for name, key in self._keys().items():
                if key.keyid in opened.signatures and opened.payload_type == PAYLOAD_TYPE:
                    opened.verify([key], 1)
                    return Signed(name, key.keyid, json.loads(opened.payload))
        except (VerificationError, UnverifiedSignatureError) as error:
            raise UnknownPerson("What was signed has been altered since.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnknownPerson("It is not signed by a person.") from error
        raise UnknownPerson(
            f"It is signed by nobody who is known in {self.folder}: "
            "make the person known with the command person."
        )

    def _keys(self) -> dict[str, Key]:
        try:
            return public_keys.read(self.folder)
        except ValueError as error:
            raise UnknownPerson(str(error)) from error


def sign_as(content: Mapping[str, Any], private_key: bytes, passphrase: bytes | None = None) -> str:
    """The content in an envelope signed with a person's private key, SSH or PEM.

    Raises:
        UnknownPerson: it is no private key, or the passphrase does not open it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    try:
        signer = CryptoSigner(_private(private_key, passphrase))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnknownPerson(f"The private key cannot be used: {error}.") from error
    envelope = Envelope(_text(content).encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), sort_keys=True)


def is_locked(private_key: bytes) -> bool:
    """Whether the private key asks for a passphrase."""
    try:
        _private(private_key, None)
    except (TypeError, ValueError) as error:
        return "assword" in str(error)
    return False


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _public(content: bytes) -> Any:
    from cryptography.hazmat.primitives import serialization

    if content.lstrip().startswith(b"-----BEGIN PUBLIC"):
        return serialization.load_pem_public_key(content)
    return serialization.load_ssh_public_key(content.strip())


def _private(content: bytes, passphrase: bytes | None) -> Any:
    from cryptography.hazmat.primitives import serialization

    if b"OPENSSH PRIVATE" in content:
        return serialization.load_ssh_private_key(content, passphrase)
    return serialization.load_pem_private_key(content, passphrase)
