"""Whether this container of Airflow is well: its API server answers, or a job of this host beats.

One check for whatever the container is: API server, scheduler, DAG processor or triggerer.
"""

from __future__ import annotations

import subprocess
import sys
from urllib.request import ProxyHandler, build_opener

ADDRESS = "http://127.0.0.1:8080/api/v2/monitor/health"


def healthy() -> bool:
    """Asks the API server, which is quick, and else the database."""
    direct = build_opener(ProxyHandler({}))  # a proxy that the environment names knows another 127.0.0.1
    try:
        with direct.open(ADDRESS, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        command = [sys.executable, "-m", "airflow", "jobs", "check", "--local"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(not healthy())
