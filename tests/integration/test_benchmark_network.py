"""The network namespace in which the benchmark runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, faults

MACHINES = Path("/proc/sys/net/ipv4/tcp_congestion_control")
# Any control but the machine's: a new namespace has that one by default.
OTHER = "reno" if MACHINES.read_text().strip() != "reno" else "cubic"
BOTH_ENDS = """
import json, os, socket, sys
from tests.benchmarks import network

network.CONTROL = sys.argv[1]
if len(sys.argv) > 2:
    network.program = lambda name: sys.argv[2]
before = os.stat("/proc/self/ns/net").st_ino
said = network.enter()
with socket.create_server(("127.0.0.1", 0)) as listener:
    client = socket.create_connection(listener.getsockname(), source_address=("127.0.0.9", 0))
    server, _ = listener.accept()
    controls = [
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\\0").decode()
        for sock in (client, server)
    ]
print(json.dumps([said, controls, os.stat("/proc/self/ns/net").st_ino != before]))
"""


def entered(*arguments: str) -> Any:
    """Return what a process reports that entered it: the note for the page, the
    congestion control of both ends of a connection, and whether the namespace is
    another one.
    """
    done = subprocess.run(
        [sys.executable, "-c", BOTH_ENDS, *arguments],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@faults.requires_namespaces()
def test_both_ends_of_a_connection_have_the_congestion_control_of_the_benchmark() -> None:
    """Both ends of a connection use the benchmark's congestion control, from any of the
    generator's addresses, whatever the machine uses. The page says so.
    """
    said, controls, moved = entered(OTHER)
    assert controls == [OTHER, OTHER]
    assert moved
    assert (
        said == f"{OTHER}, in a network namespace of its own (the machine has"
        f" {MACHINES.read_text().strip()})"
    )


@faults.requires_namespaces()
@pytest.mark.parametrize("arguments", [("nonesuch",), (OTHER, "/nonexistent/ip")])
def test_without_a_namespace_the_benchmark_uses_the_machines_network(
    arguments: tuple[str, ...],
) -> None:
    """When the kernel does not know the control, or ip is missing, the benchmark runs
    in the machine's network and the page says why.
    """
    said, controls, moved = entered(*arguments)
    machines = MACHINES.read_text().strip()
    assert controls == [machines, machines]
    assert not moved
    assert said.startswith(
        f"{machines}, the machine's own: no network namespace with {arguments[0]}"
    )
