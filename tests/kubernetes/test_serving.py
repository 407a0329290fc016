"""A server rolled out and back on a real cluster under load, its nodes drained: nothing is lost.

    KUBECONFIG=... python -m pytest -m kubernetes tests/kubernetes/test_serving.py

The pods run the images activities, gateway and server (see conftest.py).
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.place import Images
from tests.sevenfold.evidence_world import MODEL
from tests.sevenfold.serving import tiny
from tests.toy import MODEL_YAML

from sevenfold.kubernetes.api import KubernetesApi, Object
from sevenfold.kubernetes.secret_files import secret_files
from sevenfold.settings import REPOSITORY, Settings

KUBERNETES, HERE = REPOSITORY / "include" / "kubernetes", Path(__file__).parent
IMAGES = Images.given()
PATHS = {
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Secret": ("/api/v1", "secrets"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Service": ("/api/v1", "services"),
    "Pod": ("/api/v1", "pods"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
}
SMALL = {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"memory": "700Mi"}}
DATABASE = "sqlite:////logs/evidence.db"
"""On the volume that the pods share: the database is not what is tested here."""


class Place:
    """The namespaces of one run, named so that nobody else has them."""

    def __init__(self, api: KubernetesApi, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.template = f"serving-{secrets.token_hex(2)}-{{environment}}"
        self.namespace = self.of("production")

    def of(self, environment: str) -> str:
        return self.template.replace("{environment}", environment)

    def path(self, kind: str, name: str, namespace: str | None) -> str:
        group, plural = PATHS[kind]
        where = f"namespaces/{namespace}/" if namespace else ""
        return f"{group}/{where}{plural}/{name}"

    def make(self, made: Object, namespace: str | None = None) -> None:
        made = json.loads(json.dumps(made))
        made["metadata"].pop("namespace", None)
        self.api.apply(self.path(made["kind"], made["metadata"]["name"], namespace), made)

    def wait(self, holds: Callable[[], Any], otherwise: str, seconds: float = 240) -> Any:
        until = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < until, otherwise
            time.sleep(0.5)
        return found

    def log(self, pod: str) -> list[str]:
        """Lines of a pod's log; none before it runs."""
        from kubernetes.client import ApiException, CoreV1Api

        try:
            log = CoreV1Api(self.api._client).read_namespaced_pod_log
            told = log(pod, self.namespace, _preload_content=False).data.decode()
        except ApiException:
            return []
        return told.splitlines()

    def pods(self, **labels: str) -> list[Object]:
        found: list[Object] = self.api.list(
            f"/api/v1/namespaces/{self.namespace}/pods",
            {name.replace("__", "/").replace("_", "."): value for name, value in labels.items()},
        )["items"]
        return found


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Place:
    made = Place(KubernetesApi(Settings(home=tmp_path, kubeconfig=Path(cluster.kubeconfig))), tmp_path)
    prepare(made, cluster)
    return made


