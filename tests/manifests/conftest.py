import tests.airflow_home  # noqa: F401  # before anything imports Airflow
