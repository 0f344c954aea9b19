"""Programs, functions and redirects under the installed unit: the sandbox that they
have, and what the drop-in programs.conf gives them.
"""

import json
import re
from collections.abc import Mapping

import pytest

from tests.packaging.installed import CONF_D, DROP_INS, Installed
from tests.packaging.root import BOOKWORM, Suite
from tests.packaging.seccomp import Watch
from tests.support import ROOT, clients, procs
from tests.support.manual import example
from tests.support.programs import PATIENCE_S, read_line, service, shell
from tests.support.waiting import holds, until

pytestmark = pytest.mark.packaging

SERVICES = f"{CONF_D}/10-programs.toml"
SOCKET, SETPRIORITY = 41, 141
"""Numbers of socket(2) and setpriority(2) on x86-64."""

PROBED, SECOND = ("127.0.0.1", 2001), ("127.0.0.1", 2002)
PROBE = "/opt/programs/probe"
PROBE_TEXT = r"""#!/usr/bin/perl
# Tells what this process may do, a line each, and fails. It is no Python, of which the
# tests expect that no filter refuses a call.
use strict;

sub report { my ($key, $value) = @_; print "$key=$value\n"; }
sub attempt { my ($key, $done) = @_; my $error = "$!"; report($key, $done ? "done" : $error); }

open(my $status, "<", "/proc/self/status") or die;
for (<$status>) { report($1, $2) if /^(NoNewPrivs|Seccomp|Uid|Gid|Groups|CapEff):\s*(.*?)\s*$/; }
report("umask", sprintf("%04o", umask));
report("nice", getpriority(0, 0));
my $file = "/tmp/probe.$>";
for my $path ("/usr/probe", "/etc/probe", "/home/probe", "/var/lib/unpd/probe", $file) {
    attempt("write $path", open(my $opened, ">", $path));
}
report("mode", sprintf("%04o", (stat($file))[2] & 07777));
attempt("chown", chown($>, -1, $file));
attempt("chmod", chmod(04700, $file));
attempt("see /proc/self", -e "/proc/self");
attempt("see /proc/meminfo", -e "/proc/meminfo");
attempt("see /proc/1", -e "/proc/1");
my @anonymous = (0x22, -1, 0);
attempt("mmap writable", syscall(9, 0, 4096, 3, @anonymous) != -1);
attempt("mmap writable and executable", syscall(9, 0, 4096, 7, @anonymous) != -1);
exit 3;
"""
REFUSED, HIDDEN = "Operation not permitted", "No such file or directory"
SANDBOX = {
    "NoNewPrivs": "1",
    "Seccomp": "2",
    "CapEff": "0000000000000000",
    "umask": "0077",
    "write /usr/probe": "Read-only file system",
    "write /etc/probe": "Read-only file system",
    "write /home/probe": "Permission denied",
    "mode": "0600",
    "chown": REFUSED,
    "chmod": REFUSED,
    "see /proc/self": "done",
    "see /proc/meminfo": HIDDEN,
    "see /proc/1": HIDDEN,
    "mmap writable": "done",
}
"""What "Programs under systemd" of unpd(8) promises of every program."""


def probe(**keys: object) -> str:
    """The service of the probe."""
    return service("probe", PROBE, listen="tcp://127.0.0.1:2001", **keys)


def second(*command: str, **keys: object) -> str:
    """Another service."""
    return service("second", *command, listen="tcp://127.0.0.1:2002", **keys)


def serve(unpd: Installed, text: str) -> None:
    """Start the daemon with these services beside the shipped ones."""
    unpd.machine.put(PROBE, PROBE_TEXT, 0o755)
    unpd.machine.put(SERVICES, text)
    unpd.start()


def fields(text: str) -> dict[str, str]:
    """The lines of the probe."""
    return dict(line.split("=", 1) for line in text.splitlines())


def assert_probed(unpd: Installed, expected: Mapping[str, str]) -> None:
    """Assert that the probe finds this for a client, and all the same under ``unpd
    try``, which tells the end of the program.
    """
    found = fields(clients.ask(PROBED).decode())
    # By a filter of system calls, or by the kernel where systemd asks it to (prctl(2),
    # PR_SET_MDWE).
    assert found["mmap writable and executable"] in (REFUSED, "Permission denied")
    assert {key: found[key] for key in expected} == expected
    tried = unpd.machine.run("unpd", "try", "probe", check=False)
    assert fields(tried.stdout) == found
    assert re.fullmatch(r"the program ended after \S+ s: exit code 3\n", tried.stderr)
    assert tried.returncode == 1


