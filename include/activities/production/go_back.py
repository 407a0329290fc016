"""Undoes the newest change of what callers of a model meet: the program of the roll-back DAG.

It belongs to no promotion, so it has no gate and leaves no measurement: what it did stands in the release
row's history and in the audit log, with the name of the person and the reason.
"""

from __future__ import annotations

import argparse
import sys
import time

import psutil  # type: ignore[import-untyped]

from sevenfold.cluster import open_cluster
from sevenfold.errors import NO_RETRY_HELPS, SevenfoldError
from sevenfold.evidence.store import open_store
from sevenfold.model.spec import load_spec
from sevenfold.release.going_back import go_back, tidy
from sevenfold.told_to_end import ends_when_told


def main(arguments: list[str] | None = None) -> None:
    """Rolls back once a run, however often it is tried; exits as an activity does."""
    ends_when_told()
    parser = argparse.ArgumentParser(prog="go_back", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", required=True, help="run id: the same one goes back once")
    parser.add_argument("--by", required=True, help="the person who asks for it")
    parser.add_argument("--reason", required=True)
    parser.add_argument("--again", choices=("yes", "no"), default="no", help="also when promotion is on hold")
    given = parser.parse_args(arguments)
    try:
        if not (given.by.strip() and given.reason.strip()):
            raise SevenfoldError("a roll-back needs a name and a reason: they stay with the evidence")
        spec, store, cluster = load_spec(given.model), open_store(), open_cluster(hurry=True)
        row = go_back(
            store,
            cluster,
            spec.name,
            by=f"{given.by}, run {given.run}",
            reason=given.reason,
            once=True,
            again=given.again == "yes",
            say=_say,
        )
        _say(f"done {time.time() - psutil.Process().create_time():.1f} s after this pod began")
        tidy(cluster, spec.name, row, spec.serving.replicas, _say)
    except SevenfoldError as error:
        print(f"go_back: {error}", file=sys.stderr, flush=True)
        sys.exit(1 if error.retry else NO_RETRY_HELPS)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
