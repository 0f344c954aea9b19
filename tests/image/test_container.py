"""Containers of the image: unpd serves as process 1, as an ordinary user, with nothing
on disk to write to.
"""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.image.conftest import Run
from tests.image.podman import DAYTIME, ECHO, HARDENED, Podman
from tests.support import clients, procs
from tests.support.observed import total
from tests.support.waiting import until

pytestmark = pytest.mark.packaging

UID = 65532
GRACE_S = 8.0
"""daemon.grace_s in the image's configuration."""

EVERY_KIND = """
[pools.default]
max_connections_per_worker = 1000

[metrics]
listen = "tcp://[::]:9867"

[services.echo]
listen = ["tcp://[::]:10007", "udp://[::]:10007", "unix:///run/unpd/echo.sock"]

[services.forked]
type = "echo"
model = "fork"
listen = ["tcp://[::]:10008"]

[services.daytime]
listen = ["tcp://[::]:10013"]
timezone = "Europe/Berlin"

[services.relay]
type = "redirect"
listen = ["tcp://[::]:10014"]
to = ["tcp://localhost:10007"]

[services.program]
type = "exec"
listen = ["tcp://[::]:10015"]
command = ["/usr/bin/python3", "-IS", "-c", "print('hello')"]
"""
WRITABLE = """
import os, sys
for directory, names, files in os.walk("/"):
    names[:] = [name for name in names if f"{directory}{name}" not in ("/proc", "/sys")]
    if os.access(directory, os.W_OK):
        print(directory)
"""
LOAD_ALL = """
import importlib, pathlib
directory = pathlib.Path("/usr/lib/python3.11/lib-dynload")
for path in sorted(directory.iterdir()):
    print(importlib.import_module(path.name.partition(".")[0]).__name__)
"""
ORPHANS = """
import os
for code in range(3):
    if os.fork() == 0:
        while os.getppid() != 1:
            pass
        os._exit(code)
"""


def test_it_serves(run: Run) -> None:
    """A container with the image's own configuration serves on its ports, as the user
    65532, without capabilities, under podman's filter of system calls.
    """
    container = run(*HARDENED)
    with container.network():
        assert clients.converse(ECHO, b"hello") == b"hello"
        assert clients.ask(DAYTIME)
    assert total(container.samples(), "unpd_connections_accepted_total") == 2
    for pid in container.processes():
        found = procs.credentials(pid)
        assert (set(found.uids), set(found.gids)) == ({UID}, {UID})
        assert not any(found.capabilities.values())
        assert found.no_new_privileges
        assert procs.status(pid)["Seccomp"] == "2"


def test_the_log_is_the_standard_error(run: Run) -> None:
    """The log goes to standard error, and nothing goes to standard output."""
    container = run(*HARDENED)
    assert "master.ready" in container.log()
    assert container.output() == ""


def test_nothing_else_can_be_written_to(run: Run) -> None:
    """The only directories that can be written to are /run/unpd, and those in memory
    that podman gives to every container.
    """
    container = run(*HARDENED)
    in_memory = {"/dev/mqueue", "/dev/shm"}  # noqa: S108 - nothing is written there
    assert set(container.python(WRITABLE).split()) == {"/run/unpd"} | in_memory


def test_every_kind_of_service(run: Run, public: Path) -> None:
    """Datagrams, sessions that fork, programs, redirects to a name and time zones work
    in a hardened container.
    """
    (public / "unpd.toml").write_text(EVERY_KIND)
    container = run(*HARDENED, f"--volume={public}:/etc/unpd:ro")
    with container.network():
        assert clients.converse(ECHO, b"hello") == b"hello"
        assert clients.converse(("127.0.0.1", 10008), b"forked") == b"forked"
        assert clients.converse(("127.0.0.1", 10014), b"relayed") == b"relayed"
        assert clients.ask(("127.0.0.1", 10015)) == b"hello\n"
        assert clients.ask(DAYTIME)
        with clients.asking(ECHO) as sock:
            sock.send(b"datagram")
            assert sock.recv(64) == b"datagram"
    assert "warning" not in container.log()


@pytest.mark.parametrize("user", ["1000680000:0", "4242:4242"])
def test_any_user(run: Run, user: str) -> None:
    """A container may have any user, also one that no file knows: OpenShift gives each
    project a number of its own.
    """
    container = run(*HARDENED, f"--user={user}")
    with container.network():
        assert clients.converse(ECHO, b"hello") == b"hello"
    uid, gid = map(int, user.split(":"))
    for pid in container.processes():
        found = procs.credentials(pid)
        assert (set(found.uids), set(found.gids)) == ({uid}, {gid})
    assert "ready" in container.exec("unpd", "status").stdout


