"""What every activity has in hand: its model, its promotion, and the places where evidence goes.

An activity is a program of a pod. It says `run(main)` and gets an `Activity`; what it leaves behind are
measurements in the evidence store and reports in the artifact store. Nothing is returned, so nothing can be
lost between a pod and the gate that judges it.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]

from sevenfold.candidates.candidate import Candidate
from sevenfold.errors import NO_RETRY_HELPS, SevenfoldError
from sevenfold.evidence.artifacts import ArtifactStore, open_artifacts
from sevenfold.evidence.database import StoreUnavailable
from sevenfold.evidence.store import Promotion, Store, open_store
from sevenfold.gates.measurement import Measurement
from sevenfold.light_imports import without_much_garbage
from sevenfold.model.spec import ModelSpec, load_spec
from sevenfold.people.anchor import anchor
from sevenfold.release import release
from sevenfold.release.promotion import UnknownPromotion
from sevenfold.settings import Settings, settings
from sevenfold.told_to_end import ends_when_told

NETWORK_S = 10.0
"""How long an activity asks again for an evidence store that it cannot reach."""
FINISHED = "activity finished"
"""What the audit log says of an activity that ended well, with what it cost."""


class Activity:
    """One activity of one run: reads the promotion it belongs to, writes measurements and reports."""

    def __init__(self, name: str, promotion: Promotion, store: Store, settings: Settings) -> None:
        self.name = name
        self.promotion = promotion
        self.store = store
        self.settings = settings
        self._started = time.monotonic()

    @cached_property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return load_spec(self.promotion.model, self.settings.models)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """Model files by digest and reports by promotion."""
        return open_artifacts(self.settings.artifacts_url)

    @property
    def candidate(self) -> Candidate:
        """The candidate that this promotion is about.

        Raises:
            SevenfoldError: no activity of this promotion has made a candidate yet.
        """
        promotion = self.store.promotion(self.promotion.id)
        if promotion.candidate is None:
            raise SevenfoldError(f"promotion {promotion.id} has no candidate yet: nothing to {self.name}")
        return self.store.candidate(promotion.candidate)

    @cached_property
    def champion(self) -> Candidate | None:
        """The candidate that serves production now, if any."""
        champion = release.row(self.store, self.promotion.model).champion
        return self.store.candidate(champion) if champion else None

    @cached_property
    def anchor(self) -> Candidate | None:
        """The champion that is held fixed, against which slow decay shows; None before the first champion."""
        return anchor(self.store, self.promotion.model)

    def model_file(self, candidate: Candidate) -> Path:
        """The candidate's ONNX file, its bytes verified against the digest."""
        return self.artifacts.get(candidate.model_digest)

    def measure(
        self,
        metric: str,
        value: float | None,
        *,
        unit: str = "",
        n: int = 0,
        low: float | None = None,
        high: float | None = None,
        baseline: Literal["none", "champion", "anchor"] = "none",
        baseline_candidate: str | None = None,
        baseline_value: float | None = None,
        slice: str | None = None,
        window: tuple[datetime, datetime] | None = None,
        interval: str | None = None,
        counts: Mapping[str, float] | None = None,
        source: str = "",
    ) -> None:
        """Records one reading of `metric` on the candidate; the gate judges what stands here."""
        candidate = self.candidate
        start, end = window or (None, None)
        self.store.record(
            [
                Measurement(
                    promotion=self.promotion.id,
                    candidate=candidate.id,
                    activity=self.name,
                    metric=metric,
                    value=value,
                    unit=unit,
                    n=n,
                    low=low,
                    high=high,
                    baseline=baseline,
                    baseline_candidate=baseline_candidate,
                    baseline_value=baseline_value,
                    slice=slice,
                    window_start=start,
                    window_end=end,
                    source=source or f"{self.promotion.environment}.{self.name}",
                    digest=candidate.model_digest,
                    measured_at=datetime.now(UTC),
                    interval=interval,
                    counts=dict(counts) if counts is not None else None,
                )
            ]
        )
        bounds = f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else ""
        shown = "no value" if value is None else f"{value:.4g}"
        of = f" of {slice}" if slice else ""
        against = f", {baseline} {baseline_value:.4g}" if baseline_value is not None else ""
        print(f"measured {metric}{of}: {shown}{bounds} {unit} on {n:,}{against}".rstrip(), flush=True)

    def report(self, name: str, content: bytes | str | Path, title: str) -> None:
        """Keeps a report that people look at, one click from this task in the Airflow UI."""
        path, digest = self.artifacts.put_report(self.promotion, self.name, name, content)
        self.store.add_report(self.promotion.id, self.name, title, path, digest)
        print(f"report: {title} ({path})", flush=True)

    def progress(self, line: str) -> None:
        """One line of progress in the task's log, with the seconds since the start."""
        print(f"[{time.monotonic() - self._started:6.1f} s] {line}", flush=True)

    @contextmanager
    def phase(self, what: str) -> Iterator[None]:
        """Says what starts now, and what it took."""
        started = time.monotonic()
        self.progress(what)
        yield
        self.progress(f"{what}: done in {time.monotonic() - started:.1f} s")


