"""Staging: the candidate as a service, in a small mirror of production that no user meets.

It starts when a candidate was promoted out of testing. The candidate is deployed behind a gateway, and a
day of requests must come out of monitoring as it went in, byte for byte at every hop. In a mirror of its own
every dependency is taken away once, and monitoring must notice what is planted. Then, undisturbed, it takes
the promised load in turns with the champion and climbs to the knee, and production's canary is rehearsed.

**Green**: preproduction begins. **Red**: as a service the candidate is wrong, slow or breaks; users have
seen nothing. **Pink**: held for a person.
"""

from sevenfold_airflow import assets
from sevenfold_airflow.rail import EVERY_SLOT, activity, admit, all_models, environment_dag, gate, promote

for spec in all_models():
    with environment_dag(spec, "staging", __doc__, assets.promoted(spec.name, "testing")):
        start = admit()
        # measures time, so nothing else may run beside it
        load_test = activity("load_test", image="loadtest", pool_slots=EVERY_SLOT)
        start >> activity("end_to_end") >> activity("data_flow") >> load_test
        mirrored = [activity(name, image="quality") for name in ("integration", "monitoring_check")]
        start >> mirrored >> load_test
        load_test >> activity("canary", image="loadtest") >> gate() >> promote()
