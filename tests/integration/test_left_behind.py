"""What a worker leaves behind: processes that ignore every signal end with the daemon,
and give its ports back.
"""

import os
import signal

import pytest

from tests.support import ROOT, clients, ports, procs
from tests.support.launch import Launch
from tests.support.waiting import until

DEAF = """
import os, signal
from unpd.services.base import Options, ServiceType

class Own:
    def __init__(self, options): pass
    def greet(self, wall_s):
        if os.fork() == 0:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(signum, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.fork()
            while True:
                signal.pause()
        return b"done"
    def converse(self): return None

ROW = ServiceType(
    name="own", rfc=None, port=10079, stream=True, datagram=False, options=Options, make=Own)
"""
CONFIG = """
[daemon]
grace_s = {grace_s}
[pools.default]
workers = 1
[services.own]
listen = ["tcp://127.0.0.1:{port}"]
"""


def install(launch: Launch) -> str:
    """Install the service that leaves a process and its child behind. Return the path
    of modules.
    """
    directory = launch.directory / "packages"
    info = directory / "own_services-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-services\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[unpd.services]\nown = own:ROW\n")
    (directory / "own.py").write_text(DEAF)
    return f"{ROOT}:{directory}"


@pytest.mark.parametrize("quick", [False, True], ids=["graceful", "quick"])
def test_deaf_processes_end_with_the_daemon(launch: Launch, quick: bool) -> None:
    """A process that a worker left behind, and the child of that, ignore all signals.
    ``unpd stop`` returns when both are dead, one log line names them, and the port can
    be bound again. While the daemon runs they are left alone, also when their worker
    has ended.
    """
    port = ports.free_port()
    unpd = launch(CONFIG.format(grace_s=10, port=port), env={"PYTHONPATH": install(launch)})
    (worker,) = unpd.workers()
    with clients.connect(("127.0.0.1", port)) as sock:
        assert clients.read_exactly(sock, 4) == b"done"
    until(lambda: len(procs.descendants(worker)) == 2, 10.0, "two processes")
    left = {process.pid for process in procs.descendants(worker)}
    os.kill(worker, signal.SIGKILL)
    unpd.wait_event("worker.died")
    until(lambda: left & procs.child_pids(unpd.pid), 10.0, "the master to adopt the first")
    unpd.wait_event("worker.ready", after=1)
    assert all(map(procs.alive, left))
    unpd.expect_errors("worker.died")
    ended = unpd.run("stop", "--control", str(unpd.control), *(["--quick"] if quick else []))
    assert ended.returncode == 0, ended.stderr
    assert not any(map(procs.alive, left))
    (line,) = unpd.log_events("orphans.killed")
    assert {int(pid) for pid in line.fields["pids"].split(",")} == left
    assert (line.fields["count"], line.fields["alive"]) == (2, 0)


def test_a_process_from_before_the_daemon_is_left_alone(launch: Launch) -> None:
    """A shell that starts a job and then becomes the daemon passes its child on. The
    stop of the daemon is not the end of that job.
    """
    job = ("sh", "-c", 'setsid env -i sleep 60 & exec "$@"', "sh")
    unpd = launch(CONFIG.format(grace_s=1, port=0).replace("own", "echo"), prefix=job)
    (sleeper,) = [child for child in procs.children(unpd.process.pid) if "sleep" in child.title]
    unpd.stop()
    assert procs.alive(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGKILL)
    until(lambda: procs.reap(sleeper.pid) is not None, 10.0, "the job to end")
    assert not unpd.log_events("orphans.killed")