def number(unpd: Installed, kind: str, name: str) -> str:
    """The number of a user ("passwd") or a group ("group") of the machine."""
    return unpd.machine.run("getent", kind, name).stdout.split(":")[2]


@pytest.fixture
def allowed(unpd: Installed) -> Installed:
    """The package with the drop-in programs.conf, not started."""
    unpd.allow_other_users()
    return unpd


# --- the unit alone


def test_a_program_has_the_sandbox_of_the_unit(unpd: Installed) -> None:
    """Its rights are those that unpd(8) lists, for a client and for unpd try."""
    serve(unpd, probe())
    uid, gid = number(unpd, "passwd", "unpd"), number(unpd, "group", "unpd")
    own = {
        "Uid": "\t".join([uid] * 4),
        "Gid": "\t".join([gid] * 4),
        "write /var/lib/unpd/probe": "done",
        f"write /tmp/probe.{uid}": "done",
        "nice": "0",
    }
    assert_probed(unpd, SANDBOX | own)
    assert "probe" not in unpd.machine.run("ls", "/tmp").stdout  # noqa: S108 - of the machine


def test_the_umask_of_the_unit_is_not_that_of_the_key(unpd: Installed) -> None:
    """The key umask takes the place of UMask=."""
    serve(unpd, probe(umask="0027"))
    assert_probed(unpd, SANDBOX | {"umask": "0027", "mode": "0640"})


def test_the_key_nice_is_refused(unpd: Installed, watch: Watch) -> None:
    """The program is not started; the log and unpd try name the step and the error."""
    serve(unpd, probe(nice=3))
    assert clients.ask(PROBED) == b""
    until(
        lambda: any(
            line.startswith("program.not_started")
            and " service=probe " in line
            and f' step=nice reason="{REFUSED}"' in line
            for line in unpd.messages()
        ),
        PATIENCE_S,
        lambda: f"the sentence in the journal: {unpd.messages()}",
    )
    tried = unpd.machine.run("unpd", "try", "probe", check=False)
    assert tried.stderr == f"unpd: the program could not be started: nice: {REFUSED}\n"
    assert tried.returncode == 1
    assert not watch.possible or watch.excuse(SETPRIORITY) == 2


def test_a_redirect_relays(unpd: Installed, watch: Watch) -> None:
    """The resolver's thread finds a target by its name, and bulk data comes back whole
    both ways: no filter refuses splice(2) or a pipe. The only call that is refused is
    for the socket by which getaddrinfo(3) asks for the addresses of the host
    (netlink(7)); it does without.
    """
    serve(
        unpd,
        "[services.relay]\n"
        'type = "redirect"\n'
        'listen = ["tcp://127.0.0.1:2001"]\n'
        'to = ["tcp://localhost:7"]\n',
    )
    data = bytes(range(256)) * (8 << 12)
    assert clients.converse(PROBED, data) == data
    watch.excuse(SOCKET)


def put_function(unpd: Installed) -> str:
    """Install the function of the manual; return its service."""
    module = example(
        "unpd-services.7", '"""Answers what its client sends in upper case."""\n\nfrom socket'
    )
    unpd.machine.put("/opt/handlers/uppercase.py", module)
    return example("unpd-services.7", "[services.uppercase]\ntype")


def test_a_function_serves(unpd: Installed) -> None:
    """The one of unpd-services(7), where it says."""
    serve(unpd, put_function(unpd))
    assert clients.converse(("127.0.0.1", 10078), b"hello") == b"HELLO"


def test_another_user_needs_the_drop_in(unpd: Installed) -> None:
    """Without programs.conf, a check as the daemon, a reload and a start refuse another
    user, and name the drop-in.
    """
    unpd.start()
    unpd.machine.put(PROBE, PROBE_TEXT, 0o755)
    unpd.machine.put(SERVICES, probe(user="nobody"))
    checked = unpd.machine.run("unpd", "check", "--as-daemon", check=False)
    assert checked.returncode == 78
    assert_names_the_drop_in(checked.stderr)
    assert unpd.systemctl("reload", "unpd", check=False).returncode != 0
    assert_names_the_drop_in("\n".join(unpd.messages()))
    unpd.since = unpd.machine.cursor()
    assert unpd.systemctl("restart", "unpd", check=False).returncode != 0
    assert unpd.show("ExecMainStatus") == "78"
    assert_names_the_drop_in("\n".join(unpd.messages()))


