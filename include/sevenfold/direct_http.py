"""HTTP to what belongs to Sevenfold, past every proxy: that knows another 127.0.0.1, no service of a cluster.

httpx takes from the environment both proxies and SSL_CERT_FILE, or nothing; here it takes the second alone.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


def trusted() -> ssl.SSLContext:
    """Trusts whom this machine trusts, and whom SSL_CERT_FILE names: such as the authority of a company."""
    return ssl.create_default_context()


def client(timeout: float, **more: Any) -> httpx.Client:
    """A client of these seconds; `more` is what httpx.Client takes."""
    import httpx

    return httpx.Client(timeout=timeout, trust_env=False, verify=trusted(), **more)


def answers(url: str, timeout: float, any_status: bool = False) -> bool:
    """Whether somebody answers there, well or with any status."""
    import httpx

    with client(timeout) as asking:
        try:
            said = asking.get(url)
        except httpx.HTTPError:
            return False
    return any_status or said.is_success
