"""A daemon with the configuration, the user and the rights that the manifests for
Kubernetes give it answers what the kubelet asks, and stops as the manifests expect.
"""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients, faults
from tests.support.daemon import COMMAND, Unpd
from tests.support.faults import namespace
from tests.support.launch import Launch
from tests.support.manifests import PLACE, container, load, one
from tests.support.waiting import until

pytestmark = [faults.requires_namespaces(), faults.requires_tool("setpriv")]

CONTAINER = container(one(load(PLACE / "base/deployment.yaml"), "Deployment"))
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
USER = 65532
AS_POD = (
    "setpriv",
    f"--reuid={USER}",
    f"--regid={USER}",
    "--clear-groups",
    "--no-new-privs",
    "--inh-caps=-all",
    "--bounding-set=-all",
)
"""What securityContext means for a process."""


@pytest.fixture
def launch(no_process_left: None, public: Path) -> Iterator[Launch]:
    """Start daemons in a directory that the user of the pod can reach."""
    launcher = Launch(public)
    yield launcher
    problems = launcher.finish()
    assert not problems, "\n".join(problems)


@pytest.fixture(params=["base", "example"])
def text(request: pytest.FixtureRequest, public: Path) -> str:
    """The configuration of the pods, with a directory of the test's in place of
    /run/unpd.
    """
    run = public / "run"
    run.mkdir()
    os.chown(run, USER, USER)
    file = PLACE / str(request.param) / "unpd.toml"
    return file.read_text().replace("/run/unpd/", f"{run}/")


@pytest.fixture
def pod(launch: Launch, text: str) -> Iterator[Unpd]:
    """A daemon as in a pod, with the test in its network."""
    with namespace() as net:
        unpd = launch(text, prefix=(*net.prefix, *AS_POD))
        with net.entered():
            yield unpd
            if unpd.process.poll() is None:
                end(unpd)


def end(unpd: Unpd) -> None:
    """Stop it without its lame time, which a second SIGTERM ends."""
    unpd.signal(signal.SIGTERM)
    until(lambda: answer(unpd, "readinessProbe") != http.client.OK, 20.0, "the stop to begin")
    assert unpd.stop() == 0


def answer(unpd: Unpd, probe: str) -> int:
    """What the kubelet's HTTP request of a probe gets."""
    asked = CONTAINER[probe]["httpGet"]
    address = ("127.0.0.1", PORTS[asked["port"]])
    connection = http.client.HTTPConnection(*address, timeout=10.0)
    try:
        connection.request("GET", asked["path"])
        return connection.getresponse().status
    finally:
        connection.close()


def lives(unpd: Unpd) -> bool:
    """Whether the command of the liveness probe succeeds in its time, in the pod."""
    probe = CONTAINER["livenessProbe"]
    program, *words = probe["exec"]["command"]
    assert program == "unpd"
    at = words.index("--config") + 1
    words[at] = str(unpd.config_path)
    done = subprocess.run(
        [*AS_POD, *COMMAND, *words],
        cwd=unpd.directory,
        capture_output=True,
        timeout=probe["timeoutSeconds"],
        check=False,
    )
    return done.returncode == 0


def serves() -> bool:
    """Whether new clients are served at the ports of the container."""
    return clients.converse(
        ("127.0.0.1", PORTS["echo"]), b"hello"
    ) == b"hello" and b"20" in clients.ask(("127.0.0.1", PORTS["daytime"]))


def test_the_configuration_is_accepted(text: str, tmp_path: Path) -> None:
    """``unpd check`` accepts it, without a warning."""
    file = tmp_path / "unpd.toml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "unpd", "check", "--config", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_probes_are_answered(pod: Unpd) -> None:
    """In a pod without a capability and without an account, the services answer at the
    ports of the container, and each probe succeeds.
    """
    assert serves()
    assert answer(pod, "startupProbe") == http.client.OK
    assert answer(pod, "readinessProbe") == http.client.OK
    assert lives(pod)


def test_a_stop_is_announced_before_it_begins(pod: Unpd) -> None:
    """After SIGTERM the pod says that it is not ready, still serves new clients, and
    is not restarted as dead.
    """
    pod.signal(signal.SIGTERM)
    until(
        lambda: answer(pod, "readinessProbe") == http.client.SERVICE_UNAVAILABLE,
        20.0,
        "the readiness probe to fail",
    )
    assert serves()
    assert lives(pod)
    assert pod.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("text", ["base"], indirect=True)
def test_a_hung_main_process_is_noticed(pod: Unpd) -> None:
    """The liveness probe fails while the main process is stopped, although its children
    serve on.
    """
    assert lives(pod)
    pod.signal(signal.SIGSTOP)
    try:
        assert serves()
        assert not lives(pod)
    finally:
        pod.signal(signal.SIGCONT)
