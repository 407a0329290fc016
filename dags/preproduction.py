"""Preproduction: production's data, and no user sees an answer.

It starts when a candidate was promoted out of staging. The candidate is validated on days that nothing
has looked at before, its gaps between groups are measured, and it answers a copy of live requests in the
champion's shadow.

**Green**: production asks a person for approval. **Red**: the candidate is refused, or the shadow could
not be compared; the champion serves on. **Pink**: held, most often because the shadow has seen too few
requests so far.
"""

from sevenfold_airflow import assets
from sevenfold_airflow.rail import activity, admit, all_models, environment_dag, gate, promote

for spec in all_models():
    with environment_dag(spec, "preproduction", __doc__, assets.promoted(spec.name, "staging")):
        trials = [
            activity("final_validation"),
            activity("fairness", image="quality"),
            activity("shadow"),
            activity("security", image="security"),
        ]
        admit() >> trials >> gate() >> promote()