def test_without_hardening(run: Run) -> None:
    """A container without any option serves too."""
    container = run()
    with container.network():
        assert clients.converse(ECHO, b"hello") == b"hello"


def test_a_mounted_file_that_changed(run: Run, public: Path) -> None:
    """After a change of the mounted file, a SIGHUP to the container brings it into
    use.
    """
    _configure(public / "unpd.toml", "ctime")
    container = run(*HARDENED, f"--volume={public}:/etc/unpd:ro")
    with container.network():
        assert clients.ask(DAYTIME)[10:11] != b"T"
    _configure(public / "new", "iso8601")
    (public / "new").rename(public / "unpd.toml")
    container.podman("kill", "--signal=HUP")
    with container.network():
        until(lambda: clients.ask(DAYTIME)[10:11] == b"T", 20.0, container.log)


def test_a_volume_that_kubernetes_changed(run: Run, public: Path) -> None:
    """Kubernetes changes a ConfigMap by exchanging a link to a directory. ``unpd
    reload`` in the container then brings the new file into use, or says why not.
    """
    _publish(public, "..first", "ctime")
    (public / "unpd.toml").symlink_to("..data/unpd.toml")
    container = run(*HARDENED, f"--volume={public}:/etc/unpd:ro")
    _publish(public, "..second", "iso8601")
    assert "generation 2" in container.exec("unpd", "reload").stdout
    with container.network():
        assert clients.ask(DAYTIME)[10:11] == b"T"
    _publish(public, "..third", "nonsense")
    refused = container.exec("unpd", "reload", check=False)
    assert refused.returncode == 1
    assert "services.daytime.format" in refused.stderr
    with container.network():
        assert clients.ask(DAYTIME)[10:11] == b"T"


def _configure(path: Path, form: str) -> None:
    path.write_text(
        '[metrics]\nlisten = "tcp://[::]:9867"\n'
        f'[services.daytime]\nlisten = ["tcp://[::]:10013"]\nformat = "{form}"\n'
    )


def _publish(volume: Path, version: str, form: str) -> None:
    """Write a version of the file, and let ..data lead to it in one step."""
    (volume / version).mkdir()
    _configure(volume / version / "unpd.toml", form)
    (volume / "..new").symlink_to(version)
    (volume / "..new").rename(volume / "..data")


def test_it_stops_in_time_with_clients(run: Run) -> None:
    """``podman stop`` sends SIGTERM, which process 1 obeys: clients that hold on to
    their connections get a FIN, and it ends within grace_s. podman would kill it after
    ten times that, and the exit code would be another.
    """
    container = run(*HARDENED)
    with contextlib.ExitStack() as stack:
        with container.network():
            held = stack.enter_context(clients.idle(ECHO, 50, timeout_s=10 * GRACE_S))
        for sock in held:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        container.podman("stop", f"--time={int(10 * GRACE_S)}")
        assert [sock.recv(1) for sock in held] == [b""] * 50
    assert container.inspect("State.ExitCode") == "0"
    assert "master.stopped" in container.log()


def test_orphans_are_reaped(run: Run) -> None:
    """Process 1 reaps orphans of other commands in the container, and goes on."""
    container = run(*HARDENED)
    container.python(ORPHANS)
    until(
        lambda: total(container.samples(), "unpd_unknown_children_reaped_total") == 3,
        20.0,
        lambda: f"three orphans to be reaped: {container.log()}",
    )
    until(lambda: total(container.samples(), "unpd_zombies") == 0, 20.0, "no zombie to be left")
    assert container.get("/readyz")[0] == 200


def test_the_health_check(run: Run) -> None:
    """It succeeds while the main process answers, and fails while it hangs."""
    container = run(*HARDENED)
    container.podman("healthcheck run")
    os.kill(container.pid, signal.SIGSTOP)
    try:
        unwell = container.podman("healthcheck run", check=False)
    finally:
        os.kill(container.pid, signal.SIGCONT)
    assert "unhealthy" in unwell
    container.podman("healthcheck run")


def test_commands(podman: Podman) -> None:
    """The image is also the program unpd: arguments take the place of ``run``."""
    checked = podman.ended(command=("check", "--show"))
    assert 'listen = ["tcp://[::]:10007"]' in checked.stdout


def test_there_is_no_shell_to_start(podman: Podman) -> None:
    """A container with a shell as its command does not start."""
    for shell in ("/bin/sh", "sh", "/bin/bash"):
        refused = podman.ended(f"--entrypoint={shell}", check=False)
        assert refused.returncode == 127, refused


def test_every_module_of_python_loads(run: Run) -> None:
    """The compiled modules of Python find their libraries."""
    container = run(*HARDENED)
    loaded = container.python(LOAD_ALL).split()
    assert {"_bz2", "_ctypes", "_hashlib", "_lzma", "_ssl"} <= set(loaded)
