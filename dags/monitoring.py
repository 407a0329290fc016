"""Monitoring: what the champion's predictions were worth, and whether it has to be trained again.

It starts every week, and when a new champion serves. Labels are joined to the predictions they belong
to, quality and drift are measured week by week, and the retraining trigger decides: drift that does harm
opens an alert, and the alert starts training; drift that does none is recorded as dismissed, with its
reason.

**Green**: the weeks were looked at, whatever was found; an alert is on the board, not a colour here.
**Red**: monitoring itself broke, so nobody watches the champion: repair it today. **Pink**: nothing
serves yet.
"""

from airflow.sdk import AssetOrTimeSchedule

from sevenfold_airflow import assets
from sevenfold_airflow.rail import activity, admit, all_models, clockwork, environment_dag, finish

for spec in all_models():
    weekly = clockwork("0 6 * * 1")
    new_champion = assets.promoted(spec.name, "production")
    schedule = AssetOrTimeSchedule(timetable=weekly, assets=new_champion)
    with environment_dag(spec, "monitoring", __doc__, schedule):
        measured = [activity("monitor"), activity("drift", image="quality"), activity("ab_analysis")]
        conclusion = activity("retraining_trigger")
        admit() >> activity("feedback") >> measured >> conclusion >> activity("dashboards") >> finish()
