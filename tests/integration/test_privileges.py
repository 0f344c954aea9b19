"""Privileges: a process that talks to clients has dropped its privileges for good, or
it never runs. Root does not read a configuration that others can write.
"""

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT, clients, faults, procs
from tests.support.launch import Launch
from tests.support.operating import refused_reload, reload
from tests.support.refused_calls import requires_filters
from tests.support.waiting import until
from unpd.config.load import builtin
from unpd.errors import PrivilegeError
from unpd.master.boot import identity_for

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


@faults.requires_root
@pytest.mark.parametrize(("user", "group"), [("nobody", None), ("daemon", "nogroup")])
def test_children_have_dropped_all_privileges(launch: Launch, user: str, group: str | None) -> None:
    """Every worker and the exporter have the configured user and group as real,
    effective, saved and filesystem id. They have no other group, no capability, and no
    way to a new privilege.
    """
    account = pwd.getpwnam(user)
    gid = account.pw_gid if group is None else pwd.getpwnam("nobody").pw_gid
    unpd = launch(
        f'[daemon]\nuser = "{user}"\n'
        + (f'group = "{group}"\n' if group else "")
        + ECHO
        + '\n[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\n'
    )
    workers = unpd.workers()
    procs.kill(workers[:1])
    until(
        lambda: len(unpd.workers()) == 2 and workers[0] not in unpd.workers(),
        10.0,
        "a respawned worker",
    )
    until(
        lambda: unpd.metric("unpd_workers", kind="worker", pool="default", state="ready") == 2,
        10.0,
        "the worker to be ready",
    )
    exporter = unpd.exporter()
    assert exporter is not None
    for pid in (*unpd.workers(), exporter):
        ids = procs.credentials(pid)
        assert ids.uids == (account.pw_uid,) * 4
        assert ids.gids == (gid,) * 4
        assert ids.groups == ()
        assert {
            name: mask for name, mask in ids.capabilities.items() if mask and name != "CapBnd"
        } == {}
        assert ids.no_new_privileges
    assert procs.credentials(unpd.pid).uids == (0,) * 4, (
        "the master stays root, to bind again at a reload"
    )


@faults.requires_root
@faults.requires_strace()
def test_privileges_are_dropped_in_the_right_order(launch: Launch, tmp_path: Path) -> None:
    """A child drops groups, then group, then user. Then it proves that root cannot come
    back, and sets the death signal, which the change of user would have cleared.
    """
    one_file_each = ("-ff",)
    launch(
        ECHO,
        prefix=faults.strace_prefix(
            tmp_path / "trace", "setgroups,setresgid,setresuid,prctl,capset", options=one_file_each
        ),
    )
    nobody = pwd.getpwnam("nobody")
    traces = [path.read_text() for path in tmp_path.glob("trace.*")]
    children = [trace.splitlines() for trace in traces if "setgroups(" in trace]
    assert len(children) == 3
    user, group = nobody.pw_uid, nobody.pw_gid
    wanted = (
        r"setgroups\(0, (\[\]|NULL)\) += 0",
        rf"setresgid\({group}, {group}, {group}\) += 0",
        rf"setresuid\({user}, {user}, {user}\) += 0",
        r"setresuid\(0, 0, 0\) += -1 EPERM .*",
        r"capset\(.*effective=0, permitted=0, inheritable=0.*\) += 0",
        r"prctl\(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0\) += 0",
        r"prctl\(PR_SET_PDEATHSIG, SIGKILL.*\) += 0",
    )
    for calls in children:
        found = [
            index
            for pattern in wanted
            for index, call in enumerate(calls)
            if re.fullmatch(pattern, call)
        ]
        assert len(found) == len(wanted), calls
        assert found == sorted(found), calls


@faults.requires_root
@faults.requires_strace()
@pytest.mark.parametrize(
    "fault", ["setresuid:error=EAGAIN", "setgroups:error=EPERM", "setresuid:retval=0"]
)
def test_a_drop_that_fails_ends_the_start(launch: Launch, tmp_path: Path, fault: str) -> None:
    """Where a call fails, or only claims to have worked, the start fails with 77 and no
    worker has served as root.
    """
    call = fault.partition(":")[0]
    unpd = launch(ECHO, ready=False, prefix=faults.strace_prefix(tmp_path / "trace", call, fault))
    unpd.expect_exit(77)
    unpd.expect_errors("worker.failed", "exporter.failed", "master.refused")
    assert unpd.wait_exit() == 77
    assert "cannot drop privileges to nobody" in unpd.stderr()
    needed = "; that needs the capabilities CAP_SETUID and CAP_SETGID"
    assert (needed in unpd.stderr()) == ("EPERM" in fault)
    assert not unpd.log_events("worker.ready")


