"""A Kubernetes cluster on this machine: a control plane, and two nodes in network and
mount namespaces of their own, whose pods reach each other.

``run`` beside this module makes the namespaces in which all of this lives, and names
the directories; the fixture ``cluster`` in conftest.py is the only user. Each program
writes a log into build/kubernetes. Errors: AssertionError with the end of a log.

Everybody is an administrator there. Only the programs' defaults that stand in the way
of several nodes on one machine are changed: what a node would share with the other one.
"""

import contextlib
import functools
import http.client
import itertools
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes import images
from tests.support import ROOT
from tests.support.faults import Namespace
from tests.support.observed import Samples, parse_samples
from tests.support.waiting import until

OVERLAY = Path(__file__).parent / "overlay"
LOGS = ROOT / "build/kubernetes"
HOST = "10.98.0.1"
SERVICES = "10.96.0.0/16"
PODS = "10.97.0.0/16"
PAUSE = "localhost/pause:1"
CGROUP = "/unpd-cluster"
"""``run`` has made it, with one for each node."""
PRIVATE = ("/var/log", "/var/lib/cni", "/var/lib/kubelet")
"""Directories that every node has for itself, in memory."""
START_S = 120.0

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
KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{ anonymous: {{ enabled: true }}, webhook: {{ enabled: false }} }}
authorization: {{ mode: AlwaysAllow }}
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
enforceNodeAllocatable: []
evictionHard: {{ memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1% }}
failSwapOn: false
featureGates: {{ DevicePlugins: false }}
nodeStatusUpdateFrequency: 2s
resolvConf: {directory}/resolv.conf
"""
CONTAINERD = """
version = 2
root = "{directory}/containerd"
state = "{directory}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{directory}/cni"
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A node, in the namespaces of the process ``holder``."""

    name: str
    number: int
    directory: Path
    holder: int

    @property
    def host(self) -> str:
        """Its address."""
        return f"10.98.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        """The network of its pods."""
        return f"10.97.{self.number}.0/24"

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command prefix that runs a program there."""
        return ("nsenter", "--target", str(self.holder), "--net", "--mount")

    def ctr(self, *words: str) -> None:
        """Run ``ctr`` for the containers of Kubernetes there."""
        socket = self.directory / "containerd.sock"
        command = [*self.prefix, "ctr", "--address", str(socket), "--namespace", "k8s.io"]
        subprocess.run([*command, *words], check=True, timeout=120, stdout=subprocess.DEVNULL)


