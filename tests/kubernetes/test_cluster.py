"""The manifests on a real cluster: what operators do to it refuses no client."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.cluster import OVERLAY, Cluster, metrics
from tests.support import ROOT, clients, loads, procs
from tests.support.manifests import PLACE, rendered
from tests.support.observed import total
from tests.support.waiting import until

pytestmark = pytest.mark.kubernetes

ECHO, DAYTIME = 7, 13
UID = 65532
FILTERED = "2"
"""A process with a filter of system calls, in /proc/PID/status."""
RATE = 200.0
"""Connections per second while the cluster changes. It is high enough that some are
refused if lame_duck_s is 0.
"""


def accepted(cluster: Cluster) -> dict[str, float]:
    """How many connections each pod's echo has accepted, by the name of the pod."""
    return {
        pod["metadata"]["name"]: total(
            metrics(pod), "unpd_connections_accepted_total", service="echo"
        )
        for pod in cluster.ready_pods()
    }


def restarts(pod: dict[str, Any]) -> int:
    """How often the only container of a pod was restarted."""
    (status,) = pod["status"]["containerStatuses"]
    return int(status["restartCount"])


def names(cluster: Cluster) -> set[str]:
    """The names of the pods that are ready."""
    return {pod["metadata"]["name"] for pod in cluster.ready_pods()}


def test_three_pods_become_ready(cluster: Cluster) -> None:
    """They run on both nodes, without a restart. Every process of unpd is restricted as
    the manifests say.
    """
    pods = cluster.ready_pods()
    assert len(pods) == 3
    assert {cluster.node_of(pod).name for pod in pods} == {"one", "two"}
    assert [restarts(pod) for pod in pods] == [0, 0, 0]
    processes = [each for each in procs.all_processes() if each.title.startswith("unpd: ")]
    masters = [each for each in processes if each.title.startswith("unpd: master")]
    assert len(masters) == len(pods)
    assert len(processes) > len(pods), "no worker is there"
    for each in processes:
        found = procs.credentials(each.pid)
        assert (set(found.uids), set(found.gids)) == ({UID}, {UID}), each
        assert not any(found.capabilities.values()), each
        assert found.no_new_privileges, each
        assert procs.status(each.pid)["Seccomp"] == FILTERED, each
        assert "ro" in options_of_root(each.pid), each


def options_of_root(pid: int) -> list[str]:
    """The options of the mount that a process has for its root directory (proc(5))."""
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return [mount[5].split(",") for mount in mounts if mount[4] == "/"][-1]


def test_each_pod_is_scraped(cluster: Cluster) -> None:
    """Each serves its metrics at its own address, and is not degraded."""
    for pod in cluster.ready_pods():
        assert total(metrics(pod), "unpd_degraded") == 0
        assert total(metrics(pod), "unpd_build_info") == 1


def test_the_service_reaches_all_pods(cluster: Cluster) -> None:
    """Clients of the one address, at the ports of the protocols, get to every pod."""
    host = cluster.service_host()

    def reached() -> bool:
        with contextlib.suppress(OSError):  # before kube-proxy knows of any
            clients.converse((host, ECHO), b"hello")
        return all(accepted(cluster).values())

    # kube-proxy hears of a pod a moment after that is ready.
    until(reached, 60.0, "every pod to be reached")
    before = accepted(cluster)
    for _ in range(60):
        assert clients.converse((host, ECHO), b"hello") == b"hello"
    assert clients.ask((host, DAYTIME))
    after = accepted(cluster)
    assert all(after[name] > before[name] for name in before)
    assert sum(after.values()) - sum(before.values()) == 60


def test_a_rolling_update_refuses_nobody(cluster: Cluster) -> None:
    """New pods take the place of all three under load."""
    before = names(cluster)
    with loads.running((cluster.service_host(), ECHO), rate=RATE, concurrency=16) as load:
        load.more(100, timeout_s=60.0)
        cluster.kubectl("rollout", "restart", "deployment/unpd")
        cluster.rolled_out()
        load.more(100, timeout_s=60.0)
        result = load.stop()
    print(f"rolling update: {result}")
    assert not names(cluster) & before
    result.assert_clean(at_least=2000)


def test_a_drain_refuses_nobody(cluster: Cluster) -> None:
    """All pods of a node move to the other one under load, one at a time."""
    drained = cluster.node_of(cluster.ready_pods()[0]).name
    (other,) = {"one", "two"} - {drained}
    with loads.running((cluster.service_host(), ECHO), rate=RATE, concurrency=16) as load:
        load.more(100, timeout_s=60.0)
        try:
            cluster.kubectl("drain", drained, "--delete-emptydir-data", "--timeout=180s")
            cluster.rolled_out()
        finally:
            cluster.kubectl("uncordon", drained)
        load.more(100, timeout_s=60.0)
        result = load.stop()
    print(f"drain: {result}")
    assert {cluster.node_of(pod).name for pod in cluster.ready_pods()} == {other}
    assert len(cluster.ready_pods()) == 3
    result.assert_clean(at_least=2000)


def test_a_killed_container_is_restarted(cluster: Cluster) -> None:
    """The pod stays, with a new container that serves."""
    pod = cluster.ready_pods()[0]
    name = pod["metadata"]["name"]
    (status,) = pod["status"]["containerStatuses"]
    container = status["containerID"].removeprefix("containerd://")
    cluster.node_of(pod).ctr("tasks", "kill", "--signal", "SIGKILL", container)

    def restarted() -> bool:
        now = {each["metadata"]["name"]: each for each in cluster.ready_pods()}
        return name in now and restarts(now[name]) == 1

    until(restarted, 60.0, lambda: f"the container to be restarted: {cluster.state()}")
    assert accepted(cluster)[name] == 0
    assert clients.converse((pod["status"]["podIP"], 10007), b"hello") == b"hello"


def test_a_new_configuration_is_rolled_out(cluster: Cluster, tmp_path: Path) -> None:
    """A change of unpd.toml and an apply give every client the new behaviour, and
    refuse none.
    """
    before = names(cluster)
    for directory in (PLACE, OVERLAY):
        shutil.copytree(directory, tmp_path / directory.relative_to(ROOT))
    file = tmp_path / PLACE.relative_to(ROOT) / "base/unpd.toml"
    old = 'timezone = "UTC"\n'
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, f'{old}format = "iso8601"\n'))
    with loads.running((cluster.service_host(), ECHO), rate=RATE, concurrency=16) as load:
        cluster.apply(rendered(tmp_path / OVERLAY.relative_to(ROOT)))
        result = load.stop()
    print(f"new configuration: {result}")
    assert not names(cluster) & before
    assert {clients.ask((cluster.service_host(), DAYTIME))[10:11] for _ in range(30)} == {b"T"}
    result.assert_clean(at_least=2000)