FILTERED = """
import errno, sys
from tests.support.refused_calls import refuse
from unpd.kernel.privileges import give_up_capabilities
refuse(sys.argv[1], errno.EPERM)
try:
    give_up_capabilities(required=sys.argv[2] == "True")
except OSError as error:
    print(error.strerror)
print(open("/proc/self/status").read())
"""


@faults.requires_root
@requires_filters
@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("refused", ["capset", "rseq"])
def test_capabilities_under_a_filter(refused: str, *, required: bool) -> None:
    """Under a filter that allows capset, such as that of unpd.service, no capability
    stays. One that refuses it is no failure for a master without root, and one for a
    master with root. no_new_privs is set either way.
    """
    done = subprocess.run(
        [sys.executable, "-c", FILTERED, refused, str(required)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert "NoNewPrivs:\t1" in done.stdout, done.stderr
    assert ("CapEff:\t0000000000000000" in done.stdout) is (refused != "capset")
    failed = "capset: cannot give up capabilities" in done.stdout
    assert failed is (required and refused == "capset")


@faults.requires_root
@faults.requires_strace()
def test_a_worker_whose_drop_fails_later_never_serves(launch: Launch, tmp_path: Path) -> None:
    """A respawned worker that cannot drop leaves without serving. The others go on, and
    once the fault is gone the worker is back.
    """
    unpd = launch(ECHO)
    unpd.expect_errors("worker.failed")
    workers = unpd.workers()
    with faults.straced(unpd.pid, tmp_path / "trace", "setresuid", "setresuid:error=EAGAIN"):
        procs.kill(workers[:1])
        unpd.wait_event("worker.failed", after=1)
        assert clients.converse(unpd.address("echo"), b"served") == b"served"
        assert unpd.metric("unpd_workers", kind="worker", pool="default", state="ready") == 1
        assert unpd.metric("unpd_children_reaped_total", kind="worker", reason="failed") >= 1
    unpd.metric_becomes(2, "unpd_workers", kind="worker", pool="default", state="ready")


@faults.requires_root
def test_root_refuses_a_configuration_that_others_can_write(launch: Launch, tmp_path: Path) -> None:
    """A configuration that others can write, or that belongs to another user, is
    refused with 78: at the start, by check, and at a reload.
    """
    unpd = launch(ECHO)
    path = unpd.config_path
    nobody = pwd.getpwnam("nobody")
    for mode, uid, gid, reason in (
        (0o666, 0, 0, "every user can write to the file (mode 0666)"),
        (0o664, 0, nobody.pw_gid, f"gid {nobody.pw_gid} can write to the file (mode 0664)"),
        (0o644, nobody.pw_uid, 0, f"belongs to uid {nobody.pw_uid}"),
    ):
        path.chmod(mode)
        os.chown(path, uid, gid)
        for verb in ("check", "run") if mode == 0o666 else ():
            ended = unpd.run(verb, "--config", str(path))
            assert (ended.returncode, reason in ended.stderr.decode()) == (78, True), ended.stderr
        assert reason in refused_reload(unpd)
    os.chown(path, 0, 0)
    assert reload(unpd) == 2


@faults.requires_root
def test_an_ordinary_user_cannot_become_another() -> None:
    """A configuration for another user is refused for an ordinary user, with a sentence
    that says what to do (code 77).
    """
    loaded, account = builtin(), pwd.getpwnam("daemon")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "nothing was refused"
        try:
            os.setgroups([])
            os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
            os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
            identity_for(loaded)
        except PrivilegeError as error:
            said = f"{int(error.exit_code)} {error}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        assert (
            pipe.read()
            == "77 only root can become nobody (daemon.user in the built-in default): start unpd as"
            " root or as nobody"
        )
    os.waitpid(pid, 0)


def test_an_ordinary_user_keeps_its_user(launch: Launch) -> None:
    """A daemon of an ordinary user serves as that user, without capabilities and
    without a way to new privileges.
    """
    unpd = launch(ECHO)
    workers = unpd.workers()
    assert len(workers) == 2
    for pid in workers:
        ids = procs.credentials(pid)
        assert ids.no_new_privileges
        assert (
            ids.capabilities["CapEff"]
            == ids.capabilities["CapPrm"]
            == ids.capabilities["CapAmb"]
            == 0
        )
        if os.geteuid() != 0:
            assert ids.uids == (os.geteuid(),) * 4


@faults.requires_root
def test_workers_that_stay_root_are_warned_of(launch: Launch) -> None:
    """``unpd check`` and the start warn once where ``daemon.user`` is root; a reload
    does not repeat it.
    """
    text = '[daemon]\nuser = "root"\n[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
    unpd = launch(text)
    reload(unpd)
    (warning,) = unpd.log_events("config.warning")
    assert 'daemon.user: "root" lets the workers keep root\'s rights' in warning.fields["text"]
    checked = unpd.run("check", "--config", str(unpd.config_path))
    assert checked.returncode == 0
    assert checked.stderr.count(b"keep root's rights") == 1


ROOTS = "of-root"
STRANGER = 12345


@pytest.fixture
def theirs(public: Path) -> Path:
    """A directory of another user, beside a file that only root can read."""
    (public / ROOTS).write_text("the secret\n")
    (public / ROOTS).chmod(0o600)
    theirs = public / "theirs"
    theirs.mkdir()
    os.chown(theirs, STRANGER, STRANGER)
    return theirs


@faults.requires_root
@pytest.mark.parametrize("by", [os.symlink, os.link])
def test_no_client_gets_a_file_that_only_root_can_read(
    launch: Launch, theirs: Path, by: Callable[[Path, Path], None]
) -> None:
    """The owner of the directory of a file of quotations replaces it by a link. The
    reload is refused, because the master reads the file with the rights of the
    children. It has its own again afterwards.
    """
    quotations = theirs / "quotations"
    quotations.write_text("harmless\n")
    text = f'[services.qotd]\nlisten = ["tcp://127.0.0.1:0"]\nfile = "{quotations}"\n'
    unpd = launch(text)
    before = procs.credentials(unpd.pid)
    quotations.unlink()
    by(theirs.parent / ROOTS, quotations)
    assert (
        refused_reload(unpd)
        .strip()
        .endswith(
            f"services.qotd.file: {quotations}: the file cannot be read by user nobody: permission"
            " denied (its content goes to clients, so the rights of daemon.user count)"
        )
    )
    assert clients.ask(unpd.address("qotd")) == b"harmless\r\n"
    assert procs.credentials(unpd.pid) == before
    quotations.unlink()
    quotations.write_text("another\n")
    reload(unpd)
    until(lambda: clients.ask(unpd.address("qotd")) == b"another\r\n", 10.0, "the new quotation")


@faults.requires_root
@pytest.mark.parametrize("user", ["nobody", "root"])
def test_check_reads_a_file_of_quotations_as_the_daemon_would(theirs: Path, user: str) -> None:
    """With the rights of daemon.user and of no group of root. Where that is root, its
    file is read.
    """
    secret = theirs.parent / ROOTS
    secret.chmod(0o640)
    config = theirs.parent / "unpd.toml"
    config.write_text(f'[daemon]\nuser = "{user}"\n[services.qotd]\nfile = "{secret}"\n')
    ended = subprocess.run(
        [sys.executable, "-m", "unpd", "check", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if user == "root":
        assert ended.returncode == 0, ended.stderr
    else:
        assert (ended.returncode, "cannot be read by user nobody" in ended.stderr) == (78, True)


FILE_RIGHTS = """
import ctypes, os
from unpd.kernel.privileges import file_rights_of, identify

def seen():
    status = open("/proc/self/status").read()
    rows = dict(line.split(":", 1) for line in status.splitlines())
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    return rows["Uid"].split(), rows["Gid"].split(), rows["Groups"].split(), dumpable

os.setgroups([4, 5])
before = seen()
nobody = identify("nobody", None)
with file_rights_of(nobody):
    uids, gids, groups, _ = seen()
assert uids == ["0", "0", "0", str(nobody.uid)], uids
assert gids == [*before[1][:3], str(nobody.gid)], gids
assert groups == [], groups
assert before == seen() and before[2:] == (["4", "5"], 1), (before, seen())
"""


@faults.requires_root
def test_only_the_rights_to_files_change_while_a_file_is_read() -> None:
    """The effective user stays: that user could otherwise set the priority of the
    master meanwhile. Groups and the right to dump core come back.
    """
    subprocess.run([sys.executable, "-c", FILE_RIGHTS], check=True, cwd=ROOT, timeout=30)
