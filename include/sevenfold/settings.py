"""Where things are: one object, filled from SEVENFOLD_* variables, the same on a laptop and on a cluster."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY = Path(__file__).resolve().parents[2]


class Settings(BaseSettings):
    """Addresses and folders. Every field is settable as SEVENFOLD_<NAME>; empty ones follow `home`."""

    model_config = SettingsConfigDict(env_prefix="SEVENFOLD_", frozen=True, extra="ignore")

    runtime: Literal["local", "kubernetes"] = "local"
    home: Path = REPOSITORY / ".sevenfold"
    models: Path = REPOSITORY / "include" / "models"
    data: Path = Path()
    secrets: Path = Path()
    shared: Path = Path()
    """What an activity leaves for others, on a later day too; on a cluster a folder of the volume."""
    logs: Path = Path()
    airflow_logs: Path = Path()
    """Where preproduction looks for secrets in what tasks logged; without such a folder it says so."""
    evidence_url: str = ""
    artifacts_url: str = ""
    mlflow_url: str = "http://127.0.0.1:15500"
    gateway_url: str = "http://127.0.0.1:18000"
    """https here asks for the two files below."""
    gateway_requests_per_second: PositiveInt = 5_000
    """How often each key may ask."""
    gateway_certificate: Path | None = None
    gateway_key: Path | None = None
    """PEM files of the gateway's TLS. Clients of Sevenfold's own trust what SSL_CERT_FILE names."""
    gateway_plain: bool = False
    """Whether it may listen beyond loopback without TLS: inside a cluster whose network nobody else reads."""
    public_url: str = ""
    """Where callers of production ask; empty: at gateway_url. On a cluster each environment has its own."""
    airflow_url: str = "http://127.0.0.1:18080"
    images: dict[str, str] = {}
    """Full reference of each image, where pods run; a pod gets it as JSON. Empty: as the next file says."""
    images_file: Path = REPOSITORY / "include" / "kubernetes" / "images" / "kustomization.yaml"
    """Written by `make images`."""
    four_eyes: bool = True
    """Whether who asks for a promotion to production may not approve it."""

    # what differs between clusters, for whoever deploys replicas there
    namespace: str = "sevenfold-{environment}"
    """Of each environment."""
    kubeconfig: Path | None = None
    """None: the account of the pod in which this runs."""
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    """Of replicas; empty: as the cluster likes."""
    priority_class: str = "sevenfold-serving"
    """Of replicas."""
    server_secret: str = "sevenfold-server"  # noqa: S105 - its name
    """The Secret whose keys are variables of replicas: SEVENFOLD_EVIDENCE_URL of a role that only reads."""
    custom_metrics: bool = False
    """Whether the cluster has the external metric by which replicas follow requests in flight; else CPU."""
    gateway_api: str = ""
    """Name of the Gateway (Gateway API) of production that routes callers; empty: our own Envoy."""

    def namespace_of(self, environment: str) -> str:
        """The namespace of an environment."""
        return self.namespace.replace("{environment}", environment)

    @property
    def callers_url(self) -> str:
        """Where callers of production ask."""
        return self.public_url or self.gateway_url

    @model_validator(mode="before")
    @classmethod
    def _follow_home(cls, given: dict[str, object]) -> dict[str, object]:
        home = Path(str(given.get("home") or REPOSITORY / ".sevenfold")).absolute()
        defaults = {
            "home": home,
            "data": home / "data",
            "shared": home,
            "secrets": home / "secrets",
            "logs": home / "logs",
            "airflow_logs": home / "airflow" / "logs",
            "evidence_url": f"sqlite:///{home}/evidence.db",
            "artifacts_url": f"file://{home}/artifacts",
        }
        return (
            defaults
            | {name: value for name, value in given.items() if value not in ("", None)}
            | {"home": home}
        )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
