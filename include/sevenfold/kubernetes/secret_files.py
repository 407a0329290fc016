"""The files that a namespace of a cluster gets of this machine's secrets: as few as it needs, as one Secret.

Its pods find them at /secrets (include/kubernetes/pods). Gates are judged and signed in Airflow's namespace:
only there lies the private key. Tokens of the gateway are made where load is sent through it. Staging's
activities run code of candidates: its gateway has keys of its own, so that what is signed there counts there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sevenfold.environments import ENVIRONMENTS
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import public_keys
from sevenfold.evidence.signing import Keys
from sevenfold.secrets import VIEWER, airflow_passwords
from sevenfold.serving import pseudonyms
from sevenfold.serving.keys import GatewayKeys

NAME = "sevenfold-files"
AIRFLOW = "airflow"
APART = "staging"
"""The environment whose gateway has keys of its own, in a folder of its name among the secrets."""
GATEWAY = ("gateway_keys.json", "gateway_tokens.json")
PRIVATE: Mapping[str, tuple[str, ...]] = {
    "staging": (*GATEWAY, pseudonyms.FILE),
    "preproduction": (*GATEWAY, pseudonyms.FILE),
    "production": (*GATEWAY, pseudonyms.FILE),
    "monitoring": (pseudonyms.FILE,),
    AIRFLOW: ("signing.pem", "airflow.json"),
}
"""What each namespace gets beside the public keys."""


def secret_files(folder: Path, of: str, namespace: str = "") -> dict[str, Any]:
    """The Secret of an environment's namespace, or of Airflow's, from those in `folder`; makes what lacks.

    Raises:
        SevenfoldError: `of` is no environment and not airflow.
    """
    if of not in (*ENVIRONMENTS, AIRFLOW):
        raise SevenfoldError(f"{of} is none of {', '.join((*ENVIRONMENTS, AIRFLOW))}")
    evidence, keys = folder / "evidence", folder / APART if of == APART else folder
    _make_all(folder, evidence)
    GatewayKeys(keys).standing()
    content = {
        f"{name}.json": public_keys.together(evidence / name).encode() for name in ("trusted", "people")
    }
    places = {"signing.pem": evidence, **dict.fromkeys(GATEWAY, keys)}
    for name in PRIVATE.get(of, ()):
        content[name] = (places.get(name, folder) / name).read_bytes()
    if of == "staging":  # whose activities run the candidate's code: it must not approve itself
        content["airflow.json"] = json.dumps({VIEWER: airflow_passwords(folder)[VIEWER]}).encode()
    if GATEWAY[0] in content:  # a gateway runs there, which mounts the public halves only
        content["gateway_jwks.json"] = json.dumps(GatewayKeys(keys).jwks()).encode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": NAME,
            "namespace": namespace or f"sevenfold-{of}",
            "labels": {"app.kubernetes.io/part-of": "sevenfold"},
        },
        "type": "Opaque",
        "data": {name: base64.b64encode(said).decode() for name, said in sorted(content.items())},
    }


def gateway_keys(folder: Path) -> Iterator[GatewayKeys]:
    """The keys of all gateways: this machine's, which go to production, and those apart."""
    yield GatewayKeys(folder)
    if (folder / APART).is_dir():
        yield GatewayKeys(folder / APART)


def _make_all(folder: Path, evidence: Path) -> None:
    """What is made at first use, made; the own public key stands among the trusted ones from then on."""
    _ = Keys(evidence).signer
    airflow_passwords(folder)
    pseudonyms.made(folder)
