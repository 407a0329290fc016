"""The assets that link the environments of a model: `sevenfold://<model>/<environment>`.

An event of an asset is a wake-up, not a message: several may end in one run. Who is woken reads from the
store what is due.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher

from sevenfold_airflow.alerts import AlertTrigger


def promoted(model: str, environment: str) -> Asset:
    """Updated when a candidate has been promoted out of `environment`; the event's extra names it."""
    return _asset(model, environment)


def drift(model: str) -> Asset:
    """Updated when monitoring has opened an alert that asks for training."""
    return _asset(
        model,
        "drift",
        watchers=[AssetWatcher(name=f"{model}.alerts", trigger=AlertTrigger(model=model))],
    )


def _asset(model: str, name: str, watchers: list[AssetWatcher] | None = None) -> Asset:
    uri = f"sevenfold://{model}/{name}"
    return Asset(name=f"{model}.{name}", uri=uri, group=model, watchers=watchers or [])
