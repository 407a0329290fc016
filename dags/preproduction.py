"""Preproduction: production's data, and no user sees an answer.

It starts when a candidate was promoted out of staging. The candidate is validated on days that nothing
has looked at before, its gaps between groups are measured, it answers a copy of live requests in the
champion's shadow, and it is searched for what nobody may bring in. Then it carries twice the peak, and in a
mirror it is rolled out and back while requests come.

**Green**: production asks a person for approval. **Red**: the candidate is refused, or the shadow could
not be compared; the champion serves on. **Pink**: held, most often because the shadow has seen too few
requests so far.
"""

from sevenfold_airflow import assets
from sevenfold_airflow.rail import EVERY_SLOT, activity, admit, all_models, environment_dag, gate, promote

for spec in all_models():
    with environment_dag(spec, "preproduction", __doc__, assets.promoted(spec.name, "staging")):
        trials = [
            activity("final_validation"),
            activity("fairness", image="quality"),
            activity("shadow", account="promoter"),  # production's gateway mirrors to it
            activity("security", image="security"),
        ]
        # both measure time under load, so nothing else may run beside them
        undisturbed = {"image": "loadtest", "pool_slots": EVERY_SLOT}
        full_scale_load = activity("full_scale_load", **undisturbed)
        rollback_drill = activity("rollback_drill", **undisturbed)
        admit() >> trials >> full_scale_load >> rollback_drill >> gate() >> promote()
