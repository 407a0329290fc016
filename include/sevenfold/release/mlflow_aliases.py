"""MLflow's `champion` and `challenger` aliases, kept in step with the release row over MLflow's REST API.

MLflow overwrites aliases blindly, so they are derived and never read back as truth. The registered model
carries the row's generation as a tag; a later one is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sevenfold import direct_http
from sevenfold.release.reconcile import RegistryUnavailable

if TYPE_CHECKING:
    import httpx

    from sevenfold.candidates.candidate import Candidate
    from sevenfold.release.release_row import ReleaseRow

CANDIDATE = "sevenfold.candidate"
"""Tag of a model version: which candidate it is."""
GENERATION = "sevenfold.generation"
"""Tag of a registered model: the generation of the release row that its aliases show."""
TIMEOUT_S = 5.0


class MlflowAliases:
    """Aliases in the MLflow at `url`.

    `candidate` finds a candidate by its id, to register it where nobody has. `transport` is for tests.
    """

    def __init__(
        self, url: str, candidate: Callable[[str], Candidate], transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._candidate = candidate
        self._transport = transport

    def apply(self, row: ReleaseRow) -> None:
        """Makes champion and challenger those of the row, unless MLflow shows a later generation.

        Raises:
            RegistryUnavailable: MLflow does not answer, or refuses.
        """
        import httpx

        try:
            with direct_http.client(TIMEOUT_S, base_url=self.url, transport=self._transport) as client:
                self._apply(client, row)
        except httpx.HTTPError as error:
            raise RegistryUnavailable(
                f"The model registry at {self.url} does not answer ({error}); its aliases will follow later."
            ) from error

    def _apply(self, client: httpx.Client, row: ReleaseRow) -> None:
        model = self._registered(client, row.model)
        tags = {tag["key"]: tag["value"] for tag in model.get("tags", [])}
        if int(tags.get(GENERATION, 0)) > row.generation:
            return
        there = {alias["alias"]: alias["version"] for alias in model.get("aliases", [])}
        for alias, candidate in (("champion", row.champion), ("challenger", row.candidate)):
            if candidate is None:
                if alias in there:
                    self._call(client, "DELETE", "registered-models/alias", name=row.model, alias=alias)
                continue
            version = self._version(client, row.model, candidate)
            if there.get(alias) != version:
                self._call(
                    client, "POST", "registered-models/alias", name=row.model, alias=alias, version=version
                )
        if tags.get(GENERATION) != str(row.generation):
            self._call(
                client,
                "POST",
                "registered-models/set-tag",
                name=row.model,
                key=GENERATION,
                value=str(row.generation),
            )

    def _registered(self, client: httpx.Client, model: str) -> dict[str, Any]:
        """The registered model, made where it is missing."""
        found = self._call(client, "GET", "registered-models/get", missing_ok=True, name=model)
        if found is None:
            self._call(client, "POST", "registered-models/create", exists_ok=True, name=model)
            found = self._call(client, "GET", "registered-models/get", name=model)
        return dict((found or {})["registered_model"])

    def _version(self, client: httpx.Client, model: str, candidate_id: str) -> str:
        """The version number of a candidate, registered where it is missing."""
        which = f"name = '{model}' AND tags.`{CANDIDATE}` = '{candidate_id}'"
        found = self._call(client, "GET", "model-versions/search", filter=which, max_results=1) or {}
        known = found.get("model_versions") or [self._register(client, model, candidate_id)]
        return str(known[0]["version"])

    def _register(self, client: httpx.Client, model: str, candidate_id: str) -> dict[str, Any]:
        candidate = self._candidate(candidate_id)
        version: dict[str, Any] = {
            "name": model,
            "source": f"sevenfold://{model}/{candidate.model_digest}",
            "run_id": candidate.mlflow_run,
            "description": candidate.reason,
            "tags": [{"key": CANDIDATE, "value": candidate_id}],
        }
        made = self._call(client, "POST", "model-versions/create", **version)
        return dict((made or {})["model_version"])

    def _call(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        *,
        missing_ok: bool = False,
        exists_ok: bool = False,
        **content: Any,
    ) -> dict[str, Any] | None:
        where, body = (content, None) if method == "GET" else (None, content)
        answer = client.request(method, f"/api/2.0/mlflow/{path}", params=where, json=body)
        if answer.is_success:
            return dict(answer.json())
        error = _error(answer)
        if (missing_ok and error.get("error_code") == "RESOURCE_DOES_NOT_EXIST") or (
            exists_ok and error.get("error_code") == "RESOURCE_ALREADY_EXISTS"
        ):
            return None
        said = error.get("message") or f"status {answer.status_code}"
        raise RegistryUnavailable(f"The model registry at {self.url} refuses {path}: {said}.")


def _error(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
