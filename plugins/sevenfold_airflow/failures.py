"""From an error of Sevenfold to what Airflow does about it: retry, or fail at once with the sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from sevenfold.errors import SevenfoldError


@contextmanager
def as_airflow_sees_it() -> Iterator[None]:
    """A `SevenfoldError` that no retry heals fails the task at once; another one lets the retries run."""
    try:
        yield
    except SevenfoldError as error:
        kind = AirflowException if error.retry else AirflowFailException
        raise kind(str(error)) from error
