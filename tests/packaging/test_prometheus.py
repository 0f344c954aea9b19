"""A real Prometheus server, Debian's, scrapes the installed daemon."""

import json
import urllib.parse
from typing import Any

import pytest

from tests.packaging.installed import ECHO, Installed
from tests.support import clients
from tests.support.waiting import until

pytestmark = pytest.mark.packaging

SCRAPE = """
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: unpd
    static_configs: [{targets: ["127.0.0.1:9867"]}]
"""


def query(unpd: Installed, expression: str) -> list[dict[str, Any]]:
    """The Prometheus server's answer to ``expression``; empty while it starts."""
    place = f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(expression)}"
    asked = unpd.machine.run(
        "python3",
        "-c",
        f"import urllib.request as r; print(r.urlopen({place!r}).read().decode())",
        check=False,
    )
    return json.loads(asked.stdout)["data"]["result"] if asked.returncode == 0 else []


def test_prometheus_scrapes(unpd: Installed) -> None:
    """`up` becomes 1, Prometheus has all the series, and a count is right."""
    unpd.start()
    assert clients.converse(ECHO, b"counted") == b"counted"
    unpd.machine.put("/etc/prometheus/prometheus.yml", SCRAPE)
    unpd.systemctl("restart", "prometheus")
    try:
        until(
            lambda: [row["value"][1] for row in query(unpd, 'up{job="unpd"}')] == ["1"],
            20.0,
            "a scrape that succeeds",
        )
        assert query(unpd, 'unpd_connections_accepted_total{service="echo"}')[0]["value"][1] == "1"
    finally:
        unpd.systemctl("stop", "prometheus")
