"""The network of a run of the benchmark."""

import json
import subprocess
import sys

from tests.support import ROOT, faults

BOTH_ENDS = """
import json, os, socket
from tests.benchmarks import network

before = os.stat("/proc/self/ns/net").st_ino
said = network.enter()
with socket.create_server(("127.0.0.1", 0)) as listener:
    client = socket.create_connection(listener.getsockname(), source_address=("127.0.0.9", 0))
    server, _ = listener.accept()
    controls = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\\0").decode() for sock in (client, server)]
print(json.dumps([said, controls, os.stat("/proc/self/ns/net").st_ino != before]))
"""


@faults.requires_namespaces()
def test_both_ends_of_a_connection_have_debians_congestion_control() -> None:
    """Whatever the machine has: in a namespace of its own, from any of the generator's addresses, and the page says so."""
    done = subprocess.run([sys.executable, "-c", BOTH_ENDS], cwd=ROOT, capture_output=True, check=True, timeout=60)
    said, controls, moved = json.loads(done.stdout)
    assert controls == ["cubic", "cubic"]
    assert moved
    assert said.startswith("cubic, in a network namespace of its own")
