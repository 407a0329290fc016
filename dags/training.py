"""Training: a candidate trained on all the data that is known.

It starts by the schedule of model.yaml, when an idea was promoted out of development, and when monitoring
has raised an alert that asks for training: the alarm starts it, not a person. Alerts come first, then
ideas, then the schedule. Better settings are sought on a sample first. A killed search goes on, a killed
training resumes from its last checkpoint; drills on a slice of the rows show that it would, and that several
processes learn what one does. What training used and waited for is a report.

**Green**: there is a candidate, and testing begins. **Red**: it learned nothing, or something broke; the
champion serves on, nobody has to get up. **Pink**: there was nothing to train on, or it is held.
"""

from airflow.sdk import AssetOrTimeSchedule

from sevenfold_airflow import assets
from sevenfold_airflow.forms import training_fields
from sevenfold_airflow.rail import activity, admit, all_models, clockwork, environment_dag, gate, promote

for spec in all_models():
    causes = assets.promoted(spec.name, "development") | assets.drift(spec.name)
    nightly = clockwork(spec.schedule) if spec.schedule else None
    schedule = AssetOrTimeSchedule(timetable=nightly, assets=causes) if nightly else causes
    with environment_dag(spec, "training", __doc__, schedule, training_fields(spec)):
        search, train, *after = (
            activity(name, image="trainer")
            for name in ("search", "train", "checkpoint", "distribute", "resources", "benchmark")
        )
        admit() >> search >> train >> after >> gate() >> promote()
