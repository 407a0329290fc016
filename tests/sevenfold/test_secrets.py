"""Passwords: made once, kept private, never silently wrong."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from tests.sevenfold.evidence_world import public_key

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.signing import BadKey, Keys
from sevenfold.kubernetes.secret_files import gateway_keys, secret_files
from sevenfold.people.identity import People
from sevenfold.secrets import AIRFLOW_USERS, VIEWER, UnsafeSecrets, airflow_passwords, private_folder
from sevenfold.serving import pseudonyms
from sevenfold.serving.keys import GatewayKeys


def test_made_at_first_start_and_kept(tmp_path: Path) -> None:
    first = airflow_passwords(tmp_path / "secrets")
    assert set(first) == set(AIRFLOW_USERS)
    assert len(set(first.values())) == len(AIRFLOW_USERS)
    assert airflow_passwords(tmp_path / "secrets") == first


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    airflow_passwords(tmp_path / "secrets")
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets/airflow.json").stat().st_mode & 0o777 == 0o600


def test_a_readable_file_is_refused(tmp_path: Path) -> None:
    airflow_passwords(tmp_path)
    (tmp_path / "airflow.json").chmod(0o644)
    with pytest.raises(UnsafeSecrets, match=r"airflow\.json can be read by others"):
        airflow_passwords(tmp_path)


def test_a_user_that_came_with_a_later_version_gets_a_password_and_others_keep_theirs(tmp_path: Path) -> None:
    first = airflow_passwords(tmp_path)
    (tmp_path / "airflow.json").write_text(json.dumps({"admin": "x", "approver": first["approver"]}))
    again = airflow_passwords(tmp_path)
    assert (again["admin"], again["approver"]) == ("x", first["approver"]) and len(again[VIEWER]) > 10


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    airflow_passwords(tmp_path)
    (tmp_path / "airflow.json").write_text(content)
    with pytest.raises(UnsafeSecrets, match="does not hold passwords"):
        airflow_passwords(tmp_path)


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Path]:
    """A Secret as a kubelet mounts it: a read-only file system, files of mode 440, folders by its items."""

    def mounted(secret: dict[str, Any]) -> Path:
        folder = tmp_path / "mounted"
        for name, content in secret["data"].items():
            below = "evidence" if name in ("trusted.json", "people.json", "signing.pem") else ""
            path = folder / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(content))
            path.chmod(0o440)
        for place in (folder, *folder.rglob("*")):
            if place.is_dir():
                place.chmod(0o550)
        real = os.statvfs

        def statvfs(path: Path) -> Any:
            return SimpleNamespace(f_flag=os.ST_RDONLY) if Path(path).is_relative_to(folder) else real(path)

        monkeypatch.setattr(os, "statvfs", statvfs)
        return folder

    return mounted


def test_a_namespace_gets_what_it_needs_and_can_use_it_as_it_is_mounted(
    tmp_path: Path, mount: Callable[[dict[str, Any]], Path]
) -> None:
    here = tmp_path / "secrets"
    People(here / "evidence/people").add("ann", public_key("ann"))
    in_training = secret_files(here, "training")
    assert in_training["metadata"]["namespace"] == "sevenfold-training"
    assert set(in_training["data"]) == {"trusted.json", "people.json"}, "training gets no private key"
    in_airflow = {"trusted.json", "people.json", "signing.pem", "airflow.json"}
    assert set(secret_files(here, "airflow")["data"]) == in_airflow
    with pytest.raises(SevenfoldError, match="nowhere is none of development"):
        secret_files(here, "nowhere")

    there = mount(secret_files(here, "staging"))
    before = sorted(there.rglob("*"))
    only = airflow_passwords(there, (VIEWER,))
    assert only == {VIEWER: airflow_passwords(here)[VIEWER]}, "who runs a candidate's code approves nothing"
    with pytest.raises(UnsafeSecrets, match="the passwords of admin, approver: apply what"):
        airflow_passwords(there)
    keys = GatewayKeys(there)
    assert keys.standing() == GatewayKeys(here / "staging").standing()
    assert keys.token("load", ["predict"])
    assert pseudonyms.made(there) == pseudonyms.made(here)
    with pytest.raises(UnsafeSecrets, match="rotate it where it is kept"):
        pseudonyms.rotate(there)
    evidence = Keys(there / "evidence")
    assert [key.keyid for key in evidence.trusted] == [key.keyid for key in Keys(here / "evidence").trusted]
    assert list(evidence.people._keys()) == ["ann"]
    with pytest.raises(BadKey, match="mounted read-only and has no private key"):
        _ = evidence.signer
    with pytest.raises(UnsafeSecrets, match="rotate the keys where they are kept"):
        keys.rotate()
    assert sorted(there.rglob("*")) == before, "nothing is written to a Secret"


def test_a_gateway_checks_tokens_with_the_public_halves_alone(tmp_path: Path) -> None:
    made = secret_files(tmp_path / "secrets", "production")["data"]
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway/gateway_jwks.json").write_bytes(base64.b64decode(made["gateway_jwks.json"]))
    public = GatewayKeys(tmp_path / "gateway").jwks()
    assert public == GatewayKeys(tmp_path / "secrets").jwks()
    assert "private" not in str(public)
    assert "d" not in public["keys"][0], "the private number of an elliptic curve's key"
    assert not (tmp_path / "gateway/gateway_keys.json").exists()


def test_what_runs_a_candidates_code_signs_for_no_other_gateway(tmp_path: Path) -> None:
    opened: dict[str, set[str]] = {}
    for one in ("staging", "preproduction", "production"):
        made = {name: base64.b64decode(said) for name, said in secret_files(tmp_path, one)["data"].items()}
        opened[one] = {key["kid"] for key in json.loads(made["gateway_jwks.json"])["keys"]}
        signing = {key["kid"] for key in json.loads(made["gateway_keys.json"])}
        tokens = json.loads(made["gateway_tokens.json"]).values()
        assert signing == opened[one] == {jwt.get_unverified_header(token)["kid"] for token in tokens}
    assert opened["preproduction"] == opened["production"], "its activities ask production's gateway, too"
    assert not opened["staging"] & opened["production"]
    assert {keys.rotate(forget=True) for keys in gateway_keys(tmp_path)} == {
        key["kid"] for keys in gateway_keys(tmp_path) for key in keys.jwks()["keys"]
    }


def test_what_is_missing_in_a_mounted_secret_is_named(
    tmp_path: Path, mount: Callable[[dict[str, Any]], Path]
) -> None:
    there = mount(secret_files(tmp_path / "secrets", "training"))
    with pytest.raises(UnsafeSecrets, match=r"airflow\.json is missing, and its folder is mounted read-only"):
        airflow_passwords(there)
    with pytest.raises(UnsafeSecrets, match=r"gateway_keys\.json is missing"):
        GatewayKeys(there).token("load", ["predict"])


def test_a_mounted_secret_that_everybody_can_read_is_refused(
    tmp_path: Path, mount: Callable[[dict[str, Any]], Path]
) -> None:
    there = mount(secret_files(tmp_path / "secrets", "airflow"))
    assert Keys(there / "evidence").signer
    (there / "evidence/signing.pem").chmod(0o444)
    with pytest.raises(BadKey, match="can be read by others"):
        _ = Keys(there / "evidence").signer


def test_a_laptop_stays_strict(tmp_path: Path) -> None:
    _ = Keys(tmp_path).signer
    (tmp_path / "signing.pem").chmod(0o440)
    with pytest.raises(BadKey, match="can be read by others"):
        _ = Keys(tmp_path).signer


@pytest.mark.parametrize(
    ("owner", "mode", "left"),
    [(0, 0o42775, True), (0, 0o41777, False), (4711, 0o42775, False)],
    ids=["top of a volume", "writable for all", "somebody's"],
)
def test_the_top_of_a_volume_stays_as_the_cluster_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, left: bool
) -> None:
    changed: list[int] = []
    volume = os.stat_result((mode, 0, 0, 1, owner, 10001, 0, 0, 0, 0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 10001)
        patch.setattr(Path, "stat", lambda *_, **__: volume)
        patch.setattr(Path, "chmod", lambda _, mode: changed.append(mode))
        private_folder(tmp_path)
    assert changed == ([] if left else [0o700])
