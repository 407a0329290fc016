"""Production: a person approves, a canary takes a growing share, and the candidate becomes champion.

It starts when a candidate was promoted out of preproduction, and waits for a person's approval (Required
Actions). Then it is deployed beside the champion and gets more of the live requests step by step. The
gate looks all the time: proven harm takes the candidate off at once, silence holds it where it is. A spent
error budget asks a person.

**Green**: the candidate is champion. **Red**: it was refused and is off, the champion serves everything
again: look at the reason in daylight. If `roll_back` is red too, users may meet the candidate: get up, and
trigger `<model>.roll_back` or say `make rollback MODEL=<model> REASON="..."`. **Pink**: rejected, or held for
a person; the champion serves.
"""

from datetime import timedelta

from airflow.sdk import TriggerRule

from sevenfold_airflow import assets
from sevenfold_airflow.rail import activity, admit, all_models, approve, environment_dag, gate, promote

# while callers meet the candidate, who watches over it and who takes it off are never away for long
AT_ONCE = {"retry_delay": timedelta(seconds=5), "retry_exponential_backoff": 0}

for spec in all_models():
    with environment_dag(spec, "production", __doc__, assets.promoted(spec.name, "preproduction")):
        verdict = gate()
        # the gate's steps end it: labels of real-time traffic take days, in which machines may come and go
        canary = activity("canary", account="promoter", execution_timeout=None, retries=30, **AT_ONCE)
        admit() >> approve() >> activity("serve", account="promoter") >> canary >> activity("sla") >> verdict
        take_over = activity("take_over", account="promoter")
        verdict >> take_over >> promote()
        back = {"trigger_rule": TriggerRule.ONE_FAILED, "retries": 10, **AT_ONCE}
        [verdict, take_over] >> activity("roll_back", account="promoter", **back)
