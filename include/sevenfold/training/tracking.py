"""Experiments and models in MLflow: what was tried, on which data, and the model file that came of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold.data.tabular import Encoder
from sevenfold.data.windows import Window
from sevenfold.errors import SevenfoldError
from sevenfold.release.mlflow_aliases import CANDIDATE

PROMOTION_TAG = "sevenfold.promotion"
MOST_AT_ONCE = 1000
"""Metrics that MLflow takes in one request."""

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


class TrackingUnavailable(SevenfoldError):
    """MLflow does not answer, or refuses."""

    retry = True


@dataclass(frozen=True)
class Reading:
    """One value of a series: when it was taken (seconds since 1970), and at which step."""

    name: str
    value: float
    step: int
    at: float


@dataclass(frozen=True)
class TrackedRun:
    """A run in MLflow that is being written."""

    id: str
    mlflow: Any

    def params(self, params: Mapping[str, Any]) -> None:
        """What the run was told."""
        self.mlflow.log_params(dict(params))

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """What was measured; `step` is the epoch. Values that are no finite number are left out."""
        finite = {name: float(value) for name, value in metrics.items() if np.isfinite(value)}
        self.mlflow.log_metrics(finite, step=step)

    def series(self, readings: Iterable[Reading]) -> None:
        """Many readings at once, each with its step and the time it was taken; from any thread."""
        from mlflow.entities import Metric

        metrics = [Metric(one.name, one.value, int(1000 * one.at), one.step) for one in readings]
        client = self.mlflow.MlflowClient()
        for i in range(0, len(metrics), MOST_AT_ONCE):
            client.log_batch(self.id, metrics=metrics[i : i + MOST_AT_ONCE])

    def steps_of(self, metric: str) -> set[int]:
        """The steps that a metric was logged at."""
        return {one.step for one in self.mlflow.MlflowClient().get_metric_history(self.id, metric)}

    def data(self, name: str, source: str, digest: str, window: Window, rows: int) -> None:
        """Which data were learned from, by their content hash."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        origin = CodeDatasetSource({"source": source})
        dataset = MetaDataset(origin, name=name, digest=digest[:8])  # type: ignore[abstract]
        start, end = (moment.isoformat() for moment in window)
        tags = {"sha256": digest, "start": start, "end": end, "rows": str(rows)}
        self.mlflow.log_input(dataset, context="training", tags=tags)

    def text(self, name: str, content: str) -> None:
        """A text file, such as the model card."""
        self.mlflow.log_text(content, name)

    def child(self, name: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """A run below this one, for one thing that was tried."""
        with self.mlflow.start_run(run_name=name, nested=True):
            self.params(params)
            self.metrics(metrics)

    def register(self, model: str, path: Path, encoder: Encoder, candidate: str, card: str) -> int:
        """Logs the ONNX file with signature and example, and registers it as a version tagged `candidate`.

        Returns:
            The version's number.
        """
        import mlflow.onnx
        import onnx
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        numeric, categorical = len(encoder.numeric), len(encoder.categorical)
        output = encoder.task.output
        signature = ModelSignature(
            inputs=Schema(
                [
                    TensorSpec(np.dtype(np.float32), (-1, numeric), "numeric"),
                    TensorSpec(np.dtype(np.int64), (-1, categorical), "categorical"),
                ]
            ),
            outputs=Schema(
                [TensorSpec(np.dtype(np.float32), (-1, *output.shape(0)[1:]), output.name)],
            ),
        )
        example = {
            "numeric": np.zeros((2, numeric), np.float32),
            "categorical": np.zeros((2, categorical), np.int64),
        }
        logged = mlflow.onnx.log_model(
            onnx.load(path),
            name="model",
            signature=signature,
            input_example=example,
            pip_requirements=["onnxruntime"],
            save_as_external_data=False,  # weights inside the file: one hash for one model
            onnx_execution_providers=["CPUExecutionProvider"],
            registered_model_name=model,
            metadata={"candidate": candidate},
        )
        version = int(logged.registered_model_version)
        client = mlflow.MlflowClient()
        client.set_model_version_tag(model, str(version), CANDIDATE, candidate)
        client.update_model_version(model, str(version), description=card)
        return version


@dataclass(frozen=True)
class Record:
    """What MLflow has of a candidate: its run, and the version that was registered of it, if any."""

    params: dict[str, str]
    data: list[str]
    """SHA-256 of the data that went in."""
    steps: dict[str, list[int]]
    """The steps of each metric, in order."""
    files: list[str]
    """Of the run."""
    version: int | None
    model_files: list[str]
    inputs: list[str]
    """Names in the version's signature."""
    described: bool
    """Whether the version says how it came to be."""


def record_of(url: str, model: str, candidate: str, run: str) -> Record:
    """Everything that MLflow has of a candidate.

    Raises:
        TrackingUnavailable: MLflow does not answer, or does not know the run.
    """
    client, mlflow = _client(url)
    with _answering(url, f"the run {run}"):
        mlflow.set_tracking_uri(url)
        found = client.get_run(run)
        number = registered_version(url, model, candidate)
        steps = {
            name: sorted(one.step for one in client.get_metric_history(run, name))
            for name in found.data.metrics
        }
        files, inputs, described = [], [], False
        if number is not None:
            version = client.get_model_version(model, str(number))
            described = bool(version.description)
            where = mlflow.artifacts.download_artifacts(f"models:/{model}/{number}")
            files = sorted(str(path.relative_to(where)) for path in Path(where).rglob("*") if path.is_file())
            signature = mlflow.models.Model.load(where).signature
            inputs = list(signature.inputs.input_names()) if signature else []
        return Record(
            params=dict(found.data.params),
            data=[tag.value for of in found.inputs.dataset_inputs for tag in of.tags if tag.key == "sha256"],
            steps=steps,
            files=[file.path for file in client.list_artifacts(run)],
            version=number,
            model_files=files,
            inputs=inputs,
            described=described,
        )


def series_of(url: str, run: str, prefixes: tuple[str, ...]) -> dict[str, list[Reading]]:
    """The series of a run whose names begin so, each in the order of time.

    Raises:
        TrackingUnavailable: MLflow does not answer, or does not know the run.
    """
    client, _ = _client(url)
    with _answering(url, f"the run {run}"):
        names = [name for name in client.get_run(run).data.metrics if name.startswith(prefixes)]
        return {
            name: sorted(
                (
                    Reading(name, one.value, one.step, one.timestamp / 1000)
                    for one in client.get_metric_history(run, name)
                ),
                key=lambda one: one.at,
            )
            for name in names
        }


def _client(url: str) -> tuple[Any, Any]:
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    import mlflow

    return mlflow.MlflowClient(url), mlflow


@contextmanager
def _answering(url: str, what: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrackingUnavailable(f"MLflow at {url} does not give {what}: {first_line}") from error


@contextmanager
def tracked(
    url: str, experiment: str, name: str, promotion: str, description: str = ""
) -> Iterator[TrackedRun]:
    """A run of `experiment` in the MLflow at `url`. A retry of the same promotion continues the same run.

    Raises:
        TrackingUnavailable: MLflow does not answer or refuses; the run is marked as failed where possible.
    """
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment(experiment)
        known = mlflow.search_runs(
            filter_string=f"tags.`{PROMOTION_TAG}` = '{promotion}'", max_results=1, output_format="list"
        )
        with mlflow.start_run(
            run_id=known[0].info.run_id if known else None,
            run_name=name,
            tags={PROMOTION_TAG: promotion},
            description=description or None,
        ) as run:
            yield TrackedRun(run.info.run_id, mlflow)
    except (MlflowException, RequestException) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrackingUnavailable(
            f"MLflow at {url} does not take what {promotion} logs: {first_line}"
        ) from error


def registered_version(url: str, model: str, candidate: str) -> int | None:
    """The version that was registered for a candidate, or None."""
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    import mlflow

    found = mlflow.MlflowClient(url).search_model_versions(
        f"name = '{model}' and tags.`{CANDIDATE}` = '{candidate}'"
    )
    return max((int(version.version) for version in found), default=None)