def test_a_program_that_the_sandbox_hides_is_refused(unpd: Installed) -> None:
    """A check as the daemon, a reload and the doctor find it; so does the doctor what
    another user lacks before the first start, for which the unit's directories are no
    finding.
    """
    assert unusable(unpd) == []
    unpd.machine.put("/home/program", PROBE_TEXT, 0o755)
    unpd.machine.put(SERVICES, second("/home/program", user="nobody"))
    (problem,) = unusable(unpd)
    assert "install the drop-in programs.conf" in problem
    unpd.machine.path(SERVICES).unlink()
    unpd.start()
    unpd.machine.put(SERVICES, second("/home/program"))
    hidden = 'the user unpd may not execute "/home/program", or may not reach it; ProtectHome= of'
    checked = unpd.machine.run("unpd", "check", "--as-daemon", check=False)
    assert checked.returncode == 78
    assert hidden in checked.stderr
    assert unpd.systemctl("reload", "unpd", check=False).returncode != 0
    (problem,) = unusable(unpd)
    assert hidden in problem


def unusable(unpd: Installed) -> list[str]:
    """What the doctor of root finds that the daemon's user cannot use."""
    report = json.loads(unpd.machine.run("unpd", "doctor", "--json", check=False).stdout)
    assert "usable" not in {one["check"] for one in report["not_checked"]}
    return [one["problem"] for one in report["findings"] if one["check"] == "usable"]


def assert_names_the_drop_in(text: str) -> None:
    """Assert that the text refuses the user of the probe."""
    assert re.search(r"services\.probe\.user: .* install the drop-in programs\.conf ", text), text


# --- with programs.conf


def test_programs_run_as_their_users(allowed: Installed) -> None:
    """User, groups and nice value are those of the keys; the rest of the
    sandbox stays. A function has its user, too. No filter refuses a call, also at a
    reload, and for a file that is read with the rights of unpd.
    """
    function = put_function(allowed) + 'user = "nobody"\n'
    allowed.machine.put("/etc/unpd/quotes", "a quotation\n")
    qotd = '[services.qotd]\nlisten = ["tcp://127.0.0.1:17"]\nfile = "/etc/unpd/quotes"\n'
    serve(allowed, probe(user="nobody", groups=["mail"], nice=3) + function + qotd)
    uid = number(allowed, "passwd", "nobody")
    own = {
        "Uid": "\t".join([uid] * 4),
        "Gid": "\t".join([number(allowed, "group", "nogroup")] * 4),
        "Groups": number(allowed, "group", "mail"),
        "nice": "3",
        "write /var/lib/unpd/probe": "Permission denied",
        f"write /tmp/probe.{uid}": "done",
    }
    assert_probed(allowed, SANDBOX | own)
    allowed.systemctl("reload", "unpd")
    assert_probed(allowed, SANDBOX | own)
    assert clients.converse(("127.0.0.1", 10078), b"hello") == b"HELLO"
    assert clients.ask(("127.0.0.1", 17)) == b"a quotation\r\n"


def test_an_old_drop_in_is_found(allowed: Installed, suite: Suite) -> None:
    """With User=root, as an older programs.conf had it, unpd starts on Debian 12 only,
    and unpd doctor names the drop-in: as a note there, as a fault on later ones.
    """
    path = allowed.machine.path(f"{DROP_INS}/programs.conf")
    path.write_text(re.sub("^(User|Group)=$", r"\1=root", path.read_text(), flags=re.MULTILINE))
    allowed.systemctl("daemon-reload")
    allowed.machine.put(PROBE, PROBE_TEXT, 0o755)
    allowed.machine.put(SERVICES, probe(user="nobody"))
    starts = suite == BOOKWORM
    assert (allowed.systemctl("start", "unpd", check=False).returncode == 0) is starts
    report = json.loads(allowed.machine.run("unpd", "doctor", "--json", check=False).stdout)
    notes = [found["note"] for found in report["findings"] if found["check"] == "drop_in"]
    assert notes == [starts]


