"""Callers of the test of serving: ask the gateway's Service without a pause, and count every answer."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

URL, TOKEN, MODEL = os.environ["URL"], Path("/secrets/gateway_tokens.json"), os.environ["MODEL"]
STOP, LOADED = Path("/logs/stop"), Path("/logs/loaded")
CALLERS, PAUSE_S = 4, 0.02


def ask(answers: Counter[str], body: bytes) -> None:
    """One caller, on one connection as long as the gateway lets it."""
    token = json.loads(TOKEN.read_text())["predict"]
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    with httpx.Client(base_url=URL, headers=headers, timeout=15, trust_env=False) as client:
        while not STOP.exists():
            try:
                answer = client.post(f"/v2/models/{MODEL}/infer", content=body)
                ok = answer.status_code == 200
                answers[
                    answer.json()["model_version"] if ok else f"lost: {answer.status_code} {answer.text}"
                ] += 1
            except httpx.HTTPError as error:
                answers[f"lost: {error!r}"] += 1
            if answers.total() == 100:
                LOADED.touch()
            time.sleep(PAUSE_S)


def main() -> None:
    """Counts until it is told to stop."""
    answers, body = Counter[str](), Path("/driver/request.json").read_bytes()
    threads = [threading.Thread(target=ask, args=(answers, body)) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main()
