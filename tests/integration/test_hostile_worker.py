"""A worker that an attacker took over and that runs as the master's own user, as under
unpd.service: it cannot look into the master, command it, or use its capability.
"""

import itertools
import json
import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support import clients, faults, procs
from tests.support.daemon import Unpd
from tests.support.hostile import ATTEMPTS, FLOOD
from tests.support.launch import Launch
from tests.support.waiting import until

pytestmark = pytest.mark.slow

HOSTILE = (sys.executable, "-m", "tests.support.hostile")
HIDDEN = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t proc -o hidepid=invisible proc /proc && exec "$@"',
    "sh",
)
PLACES = [
    pytest.param((), id="plain"),
    pytest.param(
        HIDDEN,
        id="hidepid",
        marks=[faults.requires_root, faults.requires_tool("unshare")],
    ),
]


@pytest.fixture
def launch(no_process_left: None) -> Iterator[Launch]:
    """Start daemons in a directory that the user nobody can reach and write to."""
    base = Path(tempfile.mkdtemp(prefix="unpd-hostile-"))
    base.chmod(0o755)
    run = base / "run"
    run.mkdir()
    if os.geteuid() == 0:
        os.chown(run, pwd.getpwnam("nobody").pw_uid, -1)
    launcher = Launch(base)
    yield launcher
    problems = launcher.finish()
    shutil.rmtree(base)
    assert not problems, "\n".join(problems)


def start(launch: Launch, prefix: tuple[str, ...], tmp: Path) -> Unpd:
    """Start a daemon with hostile workers."""
    run = tmp / "run"
    text = (
        f'[daemon]\npid_file = "{run}/unpd.pid"\ncontrol = "{run}/control.sock"\n'
        '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n[pools.default]\nworkers = 1\n'
    )
    return launch(
        text,
        command=HOSTILE,
        prefix=prefix,
        env={"HOSTILE_CONTROL": f"{run}/control.sock", "HOSTILE_REPORTS": str(run)},
    )


@pytest.fixture(params=PLACES)
def unpd(launch: Launch, request: pytest.FixtureRequest) -> Unpd:
    """A daemon with a hostile worker that has done its worst."""
    return start(launch, request.param, launch.directory)


def report(unpd: Unpd) -> dict[str, str]:
    """What came of each attempt of the worker."""
    (worker,) = unpd.workers()
    path = unpd.control.parent / f"hostile-{worker}"
    until(path.exists, 10.0, "the report")
    found: dict[str, str] = json.loads(path.read_text())
    return found


def test_a_hostile_worker_gets_nowhere(unpd: Unpd) -> None:
    """Every attempt fails: the kernel refuses a look into the master and the low port,
    and the master refuses commands of the worker and of all its descendants, orphans
    and hidden ones too.
    """
    found = report(unpd)
    assert found.keys() == ATTEMPTS.keys()
    refused = {name: said for name, said in found.items() if name.startswith("command")}
    for said in refused.values():
        assert "may not control this daemon" in said, refused
    assert unpd.log_events("control.refused", level="warning")
    others = {name: said for name, said in found.items() if name not in refused}
    errors = {"PermissionError", "FileNotFoundError", "ProcessLookupError"}
    assert set(others.values()) <= errors, others
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"


def test_a_flood_of_refusals_is_no_flood_of_lines(unpd: Unpd) -> None:
    """A worker that connects and leaves in a loop gets one line a second; each says how
    many were left out.
    """
    report(unpd)
    lines = unpd.log_events("control.refused")
    assert sum(event.fields["suppressed"] for event in lines) >= FLOOD
    moments = [datetime.fromisoformat(event.fields["time"]).timestamp() for event in lines]
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(moments))


def test_the_capability_stays_with_the_master(unpd: Unpd) -> None:
    """The master keeps what it was given; no child has a capability."""
    if os.geteuid() == 0:
        assert procs.credentials(unpd.pid).capabilities["CapEff"]
    for child in procs.children(unpd.pid):
        sets = procs.credentials(child.pid).capabilities
        assert {name: mask for name, mask in sets.items() if mask and name != "CapBnd"} == {}


def test_the_same_user_is_obeyed(unpd: Unpd) -> None:
    """A command of the same user that does not descend from the daemon is obeyed, as
    that of ``systemctl reload`` is.
    """
    answer = unpd.run("reload", "--control", str(unpd.control))
    assert b"reloaded: generation 2\n" in answer.stdout, answer.stderr


def test_zombies_are_counted(unpd: Unpd) -> None:
    """The exporter still counts the zombies of a master that it cannot look into."""
    unpd.metric_becomes(0, "unpd_zombies")
    (worker,) = unpd.workers()
    with procs.stopped([unpd.pid]):
        procs.kill([worker])
        unpd.metric_becomes(1, "unpd_zombies")
    unpd.metric_becomes(0, "unpd_zombies")
