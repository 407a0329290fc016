"""The API of Kubernetes, as far as it is needed here; objects are dictionaries, as in a manifest.

Every call may be made again: what is written is applied from the server's side (a repeated apply changes
nothing) or is a patch of single fields. So each is tried again by itself when the API server is busy,
restarts or does not answer, for as long as a restart takes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from sevenfold.errors import SevenfoldError
from sevenfold.settings import Settings

Object = dict[str, Any]

MANAGER = "sevenfold"
"""The field manager: what it has applied is ours; what others set, such as an HPA, stays theirs."""
TRIES_S = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
"""How long is waited before each further try."""
CONNECT_S, READ_S = 5.0, 20.0
_AGAIN = (409, 429, 500, 502, 503, 504)
"""409 too: two that create an object at the same time; the second one's next try finds it there."""


class ClusterUnreachable(SevenfoldError):
    """The API server does not answer, or refuses for the moment."""

    retry = True


class ClusterRefused(SevenfoldError):
    """The API server understood, and does not do it."""


class ClusterForbids(ClusterRefused):
    """This account may not do it."""


class Changed(SevenfoldError):
    """The cluster has gone on: what was to be deleted is another, what is watched has to be listed anew."""

    retry = True


class KubernetesApi:
    """Calls by path, such as `/apis/apps/v1/namespaces/<namespace>/deployments/<name>`."""

    def __init__(self, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        """
        Args:
            settings: whether there is a kubeconfig, or the pod's own account is used.
            sleep: waits so many seconds.
        """
        self._settings, self._sleep = settings, sleep

    @cached_property
    def _client(self) -> Any:
        from kubernetes import client, config

        try:
            if self._settings.kubeconfig:
                return config.new_client_from_config(str(self._settings.kubeconfig))
            made = client.Configuration()
            config.load_incluster_config(made)
            return client.ApiClient(made)
        except config.ConfigException as error:
            raise ClusterRefused(
                f"no Kubernetes API is known here ({error}): set SEVENFOLD_KUBECONFIG to a kubeconfig, or "
                "run as a pod whose service account's token is mounted"
            ) from error

    def get(self, path: str) -> Object | None:
        """The object; None if there is none."""
        return self._call("GET", path)

    def list(self, path: str, labels: Mapping[str, str]) -> Object:
        """The list of what carries these labels: `items`, and `metadata.resourceVersion` to watch it from.

        Raises:
            ClusterRefused: there is no such API (of a namespace that is not there the list is empty).
        """
        found = self._call("GET", path, {"labelSelector": _selector(labels)})
        if found is None:
            raise ClusterRefused(f"the Kubernetes API knows nothing of {path}: is it of 1.30 or newer?")
        return found

    def apply(self, path: str, wanted: Object) -> Object:
        """Creates the object, or makes the fields of it that `wanted` names what it says."""
        said = {"fieldManager": MANAGER, "force": "true"}
        return self._call("PATCH", path, said, wanted, "application/apply-patch+yaml") or {}

    def create(self, path: str, wanted: Object) -> None:
        """Creates the object.

        Raises:
            Changed: it is there already.
        """
        self._call("POST", path.rpartition("/")[0], {"fieldManager": MANAGER}, wanted)

    def replace(self, path: str, wanted: Object) -> None:
        """Replaces the object of the version that `wanted` names.

        Raises:
            Changed: there is another one meanwhile, or none.
        """
        if self._call("PUT", path, {"fieldManager": MANAGER}, wanted) is None:
            raise Changed(f"{path} is gone")

    def patch(self, path: str, change: Object) -> Object | None:
        """Changes single fields (a JSON merge patch); None if there is no such object."""
        return self._call("PATCH", path, {"fieldManager": MANAGER}, change, "application/merge-patch+json")

    def delete(self, path: str, version: str | None = None) -> None:
        """Deletes the object, and what it owns after it; nothing happens if there is none.

        Raises:
            Changed: it is of another version than this one.
        """
        exactly = {"preconditions": {"resourceVersion": version}} if version else {}
        self._call("DELETE", path, {"propagationPolicy": "Background"}, exactly or None)

    def watch(self, path: str, labels: Mapping[str, str], since: str, seconds: int) -> Iterator[None]:
        """Comes back at every change after the list of version `since`; ends after `seconds`.

        Raises:
            Changed: too much has happened since.
            ClusterUnreachable: the API server does not answer.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        query = {"labelSelector": _selector(labels), "watch": "true", "resourceVersion": since}
        query |= {"timeoutSeconds": str(seconds), "allowWatchBookmarks": "true"}
        try:
            answer = self._request("GET", path, query, whole=False, limit=seconds + READ_S)
            try:
                for line in _lines(answer):
                    event = json.loads(line)
                    if event.get("type") == "ERROR":
                        raise Changed(str(event.get("object", {}).get("message") or "the watch has ended"))
                    if event.get("type") != "BOOKMARK":
                        yield
            finally:
                answer.close()
        except ApiException as error:
            if error.status == 410:
                raise Changed(_sentence(error)) from error
            raise _error("GET", path, error) from error
        except (HTTPError, OSError, ValueError) as error:
            raise ClusterUnreachable(f"the Kubernetes API ends a watch of {path}: {error}") from error

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
    ) -> Object | None:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        for wait in (*TRIES_S, None):
            try:
                done: Object = self._request(method, path, query, body, kind)
                return done
            except ApiException as error:
                if error.status == 404 and (method in ("GET", "PUT", "DELETE") or _is_missing(error)):
                    return None
                if error.status == 409 and method in ("POST", "PUT", "DELETE"):
                    raise Changed(_sentence(error)) from error
                if wait is None or error.status not in _AGAIN:
                    raise _error(method, path, error) from error
                self._sleep(max(wait, _asked_to_wait(error)))
            except (HTTPError, OSError) as error:
                if wait is None:
                    raise ClusterUnreachable(f"the Kubernetes API does not answer: {error}") from error
                self._sleep(wait)
        return None

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
        *,
        whole: bool = True,
        limit: float = READ_S,
    ) -> Any:
        return self._client.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": kind},
            body=body,
            response_types_map={200: "object", 201: "object", 202: "object"},
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=whole,
            _request_timeout=(CONNECT_S, limit),
        )


def _lines(answer: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in answer.stream(amt=None, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _is_missing(error: Any) -> bool:
    """Whether an object that was to be patched is not there; a missing namespace or API is another thing."""
    details = _status(error).get("details") or {}
    return bool(details.get("kind") not in (None, "namespaces") and details.get("name"))


def _status(error: Any) -> dict[str, Any]:
    try:
        said = json.loads(error.body)
        return said if isinstance(said, dict) else {}
    except (ValueError, TypeError):
        return {}


def _sentence(error: Any) -> str:
    return str(_status(error).get("message") or error.reason or error.status).strip().rstrip(".")


def _asked_to_wait(error: Any) -> float:
    """Seconds that the API server asks for, at most half a minute."""
    try:
        return min(30.0, float((error.headers or {}).get("Retry-After", 0)))
    except (TypeError, ValueError):
        return 0.0


def _error(method: str, path: str, error: Any) -> SevenfoldError:
    said = _sentence(error)
    if error.status == 403 and "exceeded quota" in said:
        return ClusterUnreachable(f"the namespace's quota does not let it in: {said}")
    if error.status in (401, 403):
        return ClusterForbids(
            f"the cluster does not allow it: {said}; apply the roles in include/kubernetes/"
        )
    if error.status in _AGAIN or error.status == 0:
        return ClusterUnreachable(f"the Kubernetes API does not do {method} {path} now: {said}")
    return ClusterRefused(f"the Kubernetes API refuses {method} {path}: {said}")
