"""Sevenfold: candidates, gates, evidence, release and serving. Knows neither Airflow nor any model."""

import os

# ONNX Runtime reads it once, when it is first imported, and else writes a device id into ~/.cache and sends
# what it was used for to its maker; switching that off by its API comes too late for both.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
