"""Keys of the gateway: short signed tokens (JWT, ES256) that say who calls and what they may do.

The private keys lie in one file that only its owner can read. The gateway gets the public halves only, so it
can check tokens but make none. Rotation adds a key; tokens of the older ones stay valid until these are
forgotten.
"""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sevenfold.errors import SevenfoldError
from sevenfold.secrets import UnsafeSecrets, is_private, mounted, private_folder, require_file, write_private

SCOPES = ("predict", "feedback", "admin")
"""What a token may allow: ask for predictions, bring labels back, everything."""
ISSUER = "sevenfold"
AUDIENCE = "sevenfold-gateway"
ALGORITHM = "ES256"
ANNOUNCED = "announced"
"""What marks a key that does not sign yet; it stands first."""
STANDING = timedelta(days=365)
"""Lifetime of the tokens that are made at first start, one a scope."""


class BadScope(SevenfoldError):
    """A scope that no token can have."""


class GatewayKeys:
    """The keys in `folder`, made at first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._file = folder / "gateway_keys.json"
        self._tokens = folder / "gateway_tokens.json"
        self._public = folder / "gateway_jwks.json"

    def token(self, subject: str, scopes: Sequence[str], lifetime: timedelta = timedelta(hours=12)) -> str:
        """A token for `subject`, which the gateway writes into its access log and counts requests by.

        Raises:
            BadScope: a scope is none of `SCOPES`.
        """
        unknown = set(scopes) - set(SCOPES)
        if unknown or not scopes:
            raise BadScope(
                f"a token has scopes out of {', '.join(SCOPES)}, not {', '.join(unknown) or 'none'}"
            )
        key = self._keys()[-1]
        now = datetime.now(UTC)
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "scopes": sorted(scopes),
            "iat": now,
            "exp": now + lifetime,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, key["private"], ALGORITHM, headers={"kid": key["kid"]})

    def standing(self) -> dict[str, str]:
        """One lasting token a scope, kept in `gateway_tokens.json`; new after a rotation or near expiry.

        Where the folder is mounted read-only, new ones are kept by nobody and are as good.
        """
        kid = self._keys()[-1]["kid"]
        with self._alone():
            kept = json.loads(self._tokens.read_text()) if self._tokens.exists() else {}
            if not all(_lasts(kept.get(scope), kid) for scope in SCOPES):
                kept = {scope: self.token(f"local-{scope}", [scope], STANDING) for scope in SCOPES}
                if not mounted(self._folder):
                    write_private(self._tokens, json.dumps(kept, indent=1))
        return {scope: str(kept[scope]) for scope in SCOPES}

    def jwks(self) -> dict[str, Any]:
        """The public halves of all valid keys, as a JSON Web Key Set.

        A gateway on a cluster gets these alone, as `gateway_jwks.json`: it can check tokens and make none.
        """
        if self._public.exists() and not self._file.exists():
            public: dict[str, Any] = json.loads(self._public.read_text())
            return public
        return {"keys": [_public(key) for key in self._keys()]}

    def announce(self) -> str:
        """Adds a key with which nothing is signed before `rotate`, and returns its id; said again, the same.

        For gateways that get keys later than those who ask them: meanwhile they learn of it.

        Raises:
            UnsafeSecrets: the keys are mounted read-only.
        """
        with self._changing() as keys:
            if ANNOUNCED not in keys[0]:
                keys.insert(0, {**_new_key(), ANNOUNCED: "yes"})
            return keys[0]["kid"]

    def rotate(self, forget: bool = False) -> str:
        """Adds a key, or takes the announced one, that signs from now on, and returns its id.

        The gateway takes it when it is told to refresh.

        Args:
            forget: all tokens made before end.

        Raises:
            UnsafeSecrets: the keys are mounted read-only.
        """
        with self._changing() as keys:
            key = keys.pop(0) if ANNOUNCED in keys[0] else _new_key()
            key.pop(ANNOUNCED, None)
            keys[:] = [*([] if forget else keys), key]
            return key["kid"]

    @contextmanager
    def _changing(self) -> Iterator[list[dict[str, str]]]:
        """All keys, to be changed."""
        self._keys()
        if mounted(self._folder):
            raise UnsafeSecrets(
                f"{self._file} is mounted read-only: rotate the keys where they are kept, and apply the "
                "Secrets anew (docs/cluster.md, New keys for the gateway)"
            )
        with self._alone():
            keys: list[dict[str, str]] = json.loads(self._file.read_text())
            yield keys
            write_private(self._file, json.dumps(keys, indent=1))

    def _keys(self) -> list[dict[str, str]]:
        """All valid keys, the signing one last.

        Raises:
            UnsafeSecrets: the file can be read by others, or does not hold keys.
        """
        if not self._file.exists() and not mounted(self._folder):
            with self._alone():
                if not self._file.exists():
                    write_private(self._file, json.dumps([_new_key()], indent=1))
        require_file(self._file)
        if not is_private(self._file):
            raise UnsafeSecrets(
                f"{self._file} can be read by others: run chmod 600 {self._file}, and rotate the keys"
            )
        try:
            keys: list[dict[str, str]] = json.loads(self._file.read_text())
            _ = keys[-1]["kid"], keys[-1]["private"]
            return keys
        except (ValueError, LookupError, TypeError) as error:
            raise UnsafeSecrets(
                f"{self._file} does not hold the gateway's keys: delete it and start again"
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if mounted(self._folder):
            yield
            return
        with (self._folder / ".gateway.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _new_key() -> dict[str, str]:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"kid": secrets.token_hex(8), "private": pem.decode()}


def _public(key: dict[str, str]) -> dict[str, Any]:
    private = serialization.load_pem_private_key(key["private"].encode(), None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise UnsafeSecrets(f"key {key['kid']} of the gateway is not a key for {ALGORITHM}: rotate the keys")
    public: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {**public, "kid": key["kid"], "alg": ALGORITHM, "use": "sig"}


def _lasts(token: object, kid: str) -> bool:
    try:
        said = jwt.decode(str(token), options={"verify_signature": False})
        left = datetime.fromtimestamp(said["exp"], UTC) - datetime.now(UTC)
        return bool(jwt.get_unverified_header(str(token))["kid"] == kid and left > timedelta(days=30))
    except (jwt.PyJWTError, KeyError):
        return False
