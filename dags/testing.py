"""Testing: fixed evaluation sets, the model's own tests, its contract, its weak spots and its cost.

It starts when a candidate was promoted out of training. Data, model, quality against champion and
baselines, the server's contract, odd rows and attacks are checked side by side, on days that training has
not seen. What a replica costs is measured alone.

**Green**: staging begins. **Red**: the candidate is refused, or a check could not be made; the last line of
`gate` or of `close` says which and why, the champion serves on. **Pink**: held for a person, for instance
because too few rows decide.
"""

from sevenfold_airflow import assets
from sevenfold_airflow.rail import EVERY_SLOT, activity, admit, all_models, environment_dag, gate, promote

for spec in all_models():
    with environment_dag(spec, "testing", __doc__, assets.promoted(spec.name, "training")):
        checks = [
            activity("validate_data", image="quality"),
            activity("validate_model", image="quality"),
            activity("contract", image="quality"),
            activity("adversarial", image="quality"),
            activity("benchmark", image="trainer"),
            # measures time, so nothing else may run beside it
            activity("resources", image="quality", pool_slots=EVERY_SLOT),
        ]
        admit() >> checks >> gate() >> promote()
