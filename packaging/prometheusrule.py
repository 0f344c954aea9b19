"""Makes kubernetes/monitoring/prometheusrule.yaml, the alert rules for the Prometheus
operator, from monitoring/alerts.yaml. Run by ``make prometheusrule``; a test compares
the file with it.

The rules become the field ``spec`` of a resource, so each of their lines moves to the
right. Their comments stay. Errors: ValueError if the rules have no groups.
"""

import textwrap
from pathlib import Path

RULES = Path(__file__).parent / "monitoring/alerts.yaml"
PLACE = Path(__file__).parent / "kubernetes/monitoring/prometheusrule.yaml"
HEAD = """\
# Made by make prometheusrule from packaging/monitoring/alerts.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: unpd
  labels:
    app.kubernetes.io/name: unpd
spec:
"""
GROUPS = "groups:\n"


def text() -> str:
    """The content of the file."""
    rules = RULES.read_text()
    return HEAD + textwrap.indent(rules[rules.index(GROUPS) :], "  ")


def main() -> None:
    """Write the file anew."""
    PLACE.write_text(text())


if __name__ == "__main__":
    main()
