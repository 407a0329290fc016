"""Development: from an idea to a first model that knows more than nothing.

A person starts it. The data are looked at while algorithms are compared on a sample, and better settings are
sought; that makes the idea, the small candidate that the gate judges. It is validated on days that nothing
was decided by, and what it was made of (code, data, environment, gates) is compared with what is there, so
that it can be made again. Its gate asks little: an idea may be bad, it must only be real.

**Green**: the idea goes on to training on all data. **Red**: it was refused or something broke, the red
task's last line says what; nothing is live, nobody has to get up. **Pink**: held, a person may look when
there is time.
"""

from sevenfold_airflow.forms import sample_fields
from sevenfold_airflow.rail import activity, admit, all_models, environment_dag, gate, promote

for spec in all_models():
    with environment_dag(spec, "development", __doc__, params=sample_fields(spec)):
        first = [activity("explore"), activity("select", image="trainer")]
        looks = [activity("validate", image="quality"), activity("version")]
        admit() >> first >> activity("tune", image="trainer") >> looks >> gate() >> promote()
