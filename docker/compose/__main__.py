"""Writes what docker/compose.yaml needs: passwords in ../.env, once, and the rules of Prometheus, each time.

    python docker/compose

Needs nothing but Python. The rules are those of the cluster (include/kubernetes/components/monitoring), and
the images those that `make images` has built last.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
from pathlib import Path
from textwrap import dedent

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RULES = ROOT / "include" / "kubernetes" / "components" / "monitoring"
IMAGES = ROOT / "include" / "kubernetes" / "images" / "kustomization.yaml"
OURS = ("machine", "mlflow")
PASSWORDS = (
    *("SEVENFOLD_PASSWORD", "AIRFLOW_PASSWORD", "MLFLOW_PASSWORD", "GRAFANA_PASSWORD"),
    *("OBJECTS_KEY", "OBJECTS_SECRET", "AIRFLOW_API_KEY", "AIRFLOW_JWT_KEY"),
)


def main(folder: Path = HERE.parent) -> None:
    """Makes what lacks; passwords that are there stay, for the databases know them."""
    environment = folder / ".env"
    kept = dict(line.split("=", 1) for line in _lines(environment))
    fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    made = {name: secrets.token_hex(24) for name in PASSWORDS} | {"AIRFLOW_FERNET_KEY": fernet}
    private = {**made, **kept, **_images()}
    descriptor = os.open(environment.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in sorted(private.items()))
    environment.with_suffix(".new").replace(environment)
    rules = folder / "compose" / "rules"
    rules.mkdir(parents=True, exist_ok=True)
    for name in ("promises", "alerts"):
        (rules / f"{name}.yaml").write_text(rules_of((RULES / f"{name}.yaml").read_text()))


def rules_of(resource: str) -> str:
    """A PrometheusRule as a file of rules: the same groups, without what only Kubernetes needs."""
    [spec] = re.findall(r"^spec:\n((?:(?:  .*)?\n)+)", resource, re.MULTILINE)
    return dedent(spec)


def _images() -> dict[str, str]:
    """Our images as `make images` has noted them."""
    text = IMAGES.read_text() if IMAGES.is_file() else ""
    entry = r"name: sevenfold/(\w+), newName: (\S+), (newTag|digest): \"(\S+)\""
    return {
        f"{name.upper()}_IMAGE": f"{place}{'@' if how == 'digest' else ':'}{which}"
        for name, place, how, which in re.findall(entry, text)
        if name in OURS
    }


def _lines(file: Path) -> list[str]:
    """What it sets, without the blank lines and comments that somebody may have added."""
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line for line in lines if "=" in line and not line.lstrip().startswith("#")]


if __name__ == "__main__":
    main()
