"""TLS by setting: a certificate made here, a gateway that speaks nothing else, clients that check it."""

from __future__ import annotations

import asyncio
import json
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from tests.sevenfold.certificates import Pair, certificate
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.local import ONE, Local, local, wait

from sevenfold.cluster import Deployment
from sevenfold.demo.player.client import Connection, Failed
from sevenfold.gateway import Gateway, Traffic
from sevenfold.gateway.local import Unencrypted
from sevenfold.settings import Settings
from sevenfold.trials.trial import Target

INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[Local]:
    with local(tmp_path_factory.mktemp("home"), tls=(pair.certificate, pair.key)) as running:
        running.cluster.deploy(Deployment("tiny", ONE, "champion", 1))
        running.gateway.apply(Traffic("tiny", ONE, generation=1))
        yield running


def test_who_trusts_the_certificate_is_answered(stack: Local, pair: Pair) -> None:
    trusted = ssl.create_default_context(cafile=str(pair.certificate))
    token = stack.gateway.keys.standing()["predict"]
    with httpx.Client(base_url=stack.settings.gateway_url, verify=trusted, trust_env=False) as client:
        assert client.post(INFER, json=tiny.request(1)).status_code == 401
        answer = client.post(INFER, json=tiny.request(1), headers={"authorization": f"Bearer {token}"})
    assert answer.headers["x-candidate"] == ONE


def test_who_does_not_trust_it_or_speaks_without_tls_gets_nothing(stack: Local) -> None:
    url = stack.settings.gateway_url
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{url}/healthz", trust_env=False)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{url.replace('https', 'http')}/healthz", trust_env=False)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", verify=old, trust_env=False)


def test_our_own_client_trusts_what_ssl_cert_file_names(
    stack: Local, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, body = stack.gateway.keys.standing()["predict"], orjson.dumps(tiny.request(1))

    async def post() -> int:
        connection = Connection(stack.settings.gateway_url, token)
        status, _ = await connection.post(INFER, body)
        connection.close()
        return status

    with pytest.raises(Failed):
        asyncio.run(post())
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
    assert asyncio.run(post()) == 200


def test_an_activity_trusts_it_too_and_asks_past_a_proxy(
    stack: Local, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
    token = stack.gateway.keys.standing()["predict"]
    target = Target(stack.settings.gateway_url, INFER.removesuffix("/infer"), token)
    with target.client(timeout=10) as client:
        answer = client.post(f"{target.url}/infer", headers=target.headers, json=tiny.request(1))
    assert answer.status_code == 200


def gateway(home: Path, url: str, **files: Path) -> Gateway:
    return Gateway(Settings(home=home, gateway_url=url, **files), list)


def test_keys_never_travel_readable_through_a_network(tmp_path: Path, pair: Pair) -> None:
    with pytest.raises(Unencrypted, match=r"http://0\.0\.0\.0:18000 would travel readable"):
        gateway(tmp_path, "http://0.0.0.0:18000").program()
    with pytest.raises(Unencrypted, match="needs a certificate and its key"):
        gateway(tmp_path, "https://0.0.0.0:18000").program()
    gone = {"gateway_certificate": pair.certificate, "gateway_key": tmp_path / "no"}
    with pytest.raises(Unencrypted, match="PEM files that are there"):
        gateway(tmp_path, "https://0.0.0.0:18000", **gone).program()
    both = {"gateway_certificate": pair.certificate, "gateway_key": pair.key}
    assert gateway(tmp_path, "https://0.0.0.0:18000", **both).program().name == "gateway"
    for name in ("127.0.0.1", "localhost", "[::1]"):
        assert gateway(tmp_path, f"http://{name}:18000").program().name == "gateway"


@pytest.mark.parametrize(("url", "port"), [("http://127.0.0.1", 80), ("https://127.0.0.1", 443)])
def test_without_a_port_it_is_the_usual_one_of_the_scheme(
    tmp_path: Path, pair: Pair, url: str, port: int
) -> None:
    files = {"gateway_certificate": pair.certificate, "gateway_key": pair.key}
    gateway(tmp_path, url, **files).program()
    listeners = json.loads((tmp_path / "gateway" / "dynamic" / "lds.json").read_text())["resources"]
    assert listeners[0]["address"]["socket_address"]["port_value"] == port


def test_a_renewed_certificate_is_taken_without_a_restart(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("renewed")
    pair = certificate(folder)
    with local(tmp_path_factory.mktemp("home"), tls=(pair.certificate, pair.key)) as running:
        envoy = running.supervisor.program("gateway").pid
        fresh = certificate(folder, "fresh")

        def health(trusted: Path) -> bool:
            context = ssl.create_default_context(cafile=str(trusted))
            try:
                return httpx.get(f"{running.settings.gateway_url}/healthz", verify=context).is_success
            except httpx.HTTPError:
                return False

        kept = folder / "kept.pem"
        kept.write_bytes(pair.certificate.read_bytes())
        assert health(kept)
        new = folder / "new.pem"
        new.write_bytes(fresh.certificate.read_bytes())
        fresh.key.rename(pair.key)
        fresh.certificate.rename(pair.certificate)
        wait(lambda: health(new))
        assert not health(kept)
        assert running.supervisor.program("gateway").pid == envoy
