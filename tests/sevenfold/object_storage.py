"""An S3 of the tests' own (moto) on loopback, with one bucket."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from sevenfold.trials.mirror import free_port

BUCKET = "artifacts"
ENOUGH_S = 60


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """A running server; yields the variables by which any client of S3 finds it."""
    port = free_port()
    running = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(running, url)
        httpx.put(f"{url}/{BUCKET}", trust_env=False).raise_for_status()
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "a key of the tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        running.terminate()
        running.wait(ENOUGH_S)


def _wait(running: subprocess.Popen[bytes], url: str) -> None:
    ends = time.monotonic() + ENOUGH_S
    while time.monotonic() < ends and running.poll() is None:
        try:
            httpx.get(f"{url}/moto-api/", trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"the S3 of the tests does not answer at {url}")
