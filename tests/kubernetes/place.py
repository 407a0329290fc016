"""The namespaces of one session of tests: a testbed, Airflow's account, one environment."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.forward import Forward

from sevenfold.kubernetes import images
from sevenfold.kubernetes.secret_files import secret_files

PORTS = {"database": 5432, "objects": 9000, "mlflow": 5000}
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass
class Images:
    """Which images the pods run, by name, and whether they may be pulled."""

    references: dict[str, str]
    pull_policy: str

    @classmethod
    def given(cls) -> Images:
        """Those of the file that `make images` writes, of another registry or tag if variables say so."""
        registry, tag = (os.environ.get(f"SEVENFOLD_TEST_{name}", "") for name in ("REGISTRY", "TAG"))
        found = {
            name: f"{registry or 'sevenfold'}/{name}:{tag or 'dev'}" if registry or tag else reference
            for name, reference in images.references().items()
        }
        return cls(found, os.environ.get("SEVENFOLD_TEST_PULL_POLICY", "IfNotPresent"))

    def __getitem__(self, name: str) -> str:
        return self.references[name]

    def settings(self) -> dict[str, Any]:
        """What the connection is told of them."""
        return {"images": self.references, "image_pull_policy": self.pull_policy}


@dataclass
class Place:
    """Where one session of tests happens."""

    cluster: Cluster
    images: Images
    secrets: Path
    environment: str = "training"
    name: str = field(default_factory=lambda: f"sevenfold-test-{secrets.token_hex(2)}")
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    forwards: dict[str, Forward] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Of the environment's pods."""
        return f"{self.name}-{self.environment}"

    def prepare(self) -> None:
        """Makes all that is needed, the testbed first: it takes longest."""
        print(f"namespaces {self.name}-..., images {self.images['trainer']} and {self.images['testbed']}")
        for priority in self.cluster.objects("base/priorities.yaml"):
            self.cluster.make(priority)
        self._start_testbed()
        self._make_environment()
        self._make_airflows_account()
        self._await_testbed()
        self._tell_pods()

    def address(self, part: str) -> str:
        """Host and port of a part of the testbed, as the test's own machine reaches it."""
        return f"127.0.0.1:{self.forwards[part].port}"

    def settings(self, host: dict[str, str]) -> dict[str, str]:
        """Variables of whoever talks to the testbed at these addresses."""
        database = f"sevenfold:{self.password}@{host['database']}/sevenfold"
        return {
            "SEVENFOLD_EVIDENCE_URL": f"postgresql+psycopg://{database}",
            "SEVENFOLD_ARTIFACTS_URL": "s3://sevenfold/artifacts",
            "SEVENFOLD_MLFLOW_URL": f"http://{host['mlflow']}",
            "AWS_ENDPOINT_URL": f"http://{host['objects']}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "sevenfold",
            "AWS_SECRET_ACCESS_KEY": "sevenfold",  # pragma: allowlist secret
        }

    def kubeconfig(self, folder: Path) -> Path:
        """One that knows nothing but the token of Airflow's account: what the Role gives has to be enough."""
        given = yaml.safe_load(Path(self.cluster.kubeconfig).read_text())
        name = given["current-context"]
        context = next(one for one in given["contexts"] if one["name"] == name)
        account = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        asked = self.cluster.core.create_namespaced_service_account_token(
            "airflow-worker", f"{self.name}-airflow", account | {"spec": {"expirationSeconds": 7200}}
        )
        context["context"]["user"] = "airflow"
        given["users"] = [{"name": "airflow", "user": {"token": asked.status.token}}]
        path = folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(given))
        return path

    def allow(self, yes: bool = True) -> None:
        """Gives Airflow's account its role in the environment's namespace, or takes it away."""
        role, binding = self.cluster.objects("base/environments/every/launcher.yaml")
        if not yes:
            self.cluster.rights.delete_namespaced_role_binding(binding["metadata"]["name"], self.namespace)
            return
        binding["subjects"] = [{**one, "namespace": f"{self.name}-airflow"} for one in binding["subjects"]]
        for made in (role, binding):
            self.cluster.make(made, self.namespace)

    def _start_testbed(self) -> None:
        self.cluster.make_namespace(f"{self.name}-testbed")
        ports = [{"name": name, "port": port} for name, port in PORTS.items()]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "testbed", "labels": {"app": "testbed"}},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": RESTRICTED,
                "volumes": [{"name": "scratch", "emptyDir": {}}],
                "containers": [
                    {
                        "name": "testbed",
                        "image": self.images["testbed"],
                        "imagePullPolicy": self.images.pull_policy,
                        "env": [{"name": "TESTBED_PASSWORD", "value": self.password}],
                        "readinessProbe": {"tcpSocket": {"port": PORTS["mlflow"]}, "periodSeconds": 2},
                        "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                    }
                ],
            },
        }
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "testbed"},
            "spec": {"selector": {"app": "testbed"}, "ports": ports},
        }
        for made in (pod, service):
            self.cluster.make(made, f"{self.name}-testbed")

    def _make_environment(self) -> None:
        """The environment's namespace as include/kubernetes has it, but for its NetworkPolicies.

        Those name addresses of a real installation, tests/manifests reads them, and the testbed is not there.
        """
        self.cluster.make_namespace(self.namespace)
        files = [
            "base/environments/every/limits.yaml",
            f"base/environments/{self.environment}/{self.environment}.yaml",
            "base/environments/training/nodes.yaml",
        ]
        for path in files:
            for made in self.cluster.objects(path):
                if made["kind"] in ("ServiceAccount", "LimitRange", "ResourceQuota", "Service"):
                    self.cluster.make(made, self.namespace)
        self.cluster.make_claim(
            "sevenfold-data", self.namespace, self.images["testbed"], self.images.pull_policy
        )

    def _make_airflows_account(self) -> None:
        self.cluster.make_namespace(f"{self.name}-airflow")
        for made in self.cluster.objects("base/airflow/accounts.yaml"):
            self.cluster.make(made, f"{self.name}-airflow")
        self.allow()

    def _await_testbed(self) -> None:
        space = f"{self.name}-testbed"
        self.cluster.running("testbed", space, 900)  # a slow registry, a slow machine
        for name, port in PORTS.items():
            self.forwards[name] = Forward(self.cluster.core, space, "testbed", port)

    def _tell_pods(self) -> None:
        """Where pods reach the testbed: by addresses, as there may be no DNS. Passwords are a Secret's."""
        address = self.cluster.core.read_namespaced_service("testbed", f"{self.name}-testbed").spec.cluster_ip
        told = self.settings({name: f"{address}:{port}" for name, port in PORTS.items()})
        hidden = ("SEVENFOLD_EVIDENCE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        self.cluster.make(_map("ConfigMap", {n: told[n] for n in told if n not in hidden}), self.namespace)
        self.cluster.make(_map("Secret", {n: told[n] for n in hidden}), self.namespace)
        self.cluster.make(secret_files(self.secrets, self.environment), self.namespace)


def _map(kind: str, data: dict[str, str]) -> dict[str, Any]:
    where = "stringData" if kind == "Secret" else "data"
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "sevenfold"}, where: data}