def prepare(place: Place, cluster: Cluster) -> None:
    """The namespaces of the environments that serve, with what production's overlay would put there."""
    for one in cluster.objects("base/priorities.yaml"):
        cluster.make(one)
    for environment in ("production", "preproduction", "staging"):
        cluster.make_namespace(place.of(environment))
    for file in ("serving/accounts.yaml", "serving/deployer.yaml", "production/production.yaml"):
        for one in yaml.safe_load_all((KUBERNETES / "base/environments" / file).read_text()):
            if one["kind"] in ("ServiceAccount", "Role") or one["metadata"]["name"] in (
                "gateway",
                "production-deploys",
            ):
                for subject in one.get("subjects", []):
                    subject["namespace"] = place.namespace
                place.make(one, place.namespace)
    everywhere = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "gateway"},
    }
    slices = {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["get", "list", "watch"],
    }
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gateway"}
    subject = {"kind": "ServiceAccount", "name": "gateway", "namespace": place.namespace}
    binding = {**everywhere, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    for one in ({**everywhere, "rules": [slices]}, binding):
        place.make(one, place.of("preproduction"))
    cluster.make_claim("sevenfold-logs", place.namespace, IMAGES["activities"], IMAGES.pull_policy)
    keep_secrets(place)
    place.make(kind("ConfigMap", "sevenfold", data=variables(place)), place.namespace)
    place.make(kind("ConfigMap", "driver", **content(place.folder)), place.namespace)
    there = f"/logs/models/{MODEL}"  # in images that are not for tests the models are part of the code
    copy = f"mkdir -p {there} && cp /driver/model.yaml {there}"
    place.make(pod("models", ["sh", "-c", copy]), place.namespace)
    place.wait(lambda: phase(place, "models") == "Succeeded", "the model's folder is not made")
    for one in yaml.safe_load_all((KUBERNETES / "base/environments/serving/gateway.yaml").read_text()):
        if one["kind"] == "Deployment":
            (container,) = one["spec"]["template"]["spec"]["containers"]
            container |= {
                "image": IMAGES["gateway"],
                "imagePullPolicy": IMAGES.pull_policy,
                "resources": SMALL,
            }
            container["args"] = ["--environment", "production"]
        place.make(one, place.namespace)


def kind(name: str, of: str, **more: Any) -> Object:
    return {"apiVersion": "v1", "kind": name, "metadata": {"name": of}, **more}


def keep_secrets(place: Place) -> None:
    keys = place.folder / "secrets"
    files, signing = secret_files(keys, "production"), secret_files(keys, "airflow")
    for name, data in (("sevenfold-files", files["data"]), ("signing", signing["data"])):
        place.make(kind("Secret", name, data=data), place.namespace)
    database = {"SEVENFOLD_EVIDENCE_URL": DATABASE}
    for name in ("sevenfold-server", "sevenfold-gateway"):
        place.make(kind("Secret", name, stringData=database), place.namespace)


def variables(place: Place) -> dict[str, str]:
    return {
        "SEVENFOLD_RUNTIME": "kubernetes",
        "SEVENFOLD_NAMESPACE": place.template,
        "SEVENFOLD_MODELS": "/logs/models",
        "SEVENFOLD_ARTIFACTS_URL": "file:///logs/artifacts",
        "SEVENFOLD_GATEWAY_PLAIN": "true",
        "SEVENFOLD_GATEWAY_URL": "http://gateway:8000",
        "SEVENFOLD_IMAGES": json.dumps({"server": IMAGES["server"]}),
        "SEVENFOLD_IMAGE_PULL_POLICY": IMAGES.pull_policy,
    }


def content(folder: Path) -> dict[str, Any]:
    """What driver and load bring along."""
    models = {
        letter: tiny.write(folder / f"{letter}.onnx", bias) for letter, bias in (("a", 0.0), ("b", 1.0))
    }
    serving = "serving:\n  scaling: {most: 4, in_flight: 2}\n  resources: {cpu: 100m, memory: 400Mi}\n"
    text = MODEL_YAML.replace("name: toy", f"name: {MODEL}").replace(
        "serving:\n  replicas: 1\n", f"{serving}  replicas: 2\n"
    )
    world = REPOSITORY / "tests" / "sevenfold" / "evidence_world.py"
    files = [world, HERE / "serving_driver.py", HERE / "serving_load.py"]
    return {
        "data": {
            **{file.name: file.read_text() for file in files},
            "model.yaml": text,
            "request.json": json.dumps(tiny.request(1)),
        },
        "binaryData": {file.name: base64.b64encode(file.read_bytes()).decode() for file in models.values()},
    }


def pod(name: str, command: list[str], **variables: str) -> Object:
    """An activity's pod, as include/kubernetes/pods has it, with the test's files."""
    base, particular = (
        yaml.safe_load((KUBERNETES / "pods" / f"{file}.yaml").read_text()) for file in ("base", "production")
    )
    spec = base["spec"]
    spec |= {"serviceAccountName": "promoter", "automountServiceAccountToken": True}
    (container,) = spec["containers"]
    container |= {
        "image": IMAGES["activities"],
        "imagePullPolicy": IMAGES.pull_policy,
        "command": command,
        "resources": SMALL,
    }
    container["envFrom"] = [{"configMapRef": {"name": "sevenfold"}}]
    given = {"SEVENFOLD_LOGS": "/logs", "SEVENFOLD_SECRETS": "/secrets", "SEVENFOLD_EVIDENCE_URL": DATABASE}
    container["env"] = [{"name": key, "value": value} for key, value in {**given, **variables}.items()]
    container["volumeMounts"] = [
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "logs", "mountPath": "/logs"},
        {"name": "secrets", "mountPath": "/secrets", "readOnly": True},
        {"name": "driver", "mountPath": "/driver", "readOnly": True},
    ]
    (secret,) = [one for one in particular["spec"]["volumes"] if one["name"] == "secrets"]
    key = {"key": "signing.pem", "path": "evidence/signing.pem"}
    secret["projected"]["sources"].append({"secret": {"name": "signing", "items": [key]}})
    files = [
        {"key": name, "path": name}
        for name in (
            "evidence_world.py",
            "serving_driver.py",
            "serving_load.py",
            "model.yaml",
            "request.json",
            "a.onnx",
            "b.onnx",
        )
    ]
    spec["volumes"] = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "logs", "persistentVolumeClaim": {"claimName": "sevenfold-logs"}},
        secret,
        {"name": "driver", "configMap": {"name": "driver", "items": files}},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": base["metadata"]["labels"]},
        "spec": spec,
    }


