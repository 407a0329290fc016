"""Roll-back: a person on call gives all traffic of the model back to the champion before, with a reason.

Trigger it with the form. Nothing is asked, judged or waited for: within seconds the champion before serves,
a candidate that was being tried is off, and no candidate is promoted until a person says
`make resume MODEL=<model> REASON="..."`. A run goes back once, however often its task is tried.

**Green**: the champion before serves everything. **Red**: nothing was changed, the sentence in the log says
why; with Airflow down or in doubt, `make rollback MODEL=<model> REASON="..."` does the same. **Pink**: never.
"""

from sevenfold_airflow.rail import all_models, go_back, roll_back_dag

for spec in all_models():
    with roll_back_dag(spec, __doc__):
        go_back()
