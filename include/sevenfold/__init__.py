"""Sevenfold: candidates, gates, evidence, release and serving. Knows neither Airflow nor any model."""