class Cluster:
    """The cluster. :func:`running` starts and ends it."""

    def __init__(self, programs: Path, directory: Path, image: Path) -> None:
        self._programs = programs
        self._directory = directory
        self._image = image
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._config = directory / "kubeconfig"
        self._config.write_text(KUBECONFIG)
        self.nodes: list[Node] = []
        LOGS.mkdir(parents=True, exist_ok=True)

    # its start and its end

    def start(self) -> None:
        """Start everything, and wait until both nodes are ready."""
        self._lay_cables()
        self._start_control_plane()
        for node in self.nodes:
            self._start_node(node)
        self._start_proxy("control", HOST)
        until(self._all_ready, START_S, lambda: f"two nodes: {self.said()}")

    def close(self) -> None:
        """End every program. The containers end with the namespace of processes."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def said(self) -> str:
        """The end of each log."""
        logs = sorted(LOGS.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-600:]}" for log in logs)

    def _run(self, name: str, *command: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        path = self._programs / command[0]
        program = str(path) if path.exists() else command[0]
        with (LOGS / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*prefix, program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes[name] = process
        return process

    def _lay_cables(self) -> None:
        """Make the nodes' namespaces, and a bridge between them and us."""
        ip("link", "add", "nodes", "type", "bridge")
        ip("address", "add", f"{HOST}/24", "dev", "nodes")
        ip("link", "set", "nodes", "up")
        # The kernel wants a route before kube-proxy's rules choose another destination.
        ip("route", "add", SERVICES, "dev", "nodes")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for number, name in enumerate(("one", "two"), start=1):
            ip("netns", "add", name)
            mounts = " && ".join(
                f"mkdir -p {path} && mount -t tmpfs tmpfs {path}" for path in PRIVATE
            )
            holder = self._run(
                f"{name}-holder",
                "unshare",
                "--mount",
                "--propagation=private",
                "sh",
                "-c",
                f"{mounts} && exec sleep infinity",
                prefix=("nsenter", f"--net=/run/netns/{name}"),
            )
            node = Node(name, number, self._directory / name, holder.pid)
            node.directory.mkdir()
            self.nodes.append(node)
            net = Namespace(name)
            ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", name, "master", "nodes", "up")
            net.ip("address", "add", f"{node.host}/24", "dev", "eth0")
            net.ip("link", "set", "lo", "up")
            net.ip("link", "set", "eth0", "up")
            net.ip("route", "add", "default", "via", HOST)
            net.sysctl("net.ipv4.ip_forward", "1")
            ip("route", "add", node.pods, "via", node.host)
            until(
                functools.partial(has_mounted, holder.pid),
                10.0,
                f"the mounts of node {name}: {self.said()}",
            )
        for node, other in itertools.permutations(self.nodes, 2):
            Namespace(node.name).ip("route", "add", other.pods, "via", other.host)

    def _start_control_plane(self) -> None:
        keys, tokens = self._directory / "keys.pem", self._directory / "tokens.csv"
        subprocess.run(["openssl", "genrsa", "-out", keys, "2048"], check=True, capture_output=True)
        tokens.write_text("admin,admin,admin,system:masters\n")
        self._run("etcd", "etcd", "--data-dir", f"{self._directory}/etcd")
        self._run(
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
        until(self._answers, START_S, lambda: f"the API server to be ready: {self.said()}")
        own = (
            f"--kubeconfig={self._config}",
            "--leader-elect=false",
            "--authentication-skip-lookup=true",
        )
        self._run("controller-manager", "kube-controller-manager", *own, "--node-monitor-period=2s")
        self._run("scheduler", "kube-scheduler", *own)

    def _start_node(self, node: Node) -> None:
        directory = node.directory
        (directory / "cni").mkdir()
        (directory / "resolv.conf").touch()
        (directory / "containerd.toml").write_text(
            CONTAINERD.format(directory=directory, pause=PAUSE)
        )
        (directory / "kubelet.yaml").write_text(
            KUBELET.format(directory=directory, cgroup=f"{CGROUP}/{node.name}")
        )
        (directory / "cni/pods.conflist").write_text(json.dumps(network(node)))
        run = directory / "containerd.toml"
        self._run(f"{node.name}-containerd", "containerd", "--config", str(run), prefix=node.prefix)
        socket = directory / "containerd.sock"
        until(socket.exists, START_S, lambda: f"containerd on {node.name}: {self.said()}")
        pause = self._directory / "pause.tar"
        images.write(pause, PAUSE, self._programs / "pause")
        for archive in (pause, self._image):
            node.ctr("images", "import", str(archive))
        self._run(
            f"{node.name}-kubelet",
            "kubelet",
            f"--config={directory}/kubelet.yaml",
            f"--kubeconfig={self._config}",
            f"--root-dir={directory}/kubelet",
            f"--cert-dir={directory}/certificates",
            f"--volume-plugin-dir={directory}/plugins",
            f"--hostname-override={node.name}",
            f"--node-ip={node.host}",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{socket}",
            prefix=node.prefix,
        )
        self._start_proxy(node.name, node.host, node.prefix)

    def _start_proxy(self, name: str, host: str, prefix: Sequence[str] = ()) -> None:
        """Start kube-proxy, which leaves the limits of the kernel alone: they belong to
        the first network namespace.
        """
        self._run(
            f"{name}-proxy",
            "kube-proxy",
            f"--kubeconfig={self._config}",
            f"--hostname-override={name}",
            f"--bind-address={host}",
            f"--cluster-cidr={PODS}",
            "--proxy-mode=iptables",
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            prefix=prefix,
        )

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
        return subprocess.run(
            [str(self._programs / "kubectl"), f"--kubeconfig={self._config}", *words],
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


def ip(*words: str) -> None:
    """Run ``ip`` in the network of the control plane."""
    subprocess.run(["ip", *words], check=True)


def has_mounted(holder: int) -> bool:
    """Whether the holder of a node's namespaces has made its mounts."""
    return Path(f"/proc/{holder}/comm").read_text() == "sleep\n"


def network(node: Node) -> dict[str, Any]:
    """The configuration of CNI: a bridge, with addresses of the node's network."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


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
