"""A container or a unit refuses a system call: unpd goes on without it, or says in one
sentence which call it needs.
"""

import errno
import os
import re
import socket
from signal import SIGHUP

import pytest

from tests.support import clients
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.refused_calls import refuse, requires_filters
from tests.support.scale import first

pytestmark = requires_filters

CONFIG = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""
REFUSALS = {"EPERM": errno.EPERM, "ENOSYS": errno.ENOSYS}
LIBC = os.confstr("CS_GNU_LIBC_VERSION") or ""
WITHOUT_THE_KERNEL = tuple(map(int, re.findall(r"\d+", LIBC))) >= (2, 41)
"""Since then glibc makes random numbers itself, and does not notice a filter against
getrandom(2): pydantic-core panics on that.
"""
OPTIONAL = (
    "clone3",
    "close_range",
    "epoll_pwait2",
    "faccessat2",
    "fchmodat2",
    *(() if WITHOUT_THE_KERNEL else ("getrandom",)),
    "openat2",
    "prlimit64",
    "rseq",
    "sched_getaffinity",
    "splice",
    "statx",
)
READY_S = 10.0
"""On any machine: the closing of descriptors one by one took minutes."""


def serves(unpd: Unpd) -> None:
    """Assert that the daemon serves, reloads, respawns and stops."""
    assert clients.converse(unpd.address("echo"), b"hello" * 10_000) == b"hello" * 10_000
    unpd.signal(SIGHUP)
    unpd.wait_event("reload.succeeded", generation=2)
    assert clients.converse(unpd.address("echo"), b"again") == b"again"
    assert unpd.get("/metrics").status == 200
    assert unpd.stop() == 0


@pytest.mark.parametrize("refusal", first(1, REFUSALS))
@pytest.mark.parametrize("call", OPTIONAL)
def test_unpd_serves_without_it(launch: Launch, call: str, refusal: str) -> None:
    """The daemon is as good as ever without a call that some kernels and some filters
    lack.
    """
    unpd = launch(CONFIG, ready=False, preexec=lambda: refuse(call, REFUSALS[refusal]))
    unpd.wait_ready(READY_S)
    serves(unpd)


@pytest.mark.parametrize("refusal", first(1, REFUSALS))
def test_a_detached_daemon_serves_without_close_range(launch: Launch, refusal: str) -> None:
    """``unpd start`` closes what it inherits without close_range(2) too."""
    reader, writer = os.pipe()
    unpd = launch(
        CONFIG,
        detached=True,
        pass_fds=[writer],
        preexec=lambda: refuse("close_range", REFUSALS[refusal]),
    )
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b"", "nobody holds the pipe of the caller"
    serves(unpd)


@pytest.mark.parametrize("error", first(1, [errno.EPERM, errno.EACCES, errno.ENOSYS, 0]))
@pytest.mark.parametrize("call", ["recvmmsg", "sendmmsg"])
def test_datagrams_are_answered_a_call_each(launch: Launch, call: str, error: int) -> None:
    """Where a filter refuses the calls that take many datagrams, with whatever errno or
    as if they had succeeded, the worker makes a call for each.
    """
    udp = f'{CONFIG.rstrip()[:-1]}, "udp://127.0.0.1:0"]\n'
    unpd = launch(udp, ready=False, preexec=lambda: refuse(call, error))
    unpd.wait_ready(READY_S)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(READY_S)
        sock.connect(unpd.address("echo", 1))
        for data in (b"", b"hello", bytes(65507)):
            sock.send(data)
            assert sock.recv(1 << 16) == data
    serves(unpd)


NEEDED = ("memfd_create", "pidfd_open", "pidfd_send_signal", "prctl")


@pytest.mark.parametrize("refusal", first(1, REFUSALS))
@pytest.mark.parametrize("call", NEEDED)
def test_unpd_names_the_call_that_it_needs(launch: Launch, call: str, refusal: str) -> None:
    """Without a call that it cannot do without, the daemon does not start, and says in
    one sentence which call that is and since when Linux has it.
    """
    unpd = launch(CONFIG, ready=False, preexec=lambda: refuse(call, REFUSALS[refusal]))
    unpd.expect_exit(77)
    assert unpd.wait_exit() == 77
    said = [line for line in unpd.stderr().splitlines() if line.startswith("unpd: ")]
    reason = os.strerror(REFUSALS[refusal])
    assert len(said) == 1, unpd.stderr()
    assert f"{call}(2)" in said[0], said
    assert "Linux 5.3" in said[0], said
    assert reason in said[0], said
    assert not unpd.log_events("master.ready")
