"""Brings the candidate up beside the champion: claimed, deployed, ready, and answering as it did offline."""

from __future__ import annotations

from datetime import timedelta

from sevenfold.activity import Activity, run
from sevenfold.candidates.artefact import Scorer
from sevenfold.cluster import Deployment, open_cluster
from sevenfold.data.predictions import apart
from sevenfold.data.snapshot import snapshot
from sevenfold.errors import SevenfoldError
from sevenfold.trials.asking import bodies
from sevenfold.trials.trial import Target, claim_slot, direct, require_gateway

GOLDEN_ROWS = 400
TOLERANCE = 1e-5
"""Float32 through JSON and back; what differs more was not computed by the same model."""


class NotTheSameModel(SevenfoldError):
    """What is served is not what was validated."""


def main(activity: Activity) -> None:
    """Takes the release row's slot, deploys the replicas of model.yaml, checks them with golden requests."""
    require_gateway(activity)
    promotion, candidate = activity.promotion, activity.candidate
    row = claim_slot(activity, "serve")
    activity.progress(
        f"{candidate.id} has the slot (generation {row.generation}); {row.champion or 'nobody'} serves"
    )
    replicas = activity.spec.serving.replicas
    with activity.phase(f"deploying {replicas} replicas"):
        open_cluster().deploy(Deployment(promotion.model, candidate.id, "challenger", replicas))
    ask_golden(activity, direct(activity, candidate.id))


def ask_golden(activity: Activity, target: Target) -> None:
    """One request a golden row: all are answered, and as the artefact answers offline.

    Raises:
        NotTheSameModel: an answer differs.
    """
    import httpx

    end = activity.promotion.as_of
    rows = snapshot(activity.spec, activity.settings.data).rows(end - timedelta(days=3), end)
    rows = rows.slice(max(0, rows.num_rows - GOLDEN_ROWS))
    expected = Scorer(activity.model_file(activity.candidate)).predict(rows)
    lost, difference = 0, 0.0
    with target.client(timeout=5.0) as client:
        for body, prediction in zip(bodies(activity.spec, rows, 1), expected, strict=True):
            try:
                answer = client.post(f"{target.url}/infer", headers=target.headers, content=body)
                answer.raise_for_status()
            except httpx.HTTPError:
                lost += 1
                continue
            difference = max(difference, apart(answer.json()["outputs"][0]["data"][0], prediction))
    n = len(expected)
    activity.measure("availability", 1 - lost / n, unit="share", n=n, counts={"bad": lost, "n": n})
    activity.measure("skew", difference, unit=activity.spec.task.unit, n=n - lost)
    if difference > TOLERANCE:
        raise NotTheSameModel(
            f"{activity.candidate.id} answers a golden request with numbers that differ by "
            f"{difference:.2g} from its artefact's: it must not take over"
        )


if __name__ == "__main__":
    run(main)
