"""The system calls behind signals, reaping and a new child, as strace shows them."""

import os
import re
from pathlib import Path

from tests.support import faults, procs
from tests.support.launch import Launch
from tests.support.waiting import until


@faults.requires_strace()
def test_sigaction_and_the_waitpid_loop(launch: Launch, tmp_path: Path) -> None:
    """SIGCHLD is installed by sigaction(2) with SA_RESTART and SA_NOCLDSTOP. Its
    handler loops waitpid(-1, WNOHANG) until nothing is left. Processes are signalled
    only through their pidfds, never by number.
    """
    by_process = ("-ff",)  # otherwise lines of several processes interrupt each other
    unpd = launch(
        prefix=faults.strace_prefix(
            tmp_path / "trace",
            "rt_sigaction,wait4,kill,tkill,tgkill,pidfd_send_signal",
            options=by_process,
        )
    )
    workers = unpd.workers()
    with procs.stopped([unpd.pid]):
        procs.kill(workers)
        until(lambda: not any(procs.alive(pid) for pid in workers), 5.0, "the workers to die")
    unpd.wait_respawned(workers)
    master = unpd.pid
    unpd.stop()
    until(
        lambda: (
            not [
                child
                for child in procs.children(os.getpid())
                if "strace" in child.title and procs.reap(child.pid) is None
            ]
        ),
        5.0,
        "strace to end",
    )
    calls = faults.Trace(tmp_path / f"trace.{master}").lines()

    actions = [
        call for call in calls if re.match(r"rt_sigaction\(SIGCHLD, \{sa_handler=0x", call)
    ]  # The interpreter restores the default as it ends.
    flags = set(actions[-1].partition("sa_flags=")[2].partition(",")[0].split("|"))
    assert {"SA_RESTART", "SA_NOCLDSTOP"} <= flags, actions
    assert "SA_NOCLDWAIT" not in flags

    waits = [call for call in calls if call.startswith("wait4(")]
    assert all(re.match(r"wait4\(-1, .*, WNOHANG, ", call) for call in waits), waits
    reaped = [int(call.rpartition("= ")[2]) for call in waits if "WTERMSIG(s) == SIGKILL" in call]
    assert sorted(reaped) == workers
    first = next(index for index, call in enumerate(waits) if "SIGKILL" in call)
    assert [call.rpartition("= ")[2] != "0" for call in waits[first : first + 3]] == [
        True,
        True,
        False,
    ], "both were not reaped in one loop that ends when nothing is left"

    assert any("pidfd_send_signal(" in call for call in calls)
    assert not [call for call in calls if re.match(r"(kill|tkill|tgkill)\(", call)]


@faults.requires_strace()
def test_a_child_takes_its_title_first(launch: Launch, tmp_path: Path) -> None:
    """Before it gives up the master's handlers. Until it has a title of its own, pgrep
    takes it for a second master.
    """
    prefix = faults.strace_prefix(tmp_path / "trace", "prctl,rt_sigaction", options=("-ff",))
    unpd = launch(prefix=prefix)
    for pid in unpd.workers():
        first = faults.Trace(tmp_path / f"trace.{pid}").lines()[0]
        assert first.startswith('prctl(PR_SET_NAME, "unpd: worker'), first
