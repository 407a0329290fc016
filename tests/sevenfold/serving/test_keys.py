"""Keys of the gateway."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from sevenfold.secrets import UnsafeSecrets
from sevenfold.serving.keys import ALGORITHM, AUDIENCE, ISSUER, SCOPES, BadScope, GatewayKeys


def verified(keys: GatewayKeys, token: str) -> dict[str, Any]:
    """What the gateway reads out of a token, with the public keys alone."""
    public = jwt.PyJWKSet.from_dict(keys.jwks())
    key = next(key for key in public.keys if key.key_id == jwt.get_unverified_header(token)["kid"])
    claims: dict[str, Any] = jwt.decode(token, key, [ALGORITHM], audience=AUDIENCE, issuer=ISSUER)
    return claims


def test_a_token_says_who_and_what_and_until_when(tmp_path: Path) -> None:
    keys = GatewayKeys(tmp_path)
    claims = verified(keys, keys.token("player", ["predict", "feedback"], timedelta(minutes=5)))
    assert claims["sub"] == "player"
    assert claims["scopes"] == ["feedback", "predict"]
    left = datetime.fromtimestamp(claims["exp"], UTC) - datetime.now(UTC)
    assert timedelta(minutes=4) < left <= timedelta(minutes=5)


@pytest.mark.parametrize("scopes", [[], ["write"], ["predict", "write"]])
def test_other_scopes_are_refused(tmp_path: Path, scopes: list[str]) -> None:
    with pytest.raises(BadScope, match="scopes out of predict, feedback, admin"):
        GatewayKeys(tmp_path).token("me", scopes)


def test_private_keys_stay_private(tmp_path: Path) -> None:
    keys = GatewayKeys(tmp_path)
    keys.standing()
    files = [path for path in tmp_path.iterdir() if path.suffix == ".json"]
    assert len(files) == 2
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert all("d" not in key for key in keys.jwks()["keys"])


def test_standing_tokens_are_kept_one_a_scope(tmp_path: Path) -> None:
    tokens = GatewayKeys(tmp_path).standing()
    assert list(tokens) == list(SCOPES)
    assert GatewayKeys(tmp_path).standing() == tokens
    assert [verified(GatewayKeys(tmp_path), token)["scopes"] for token in tokens.values()] == [
        [s] for s in SCOPES
    ]


def test_rotation_adds_a_key_and_forgetting_ends_the_others(tmp_path: Path) -> None:
    keys = GatewayKeys(tmp_path)
    old, standing = keys.token("me", ["predict"]), keys.standing()
    kid = keys.rotate()
    assert jwt.get_unverified_header(keys.token("me", ["predict"]))["kid"] == kid
    assert verified(keys, old)["sub"] == "me"
    assert keys.standing() != standing
    keys.rotate(forget=True)
    assert len(keys.jwks()["keys"]) == 1
    with pytest.raises(StopIteration):
        verified(keys, old)


def test_an_announced_key_is_known_before_it_signs(tmp_path: Path) -> None:
    keys = GatewayKeys(tmp_path)
    before = keys.token("me", ["predict"])
    kid = keys.announce()
    assert keys.announce() == kid
    assert kid in {key["kid"] for key in keys.jwks()["keys"]}
    assert jwt.get_unverified_header(keys.token("me", ["predict"]))["kid"] != kid
    assert keys.rotate() == kid
    assert jwt.get_unverified_header(keys.token("me", ["predict"]))["kid"] == kid
    verified(keys, before)
    assert len(keys.jwks()["keys"]) == 2 and keys.rotate() != kid
    keys.announce()
    keys.rotate(forget=True)
    assert len(keys.jwks()["keys"]) == 1


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keys = GatewayKeys(tmp_path)
    keys.jwks()
    file = tmp_path / "gateway_keys.json"
    file.chmod(0o644)
    with pytest.raises(UnsafeSecrets, match="can be read by others"):
        keys.token("me", ["predict"])


@pytest.mark.parametrize("content", ["", "[]", "{}", '[{"kid": 1}]'])
def test_a_broken_file_is_told(tmp_path: Path, content: str) -> None:
    keys = GatewayKeys(tmp_path)
    keys.jwks()
    (tmp_path / "gateway_keys.json").write_text(content)
    with pytest.raises(UnsafeSecrets, match="does not hold the gateway's keys"):
        keys.token("me", ["predict"])
