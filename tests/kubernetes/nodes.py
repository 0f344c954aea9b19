"""The two nodes of the cluster, in network and mount namespaces of their own, whose
pods reach each other. Called by :mod:`tests.kubernetes.cluster`.

Only the programs' defaults that stand in the way of several nodes on one machine are
changed: what a node would share with the other one.
"""

import functools
import itertools
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kubernetes.programs import Programs
from tests.support.faults import Namespace
from tests.support.waiting import until

HOST = "10.98.0.1"
SERVICES = "10.96.0.0/16"
PODS = "10.97.0.0/16"
PAUSE = "localhost/pause:1"
CGROUP = "/unpd-cluster"
"""``run`` has made it, with one for each node."""
PRIVATE = ("/var/log", "/var/lib/cni", "/var/lib/kubelet")
"""Directories that every node has for itself, in memory."""
START_S = 120.0

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


def lay_cables(programs: Programs, directory: Path) -> list[Node]:
    """Make the nodes' namespaces, and a bridge between them and us."""
    ip("link", "add", "nodes", "type", "bridge")
    ip("address", "add", f"{HOST}/24", "dev", "nodes")
    ip("link", "set", "nodes", "up")
    # The kernel wants a route before kube-proxy's rules choose another destination.
    ip("route", "add", SERVICES, "dev", "nodes")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    names = enumerate(("one", "two"), start=1)
    nodes = [_join(programs, directory / name, number) for number, name in names]
    for node, other in itertools.permutations(nodes, 2):
        Namespace(node.name).ip("route", "add", other.pods, "via", other.host)
    return nodes


def _join(programs: Programs, directory: Path, number: int) -> Node:
    """Make the namespaces of one node, with its wire to the bridge."""
    name = directory.name
    ip("netns", "add", name)
    mounts = " && ".join(f"mkdir -p {path} && mount -t tmpfs tmpfs {path}" for path in PRIVATE)
    holder = programs.run(
        f"{name}-holder",
        "unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        f"{mounts} && exec sleep infinity",
        prefix=("nsenter", f"--net=/run/netns/{name}"),
    )
    node = Node(name, number, directory, holder.pid)
    node.directory.mkdir()
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
        functools.partial(_has_mounted, holder.pid),
        10.0,
        f"the mounts of node {name}: {programs.said()}",
    )
    return node


def start_node(programs: Programs, node: Node, archives: Sequence[Path]) -> None:
    """Start containerd with the images of these archives, the kubelet, kube-proxy."""
    directory = node.directory
    (directory / "cni").mkdir()
    (directory / "resolv.conf").touch()
    (directory / "containerd.toml").write_text(CONTAINERD.format(directory=directory, pause=PAUSE))
    (directory / "kubelet.yaml").write_text(
        KUBELET.format(directory=directory, cgroup=f"{CGROUP}/{node.name}")
    )
    (directory / "cni/pods.conflist").write_text(json.dumps(_network(node)))
    config = str(directory / "containerd.toml")
    programs.run(f"{node.name}-containerd", "containerd", "--config", config, prefix=node.prefix)
    socket = directory / "containerd.sock"
    until(socket.exists, START_S, lambda: f"containerd on {node.name}: {programs.said()}")
    for archive in archives:
        node.ctr("images", "import", str(archive))
    programs.run(
        f"{node.name}-kubelet",
        "kubelet",
        f"--config={directory}/kubelet.yaml",
        f"--kubeconfig={programs.config}",
        f"--root-dir={directory}/kubelet",
        f"--cert-dir={directory}/certificates",
        f"--volume-plugin-dir={directory}/plugins",
        f"--hostname-override={node.name}",
        f"--node-ip={node.host}",
        "--container-runtime=remote",
        f"--container-runtime-endpoint=unix://{socket}",
        prefix=node.prefix,
    )
    start_proxy(programs, node.name, node.host, node.prefix)


def start_proxy(programs: Programs, name: str, host: str, prefix: Sequence[str] = ()) -> None:
    """Start kube-proxy, which leaves the limits of the kernel alone: they belong to the
    first network namespace.
    """
    programs.run(
        f"{name}-proxy",
        "kube-proxy",
        f"--kubeconfig={programs.config}",
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


def ip(*words: str) -> None:
    """Run ``ip`` in the network of the control plane."""
    subprocess.run(["ip", *words], check=True)


def _has_mounted(holder: int) -> bool:
    """Whether the holder of a node's namespaces has made its mounts."""
    return Path(f"/proc/{holder}/comm").read_text() == "sleep\n"


def _network(node: Node) -> dict[str, Any]:
    """The configuration of CNI: a bridge, with addresses of the node's network."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
