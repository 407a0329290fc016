"""Roll-back: a person on call undoes the newest change of what callers meet, with a reason.

Trigger it with the form. Nothing is asked, judged or waited for. While a candidate answers callers (in a
canary) it comes off within seconds, and the champion serves everything; otherwise all traffic goes back to
the champion before. No candidate is promoted until a person says `make resume MODEL=<model> REASON="..."`. A
run undoes one change, however often its task is tried. While promotion is on hold the newest change has been
undone: to go further back, trigger it again and tick `again`.

**Green**: what was before serves everything. **Red**: nothing was changed, the sentence in the log says
why; with Airflow down or in doubt, `make rollback MODEL=<model> REASON="..."` does the same, on a cluster a
Job of the CronJob `roll-back` (docs/cluster.md). **Pink**: never.
"""

from sevenfold_airflow.rail import all_models, go_back, roll_back_dag

for spec in all_models():
    with roll_back_dag(spec, __doc__):
        go_back()