def run(
    main: Callable[[Activity], Any], arguments: list[str] | None = None, *, not_admitted: str = ""
) -> None:
    """Runs `main` as the program of a pod: exits 0, or 1 after an error a retry may heal, or 64.

    A `SevenfoldError` ends as its one sentence; anything else as a traceback, for it is a defect.

    Args:
        main: does the work.
        arguments: those of the command line by default.
        not_admitted: said instead of an error by what has nothing to do where the run began no promotion.
    """
    ends_when_told()
    without_much_garbage()
    module = sys.modules[main.__module__]
    name = Path(module.__file__ or "activity").stem
    parser = argparse.ArgumentParser(prog=name, description=module.__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--environment", required=True)
    parser.add_argument("--run", required=True, help="run id: with model and environment, the promotion")
    given = parser.parse_args(arguments)
    done = threading.Event()
    if arguments is None:
        atexit.register(_leave_at_once, done)  # who comes first here goes last
    try:
        here = settings()
        store = _store(here.evidence_url)
        try:
            promotion = store.promotion(f"{given.model}/{given.environment}/{given.run}")
        except UnknownPromotion:
            if not not_admitted:
                raise
            print(f"{name}: {not_admitted}", flush=True)
            return
        activity = Activity(name, promotion, store, here)
        activity.progress(f"{name} of {promotion.id}, as of {promotion.as_of:%Y-%m-%d %H:%M}")
        main(activity)
        activity.progress(f"{name}: finished")
        store.audit(name, FINISHED, {"promotion": promotion.id, **_cost()})
        done.set()
    except SevenfoldError as error:
        _failed(name, given, str(error))
        sys.exit(1 if error.retry else NO_RETRY_HELPS)
    except OSError as error:
        if error.errno is None:
            raise
        where = f" at {error.filename}" if error.filename else ""
        _failed(name, given, f"{error.strerror or error}{where}")
        sys.exit(1)


def _leave_at_once(done: threading.Event) -> None:
    """Ends a program that is done without taking it apart: with torch and mlflow that is 0.6 s of CPU."""
    if done.is_set():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _store(url: str) -> Store:
    """The evidence store; whoever cannot reach it at once asks again for a while.

    (A cluster's network may learn of a new pod only after its program has begun.)
    """
    until = time.monotonic() + NETWORK_S
    while True:
        try:
            return open_store(url)
        except StoreUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(NETWORK_S / 20)


def _failed(name: str, given: argparse.Namespace, why: str) -> None:
    """Says the sentence, and leaves it to whoever closes the promotion, unless the store is what failed."""
    print(f"{name}: {why}", file=sys.stderr, flush=True)
    with suppress(Exception):
        store = open_store(settings().evidence_url)
        store.activity_failed(name, f"{given.model}/{given.environment}/{given.run}", why)


def _cost() -> dict[str, float]:
    """What this process has cost since it was started, imports included, and the children it waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {
        "seconds": round(time.time() - psutil.Process().create_time(), 2),
        "cpu_seconds": round(cpu, 2),
        "peak_mib": own.ru_maxrss // 1024,
    }
