"""Makes kubernetes/monitoring/prometheusrule.yaml, the alert rules for the Prometheus
operator, from monitoring/alerts.yaml. Run by ``make prometheusrule``; a test compares
the file with it.

The rules become the field ``spec`` of a resource, so each of their lines moves to the
right. Their comments stay. Where an action names what only a host with systemd has, the
words of :data:`IN_A_CLUSTER` take its place. Errors: ValueError if the rules have no
groups, if they name something of such a host for which there are no words, or if words
have no place any more.
"""

import re
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
IN_A_CLUSTER = {
    "`unpd status` on that host": "`unpd status` in that pod",
    "`systemctl status unpd`": (
        "`kubectl describe pod --namespace {{ $labels.namespace }} {{ $labels.instance }}`"
    ),
    "take the target out of Prometheus; else this ends after 30 days": ("this ends after 30 days"),
    "(state T in ps); else restart unpd": "in the pod; else delete the pod",
    "LimitNOFILE= of the unit": "the limit of open files that the container runtime sets",
    "TasksMax= of the unit": "podPidsLimit of the kubelet",
}
"""What takes the place of the words of a host with systemd."""
ONLY_ON_A_HOST = re.compile(
    r"(?:systemctl|journalctl)[^`\n]*|\S+\s+of\s+the\s+unit|that\s+host|the\s+journal"
    r"|\bps\b|\b(?:Limit|Tasks|Watchdog)\w*=|restart\s+unpd|take\s+the\s+target\s+out[^.]*",
    re.IGNORECASE,
)
"""What may not be left."""


def text() -> str:
    """The content of the file."""
    rules = RULES.read_text()
    return HEAD + textwrap.indent(in_a_cluster(rules[rules.index(GROUPS) :]), "  ")


def in_a_cluster(rules: str) -> str:
    """The rules with the words of a cluster. ValueError."""
    for words, instead in IN_A_CLUSTER.items():
        # A line may end between any two words.
        pattern = r"\s+".join(map(re.escape, words.split()))
        if not re.search(pattern, rules):
            raise ValueError(f"no alert says {words!r}: take it out of IN_A_CLUSTER")
        rules = re.sub(pattern, instead, rules)
    if left := ONLY_ON_A_HOST.search(rules):
        alert = re.findall(r"- alert: (\w+)", rules[: left.start()])[-1]
        raise ValueError(
            f"{alert} says {left[0]!r}, which a cluster does not have: add what to say there to"
            " IN_A_CLUSTER"
        )
    return rules


def main() -> None:
    """Write the file anew."""
    PLACE.write_text(text())


if __name__ == "__main__":
    main()
