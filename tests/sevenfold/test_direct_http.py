"""Who is asked without a proxy, and whose certificate is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sevenfold.answering import answering
from tests.sevenfold.certificates import certificate

from sevenfold.direct_http import answers


def test_it_asks_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering("/well") as url:
        assert answers(f"{url}/well", 5)
        assert not answers(f"{url}/elsewhere", 5)
        assert answers(f"{url}/elsewhere", 5, any_status=True)
    assert not answers(f"{url}/well", 5, any_status=True)


def test_it_trusts_whom_ssl_cert_file_names_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = certificate(tmp_path)
    with answering("/well", pair) as url:
        assert not answers(f"{url}/well", 5)
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
        assert answers(f"{url}/well", 5)
