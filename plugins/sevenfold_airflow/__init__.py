"""What Sevenfold adds to Airflow: pods, gates, their triggers, pages, and the embedded stack."""