def test_only_the_main_process_and_the_launcher_are_root(allowed: Installed) -> None:
    """Workers, the exporter, and the dispatcher of a function serve as unpd, with no
    capability; the main process and the launcher have those of the drop-in only.
    """
    serve(allowed, probe(user="nobody") + put_function(allowed))
    children = {procs.title(pid).split()[1]: pid for pid in allowed.children("unpd: ")}
    for kind in ("worker", "exporter", "python"):
        ids = procs.credentials(children[kind])
        assert set(ids.uids) == {int(number(allowed, "passwd", "unpd"))}
        assert ids.no_new_privileges
        sets = {name: mask for name, mask in ids.capabilities.items() if name != "CapBnd"}
        assert not any(sets.values())
    for pid in (allowed.pid, children["launcher"]):
        ids = procs.credentials(pid)
        assert set(ids.uids) == {0}
        assert ids.no_new_privileges
        assert ids.capabilities["CapEff"] == ids.capabilities["CapBnd"]
        assert ids.capabilities["CapEff"].bit_count() == 4


def test_a_stop_ends_the_programs_of_other_users(allowed: Installed) -> None:
    """The daemon ends them itself: systemd finds nobody to kill."""
    serve(allowed, second(*shell("echo $$; exec cat"), user="nobody"))
    with clients.connect(SECOND) as sock:
        assert read_line(sock)
        allowed.systemctl("stop", "unpd")
        assert clients.read_all(sock) == b""
    assert allowed.show("Result") == "success"
    assert not [line for line in allowed.systemd_messages() if "Killing" in line]


def leave_out(unpd: Installed, capability: str) -> None:
    """Take a capability away from the drop-in."""
    path = unpd.machine.path(f"{DROP_INS}/programs.conf")
    before = path.read_text()
    after = before.replace(f" {capability}", "").replace(f"={capability} ", "=")
    assert after != before
    path.write_text(after)
    unpd.systemctl("daemon-reload")
    assert capability.lower() not in unpd.show("CapabilityBoundingSet").split()


@pytest.mark.parametrize(
    ("capability", "reason"),
    [
        ("CAP_NET_BIND_SERVICE", "a port below 1024 needs root or CAP_NET_BIND_SERVICE"),
        ("CAP_SETUID", "that needs the capabilities CAP_SETUID and CAP_SETGID"),
        ("CAP_SETGID", "that needs the capabilities CAP_SETUID and CAP_SETGID"),
    ],
)
def test_without_a_capability_there_is_no_start(
    allowed: Installed, capability: str, reason: str
) -> None:
    """A start without one of the three fails with the code of a missing privilege, and
    the journal names it.
    """
    leave_out(allowed, capability)
    allowed.machine.put(PROBE, PROBE_TEXT, 0o755)
    allowed.machine.put(SERVICES, probe(user="nobody"))
    assert allowed.systemctl("start", "unpd", check=False).returncode != 0
    assert allowed.show("ExecMainStatus") == "77"
    assert any(line.endswith(reason) for line in allowed.messages()), allowed.messages()


OVERDUE = second(
    *shell("echo $$; exec cat"), user="nobody", session_timeout_s=0.5, kill_after_s=0.1
)


def test_the_time_of_a_program_is_over(allowed: Installed) -> None:
    """The launcher ends a program of another user."""
    serve(allowed, OVERDUE)
    with clients.connect(SECOND) as sock:
        assert read_line(sock)
        assert clients.read_all(sock) == b""


def test_without_cap_kill_programs_do_not_end(allowed: Installed) -> None:
    """The launcher tries to end it, in vain."""
    leave_out(allowed, "CAP_KILL")
    serve(allowed, OVERDUE)
    with clients.connect(SECOND) as sock:
        pid = allowed.machine.outer_pid(int(read_line(sock)))
        until(
            lambda: any(line.startswith("program.killed") for line in allowed.messages()),
            PATIENCE_S,
            lambda: f"the attempt in the journal: {allowed.messages()}",
        )
        holds(lambda: procs.alive(pid), 0.5, "the program ended without CAP_KILL")


def test_the_exposure_with_the_drop_in(allowed: Installed) -> None:
    """It is the one that unpd(8) and the README tell."""
    page = (ROOT / "packaging/man/unpd.8").read_text()
    readme = " ".join((ROOT / "README.md").read_text().split())
    figure = allowed.exposure()
    assert f"\nthen rates the unit at {figure} instead of " in page
    assert f" and at {figure} with `programs.conf`" in readme