def steps(place: Place) -> dict[str, float]:
    """What the driver has done, with the seconds of each step."""
    found = {}
    for line in place.log("driver"):
        if line.startswith("{"):
            said = json.loads(line)
            found[said["step"]] = said.get("seconds", 0.0)
    return found


def phase(place: Place, name: str) -> str:
    there = place.api.get(place.path("Pod", name, place.namespace)) or {}
    return str(there.get("status", {}).get("phase"))


def reached(place: Place, step: str) -> bool:
    assert phase(place, "driver") != "Failed", "\n".join(place.log("driver")[-15:])
    return step in steps(place)


def test_out_and_back_under_load_without_a_lost_request(place: Place) -> None:
    place.make(pod("driver", ["python", "/driver/serving_driver.py"]), place.namespace)
    place.wait(lambda: reached(place, "waits for loaded"), "the champion is not in force", 420)
    place.wait(lambda: ready_gateways(place) == 2, "the gateways are not ready", 420)
    service = place.api.get(place.path("Service", "gateway", place.namespace)) or {}
    url = f"http://{service['spec']['clusterIP']}:8000"
    place.make(pod("load", ["python", "/driver/serving_load.py"], URL=url, MODEL=MODEL), place.namespace)
    place.wait(lambda: reached(place, "promoted"), "the candidate does not become champion", 420)

    gateways = place.pods(app_kubernetes_io__component="gateway")
    gone = gateways[0]["metadata"]["name"]
    place.api.delete(place.path("Pod", gone, place.namespace))
    place.wait(lambda: gone not in names(place) and ready_gateways(place) == 2, "the gateway is not replaced")
    assert drain(place) > 0, "what is there twice may go only one after the other"
    place.make(pod("tell", ["touch", "/logs/gateway-replaced"]), place.namespace)
    place.wait(lambda: reached(place, "done"), "the candidate does not come off", 240)
    place.wait(lambda: any(line.startswith("{") for line in place.log("load")), "the load does not end", 60)

    answers = json.loads(next(line for line in place.log("load") if line.startswith("{")))
    taken = steps(place)
    print(f"{answers}\n{taken}")
    lost = {said: number for said, number in answers.items() if said.startswith("lost")}
    assert lost == {}, f"{sum(lost.values())} of {sum(answers.values())} requests were lost"
    assert len(answers) == 2, "both candidates answered"
    assert min(answers.values()) > 50
    assert taken["roll back"] < 5.0


def drain(place: Place) -> int:
    """Evicts gateways and replicas as a drain of their nodes does; how often a budget had it wait."""
    from kubernetes.client import ApiException, CoreV1Api, V1Eviction, V1ObjectMeta

    evict, refused = CoreV1Api(place.api._client).create_namespaced_pod_eviction, 0

    def went(name: str) -> bool:
        nonlocal refused
        try:
            evict(name, place.namespace, V1Eviction(metadata=V1ObjectMeta(name=name)))
        except ApiException as error:
            refused += error.status == 429
            return error.status == 404
        return True

    both = [
        *place.pods(app_kubernetes_io__component="gateway"),
        *place.pods(app_kubernetes_io__component="server"),
    ]
    print(f"on {dict(Counter(one['spec']['nodeName'] for one in both))}")
    for name in [one["metadata"]["name"] for one in both]:
        place.wait(lambda name=name: went(name), f"{name} may not go")
    place.wait(lambda: ready_gateways(place) == 2, "the gateways do not come back")
    return refused


def names(place: Place) -> set[str]:
    return {one["metadata"]["name"] for one in place.pods(app_kubernetes_io__component="gateway")}


def ready_gateways(place: Place) -> int:
    return sum(
        any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in found["status"].get("conditions", [])
        )
        for found in place.pods(app_kubernetes_io__component="gateway")
    )
