#!/bin/sh
# Runs once, when PostgreSQL is made: Airflow and MLflow get a database and a role each; sevenfold's is the image's own.
set -eu
for name in airflow mlflow; do
    case $name in airflow) password=$AIRFLOW_PASSWORD ;; *) password=$MLFLOW_PASSWORD ;; esac
    psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --set name="$name" --set password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --command 'REVOKE CONNECT ON DATABASE sevenfold FROM PUBLIC'
