"""The keys that sign evidence: one private key made at first start, and the public keys that are trusted.

The folder holds `signing.pem` (private, mode 600) and `trusted/<key id>.json` (public keys; on a cluster one
`trusted.json`, and signing.pem only where gates are judged). With a `signer.json` there, {"uri":
"awskms:<key>", "public": {...}}, a KMS signs and no private key lies on this machine; `use` (the command
sign-with) writes it. To rotate, call `rotate`. What an earlier key signed stays valid in both cases.
"""

# mypy: disable-error-code="attr-defined"
# securesystemslib re-exports its signers without saying so

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.errors import SevenfoldError
from sevenfold.evidence import public_keys
from sevenfold.secrets import is_private, mounted, private_folder, write_private

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

    from sevenfold.people.identity import People


CLIENTS = {"awskms": "boto3", "gcpkms": "google-cloud-kms", "hv": "hvac"}
"""The KMS that sign by a setting, with the package that each needs beside securesystemslib."""


class BadKey(SevenfoldError):
    """A key file can be read by others, or is no key."""


class Keys:
    """The keys in `folder`, made at first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def people(self) -> People:
        """The people whose signatures count, by their public keys in `people/`."""
        from sevenfold.people.identity import People

        return People(self.folder / "people")

    @cached_property
    def signer(self) -> Signer:
        """Signs evidence; made at first use.

        Raises:
            BadKey: the private key can be read by others, or cannot be read as a key.
        """
        from securesystemslib.signer import SSlibKey

        setting = self.folder / "signer.json"
        if not setting.exists():
            return self._own()
        from securesystemslib.exceptions import UnsupportedLibraryError
        from securesystemslib.signer import Signer

        try:
            given = json.loads(setting.read_text())
            public = given["public"]
            return Signer.from_priv_key_uri(given["uri"], SSlibKey.from_dict(public.pop("keyid"), public))
        except (ValueError, KeyError, TypeError, UnsupportedLibraryError) as error:
            raise BadKey(f"{setting} names no key that can sign evidence: {error}") from error

    @property
    def trusted(self) -> list[Key]:
        """The public keys whose signatures count, read anew each time: trusted/ and the signer's own.

        Raises:
            BadKey: a file in trusted/ holds no public key.
        """
        try:
            keys = {key.keyid: key for key in public_keys.read(self.folder / "trusted").values()}
        except ValueError as error:
            raise BadKey(str(error)) from error
        if (self.folder / "signing.pem").exists() or (self.folder / "signer.json").exists():
            keys[self.signer.public_key.keyid] = self.signer.public_key
        return list(keys.values())

    def rotate(self) -> str:
        """Makes a new private key and returns its key id; the old public key stays trusted."""
        self._trust(self.signer.public_key)
        self._create(replace=True)
        del self.signer
        return str(self.signer.public_key.keyid)

    def use(self, uri: str) -> str:
        """Lets a KMS sign from now on and returns its key id; the public key so far stays trusted.

        `uri` is a scheme of securesystemslib with the key's name: awskms:<arn>, gcpkms:<resource>, hv:<name>
        (HashiCorp Vault). Credentials are the ambient ones of the KMS's own client.

        Raises:
            BadKey: no such scheme, its client is not installed, or the KMS does not give the public key.
        """
        from securesystemslib.exceptions import UnsupportedLibraryError
        from securesystemslib.signer import SIGNER_FOR_URI_SCHEME

        scheme, _, name = uri.partition(":")
        kind = SIGNER_FOR_URI_SCHEME.get(scheme)
        if kind is None or not hasattr(kind, "import_") or not name:
            known = ", ".join(CLIENTS)
            raise BadKey(f"'{uri}' names no key of a KMS: it is <scheme>:<key>, with one of {known}.")
        try:
            full, public = kind.import_(name)
        except UnsupportedLibraryError as error:
            needed = CLIENTS.get(scheme, str(error))
            raise BadKey(f"{uri} cannot be used here: its client is not installed ({needed}).") from error
        except Exception as error:  # each KMS has errors of its own
            raise BadKey(f"{uri} did not give its public key: {type(error).__name__}: {error}") from error
        if (self.folder / "signing.pem").exists() or (self.folder / "signer.json").exists():
            self._trust(self.signer.public_key)
        content = {"uri": full, "public": {"keyid": public.keyid, **public.to_dict()}}
        write_private(private_folder(self.folder) / "signer.json", json.dumps(content, indent=1))
        self._trust(public)
        self.__dict__.pop("signer", None)
        return str(public.keyid)

    def _own(self) -> Signer:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from securesystemslib.signer import CryptoSigner

        path = self.folder / "signing.pem"
        if not path.exists():
            self._create(replace=False)
        if not is_private(path):
            raise BadKey(f"{path} can be read by others: run chmod 600 {path}, then rotate the key.")
        try:
            signer = CryptoSigner(load_pem_private_key(path.read_bytes(), None))
        except ValueError as error:
            raise BadKey(f"{path} holds no private key: {error}.") from error
        return signer

    def _create(self, replace: bool) -> None:
        """A new key pair, whole or not at all; of two processes at first start one wins, unless `replace`."""
        from securesystemslib.signer import CryptoSigner

        if mounted(self.folder):
            raise BadKey(
                f"{self.folder} is mounted read-only and has no private key: only who judges gates signs "
                "evidence. If that is this process, put signing.pem into its Secret `sevenfold-files`."
            )
        private_folder(self.folder)
        path = self.folder / "signing.pem"
        fresh = self.folder / f"fresh.{os.getpid()}.pem"
        write_private(fresh, CryptoSigner.generate_ecdsa().private_bytes.decode())
        try:
            if replace:
                fresh.replace(path)
            elif not path.exists():
                os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink(missing_ok=True)
        self._trust(self._own().public_key)

    def _trust(self, key: Any) -> None:
        folder = private_folder(self.folder / "trusted")
        content = {"keyid": key.keyid, **key.to_dict()}
        write_private(folder / f"{key.keyid}.json", json.dumps(content, indent=1))
