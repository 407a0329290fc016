import tests.airflow_home  # noqa: F401  # before anything imports Airflow
from tests.rail_world import world  # noqa: F401
