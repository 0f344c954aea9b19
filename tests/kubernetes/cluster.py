"""A Kubernetes cluster on this machine: a control plane, and the two nodes of
:mod:`tests.kubernetes.nodes`; and what tests ask it.

``run`` beside this module makes the namespaces in which all of this lives, and names
the directories; the fixture ``cluster`` in conftest.py is the only user. Errors:
AssertionError with the end of each program's log. Everybody is an administrator there.
"""

import contextlib
import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes import images
from tests.kubernetes.nodes import (
    HOST,
    PAUSE,
    SERVICES,
    START_S,
    Node,
    lay_cables,
    start_node,
    start_proxy,
)
from tests.kubernetes.programs import Programs
from tests.support.observed import Samples, parse_samples
from tests.support.waiting import until

OVERLAY = Path(__file__).parent / "overlay"

KUBECONFIG = f"""
apiVersion: v1
kind: Config
clusters:
  - name: here
    cluster: {{ server: "https://{HOST}:6443", insecure-skip-tls-verify: true }}
users:
  - name: admin
    user: {{ token: admin }}
contexts:
  - name: here
    context: {{ cluster: here, user: admin, namespace: unpd }}
current-context: here
"""


class Cluster:
    """The cluster. :func:`running` starts and ends it."""

    def __init__(self, programs: Path, directory: Path, image: Path) -> None:
        self._directory = directory
        self._image = image
        config = directory / "kubeconfig"
        config.write_text(KUBECONFIG)
        self._programs = Programs(programs, config)
        self.nodes: list[Node] = []

    # its start and its end

    def start(self) -> None:
        """Start everything, and wait until both nodes are ready."""
        programs = self._programs
        self.nodes = lay_cables(programs, self._directory)
        self._start_control_plane()
        pause = self._directory / "pause.tar"
        images.write(pause, PAUSE, programs.directory / "pause")
        for node in self.nodes:
            start_node(programs, node, (pause, self._image))
        start_proxy(programs, "control", HOST)
        until(self._all_ready, START_S, lambda: f"two nodes: {programs.said()}")

    def close(self) -> None:
        """End every program."""
        self._programs.close()

    def _start_control_plane(self) -> None:
        run = self._programs.run
        keys, tokens = self._directory / "keys.pem", self._directory / "tokens.csv"
        subprocess.run(["openssl", "genrsa", "-out", keys, "2048"], check=True, capture_output=True)
        tokens.write_text("admin,admin,admin,system:masters\n")
        run("etcd", "etcd", "--data-dir", f"{self._directory}/etcd")
        run(
            "apiserver",
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--bind-address={HOST}",
            f"--advertise-address={HOST}",
            f"--cert-dir={self._directory}/certificates",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=AlwaysAllow",
            f"--token-auth-file={tokens}",
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            "--kubelet-preferred-address-types=InternalIP",
        )
        said = self._programs.said
        until(self._answers, START_S, lambda: f"the API server to be ready: {said()}")
        own = (
            f"--kubeconfig={self._programs.config}",
            "--leader-elect=false",
            "--authentication-skip-lookup=true",
        )
        run("controller-manager", "kube-controller-manager", *own, "--node-monitor-period=2s")
        run("scheduler", "kube-scheduler", *own)

    def _answers(self) -> bool:
        return self._kubectl("get", "--raw", "/readyz").returncode == 0

    def _all_ready(self) -> bool:
        asked = self._kubectl("get", "nodes", "--output", "json")
        found = json.loads(asked.stdout)["items"] if asked.returncode == 0 else []
        return len([node for node in found if is_ready(node)]) == len(self.nodes)

    # what tests ask

    def _kubectl(
        self, *words: str, stdin: str = "", timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        program = self._programs.directory / "kubectl"
        return subprocess.run(
            [str(program), f"--kubeconfig={self._programs.config}", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def kubectl(self, *words: str, stdin: str = "", timeout_s: float = 240.0) -> str:
        """Run kubectl, and return what it prints. AssertionError if it fails."""
        done = self._kubectl(*words, stdin=stdin, timeout_s=timeout_s)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.state()}"
        return done.stdout

    def apply(self, manifests: Sequence[dict[str, Any]]) -> None:
        """Apply resources, and wait until the Deployment has rolled out."""
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(manifests))
        self.rolled_out()

    def remove(self) -> None:
        """Delete the namespace of unpd, and wait until all in it is gone."""
        self.kubectl("delete", "namespace", "unpd")

    def type(self, command: str, directory: Path) -> str:
        """Run a line of the shell in a directory, with the kubectl of this machine, and
        return what it prints. AssertionError if it fails.
        """
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=directory,
            env={**os.environ, "KUBECONFIG": str(self._programs.config)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240.0,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.state()}"
        return done.stdout

    def rolled_out(self) -> None:
        """Wait until every pod is a new one and is ready, and the old ones are gone."""
        self.kubectl("rollout", "status", "deployment/unpd", "--timeout=180s")
        until(
            lambda: len(self.pods()) == len(self.ready_pods()),
            60.0,
            lambda: f"the old pods to go: {self.state()}",
        )

    def state(self) -> str:
        """What kubectl says about pods and events."""
        pods = self._kubectl("get", "pods", "--output=wide").stdout
        return pods + self._kubectl("get", "events", "--sort-by=.lastTimestamp").stdout[-4000:]

    def pods(self) -> list[dict[str, Any]]:
        """Every pod, also those that go."""
        found = json.loads(self.kubectl("get", "pods", "--output=json"))["items"]
        assert isinstance(found, list)
        return found

    def ready_pods(self) -> list[dict[str, Any]]:
        """The pods that are ready and stay."""
        pods = self.pods()
        return [pod for pod in pods if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def node_of(self, pod: dict[str, Any]) -> Node:
        """The node on which a pod runs."""
        (found,) = (node for node in self.nodes if node.name == pod["spec"]["nodeName"])
        return found

    def service_host(self) -> str:
        """The address of the Service."""
        return self.kubectl("get", "service", "unpd", "--output=jsonpath={.spec.clusterIP}")


def is_ready(resource: dict[str, Any]) -> bool:
    """Whether a node or a pod has the condition Ready."""
    conditions = resource["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def metrics(pod: dict[str, Any]) -> Samples:
    """Scrape a pod."""
    connection = http.client.HTTPConnection(pod["status"]["podIP"], 9867, timeout=10.0)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == http.client.OK
        return parse_samples(response.read().decode())


@contextlib.contextmanager
def running(programs: Path, directory: Path, image: Path) -> Iterator[Cluster]:
    """Start a cluster, and end it."""
    cluster = Cluster(programs, directory, image)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
