"""Programs of others that were written for inetd, as services of type exec: git daemon,
rsync, in.tftpd, vsftpd, and a health check of HAProxy. Each is configured as the README
says, and its own client uses it. A daemon of root has the capabilities of the
documented drop-ins only. The last tests have programs of others that read their
environment.

What was seen on Debian 12, and is no fault of unpd:

- rsync ends with exit code 255 after it has listed its modules.
- vsftpd with two processes ends with exit code 2 after a good session: the second one
  closes the pipe between them before it ends, and the first one takes that for a fault.
- git daemon logs the address of its client only where REMOTE_ADDR has it, which is a
  name of systemd's.
"""

import contextlib
import csv
import os
import pwd
import random
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT, clients, documented, procs
from tests.support.counts import service_counts
from tests.support.daemon import Unpd
from tests.support.faults import find_tool, requires_root, requires_tool
from tests.support.launch import Launch
from tests.support.programs import PATIENCE_S, executable, launcher, service, shell
from tests.support.programs import ended as programs_ended
from tests.support.waiting import until

HOST = "127.0.0.1"
CONTENT = random.Random(21).randbytes(300_000)
"""What the clients fetch: more than their sockets hold."""
PORTS = {"git": 9418, "rsync": 873, "tftp": 69, "ftp": 21, "mysqlchk": 9200}
"""The standard ports of the documented services."""
CHECKED_EVERY_MS = 300
"""One server cannot be checked much more often: HAProxy takes that time for the limit
of the connect, too.
"""
ENDED = "unpd_programs_ended_total"
CONFIGURED_IN = {
    "rsync": "/etc/rsyncd.conf",
    "ftp": "/etc/vsftpd.conf",
    "mysqlchk": "/usr/local/bin/mysqlchk",
}
"""The files that the services name."""
HAPROXY = "/etc/haproxy/haproxy.cfg"
DROP_IN = ROOT / "unpd/units/unpd.service.d/programs.conf"
CHROOT_DROP_IN = "/etc/systemd/system/unpd.service.d/tftp.conf"
CALL_CHROOT = ("tftp", "ftp")
CLIENT_S = 30.0
IS_ROOT = os.geteuid() == 0
VSFTPD = "/usr/sbin/vsftpd"
TFTPD = "/usr/sbin/in.tftpd"


def client(*command: str, fails: bool = False, **variables: str) -> str:
    """Run a client of others; return what it printed. AssertionError if it fails, or
    with ``fails`` if it does not.
    """
    ended = subprocess.run(
        command,
        capture_output=True,
        check=False,
        text=True,
        timeout=CLIENT_S,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", **variables},
    )
    printed = ended.stdout + ended.stderr
    assert (ended.returncode != 0) == fails, f"{command}: {printed}"
    return printed


@dataclass(frozen=True, slots=True)
class Site:
    """A daemon with one documented service."""

    unpd: Unpd
    name: str

    @property
    def port(self) -> int:
        """The port of the service."""
        return self.unpd.port(self.name)

    def programs(self) -> list[int]:
        """The pids of the programs that run."""
        return [child.pid for child in procs.children(launcher(self.unpd)) if not child.zombie]

    def ended(self, **results: int) -> None:
        """Wait until so many programs have ended, by result, and no others. None runs,
        and all were of a connection each.
        """
        programs_ended(self.unpd, self.name, **results)
        assert self.programs() == []
        assert service_counts(self.unpd, self.name).active == 0

    def has_no_complaint(self) -> None:
        """Assert that the log has no warning about the service."""
        assert self.unpd.log_events(level="warning", service=self.name) == []


Serve = Callable[[str, Mapping[str, str]], Site]


@pytest.fixture
def serve(launch: Launch) -> Serve:
    """Starts a daemon with a documented service, on a free port and with other changes.
    Under root, the daemon's user is not that of a program, and the master has the
    capabilities that the drop-ins give to the unit.
    """

    def start(name: str, changes: Mapping[str, str]) -> Site:
        kind = "udp" if name == "tftp" else "tcp"
        port = {f"{kind}://[::]:{PORTS[name]}": f"{kind}://{HOST}:0"}
        user = {} if IS_ROOT else {'user = "nobody"': 'user = ""'}
        text = documented.changed(documented.services()[name], {**changes, **port, **user})
        if not IS_ROOT:
            return Site(launch(text), name)
        return Site(launch(f'[daemon]\nuser = "daemon"\n{text}', prefix=confined(name)), name)

    return start


def confined(name: str) -> tuple[str, ...]:
    """The command prefix that takes from root what the unit with the drop-ins for the
    service ``name`` takes.
    """
    drop_ins = DROP_IN.read_text() + documented.files()[CHROOT_DROP_IN] * (name in CALL_CHROOT)
    lines = re.findall(r"^CapabilityBoundingSet=(.*)$", drop_ins, re.MULTILINE)
    kept = [f"+{word.removeprefix('CAP_').lower()}" for word in " ".join(lines).split()]
    bounding_set = ",".join(["-all", *kept])
    return ("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set", bounding_set)


def written(directory: Path, path: str, changes: Mapping[str, str]) -> dict[str, str]:
    """Write the documented file ``path`` into ``directory``, with changes. Return the
    change of the service that has it there.
    """
    new = executable(
        directory / Path(path).name, documented.changed(documented.files()[path], changes)
    )
    return {path: new}


def shared(directory: Path) -> Path:
    """Make a directory with a file for clients."""
    directory.mkdir(parents=True)
    (directory / "file").write_bytes(CONTENT)
    return directory


# --- each by its own client -----------------------------------------------------------


@pytest.fixture
def repositories(public: Path) -> Path:
    """A directory with project.git, whose only commit has a file."""
    base, work = public / "git", public / "work"
    for command in (
        ("init", "--quiet", "--bare", f"{base}/project.git"),
        ("init", "--quiet", str(work)),
        ("-C", str(work), "add", str(shared(work / "source") / "file")),
        ("-C", str(work), "commit", "--quiet", "--message", "A file"),
        ("-C", str(work), "push", "--quiet", f"{base}/project.git", "HEAD:refs/heads/master"),
    ):
        git(*command)
    return base


def git(*command: str, fails: bool = False) -> str:
    """Run git without the configuration of this host."""
    names = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
    }
    nowhere = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    return client("git", *command, fails=fails, **names, **nowhere)


@requires_tool("/usr/bin/git")
def test_git_clones(serve: Serve, repositories: Path, tmp_path: Path) -> None:
    """``git clone`` gets the commit and its file; a repository that is not there is an
    error of the client, a failed program, and its message is in the log.
    """
    site = serve("git", {"/srv/git": str(repositories)})
    url = f"git://{HOST}:{site.port}"
    git("clone", "--quiet", f"{url}/project.git", f"{tmp_path}/clone")
    assert (tmp_path / "clone/source/file").read_bytes() == CONTENT
    assert "A file" in git("-C", f"{tmp_path}/clone", "log", "--oneline", "origin/master")
    site.ended(ok=1)
    site.has_no_complaint()
    assert "access denied" in git("clone", f"{url}/other.git", f"{tmp_path}/x", fails=True)
    site.ended(ok=1, failed=1)
    (line,) = site.unpd.log_events("program.stderr", service="git")
    assert f"'{repositories}/other.git' does not appear to be a git" in line.fields["text"]


@pytest.mark.slow
@requires_tool("/usr/bin/rsync")
def test_rsync_copies(serve: Serve, public: Path, tmp_path: Path) -> None:
    """A client gets a whole tree, over two connections, and a module that is not there
    is an error of the client and a failed program.
    """
    shared(shared(public / "pub") / "below")
    site = serve("rsync", written(public, CONFIGURED_IN["rsync"], {"/srv/pub": f"{public}/pub"}))
    url = f"rsync://{HOST}:{site.port}"
    client("rsync", "--archive", f"{url}/pub/below", f"{tmp_path}/tree")
    client("rsync", "--archive", f"{url}/pub/", f"{tmp_path}/tree")
    for name in ("file", "below/file"):
        assert (tmp_path / "tree" / name).read_bytes() == CONTENT
    site.ended(ok=2)
    site.has_no_complaint()
    assert "Unknown module" in client("rsync", f"{url}/other/", fails=True)
    site.ended(ok=2, failed=1)


@pytest.mark.slow
@requires_root
@requires_tool(TFTPD)
@requires_tool("tftp")
def test_tftp_gets_files(serve: Serve, public: Path, tmp_path: Path) -> None:
    """One in.tftpd has the socket, and serves two clients. Without clients it ends, and
    the next client has another one, which ends with the daemon.
    """
    changes = {"/srv/tftp": str(shared(public / "tftp")), '"60"': '"1"'}
    site = serve("tftp", changes)

    def get() -> None:
        copy = tmp_path / "copy"
        get_file = ("-c", "get", "file", str(copy))
        client("tftp", "-m", "binary", HOST, str(site.port), *get_file)
        assert copy.read_bytes() == CONTENT
        copy.unlink()

    assert site.programs() == []
    get()
    (program,) = site.programs()
    get()
    assert site.programs() == [program]
    site.ended(ok=1)
    get()
    (other,) = site.programs()
    assert other != program
    site.has_no_complaint()
    assert site.unpd.stop() == 0
    assert not procs.alive(other)


@requires_root
@requires_tool(VSFTPD)
@requires_tool("curl")
def test_curl_gets_a_file_from_vsftpd(serve: Serve, public: Path, tmp_path: Path) -> None:
    """Its second connection, for the file, is one of the program's own. A file that is
    not there is an error of the client, and the program of that ends well.
    """
    home = shared(public / "ftp")
    site = serve("ftp", written(public, CONFIGURED_IN["ftp"], {"/srv/ftp": str(home)}))
    url, copy = f"ftp://{HOST}:{site.port}", tmp_path / "copy"
    client("curl", "--silent", "--show-error", "--output", str(copy), f"{url}/file")
    assert copy.read_bytes() == CONTENT
    assert "file" in client("curl", "--silent", "--list-only", f"{url}/")
    client("curl", "--silent", f"{url}/other", fails=True)
    site.ended(ok=3)
    site.has_no_complaint()


# --- HAProxy --------------------------------------------------------------------------


@contextlib.contextmanager
def haproxy(directory: Path, port: int, servers: int) -> Iterator[Callable[[str], str]]:
    """Run HAProxy with the documented backend, but with as many servers, which are all
    the same one, the service at ``port``. Give a function that has it perform a
    command.
    """
    server = {
        "10.0.0.5:3306": f"{HOST}:{port}",
        "port 9200": f"port {port}",
        "server db1": f"server-template db 1-{servers}",
        "1s": f"{CHECKED_EVERY_MS}ms",
    }
    backend = documented.changed(documented.files()[HAPROXY], server)
    config, control = directory / "haproxy.cfg", directory / "control"
    config.write_text(
        f"global\n    stats socket {control} level admin\n    maxconn 100\n"
        "defaults\n    timeout connect 9s\n    timeout server 9s\n    timeout check 9s\n"
        f"    default-server fall 1 rise 1\n{backend}"
    )

    def perform(command: str) -> str:
        with clients.connect(str(control)) as sock:
            sock.sendall(f"{command}\n".encode())
            return clients.read_all(sock).decode()

    running = subprocess.Popen(
        [find_tool("haproxy") or "haproxy", "-db", "-f", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(control.exists, PATIENCE_S, "HAProxy")
        yield perform
    finally:
        running.terminate()
        running.wait(PATIENCE_S)


@dataclass(frozen=True, slots=True)
class Found:
    """What HAProxy has found of its servers. ``failures``: of the checks of each."""

    statuses: frozenset[str]
    codes: frozenset[str]
    failures: frozenset[str]


def found_by(perform: Callable[[str], str]) -> Found:
    """Return what HAProxy says. While it checks a server, that has the code 0."""
    answer = csv.DictReader(perform("show stat").lstrip("# ").splitlines())
    rows = [row for row in answer if row["svname"] not in ("FRONTEND", "BACKEND")]
    return Found(
        frozenset(row["status"] for row in rows),
        frozenset(row["check_code"] for row in rows) - {"0"},
        frozenset(row["chkfail"] for row in rows),
    )


@pytest.mark.slow
@requires_tool("haproxy")
@pytest.mark.parametrize(("polls", "servers"), [(10, 5), (1000, 20)])
def test_haproxy_polls_a_health_check(serve: Serve, public: Path, polls: int, servers: int) -> None:
    """Every one of its checks is answered, each by a program that ends well. HAProxy
    takes the server out when the database is gone, and in again when it is back.
    """
    database = public / "database"
    database.touch()
    ping = executable(public / "mysqladmin", f'#!/bin/sh\n[ "$1" = ping ] && [ -e {database} ]\n')
    site = serve("mysqlchk", written(public, CONFIGURED_IN["mysqlchk"], {"mysqladmin": ping}))

    def answered() -> int:
        return int(site.unpd.total(ENDED, service="mysqlchk", result="ok"))

    def all_are(status: str, code: str, failures: str) -> None:
        wanted = Found(frozenset([status]), frozenset([code]), frozenset([failures]))
        until(
            lambda: found_by(perform) == wanted,
            PATIENCE_S,
            lambda: f"HAProxy to find {wanted}; it finds {found_by(perform)}",
        )

    with haproxy(public, site.port, servers) as perform:
        until(lambda: answered() >= polls, CLIENT_S + polls, f"{polls} checks")
        all_are("UP", "200", "0")
        database.unlink()
        all_are("DOWN", "503", "1")
        database.touch()
        all_are("UP", "200", "1")
        for number in range(1, servers + 1):
            perform(f"disable health databases/db{number}")
        until(
            lambda: answered() == service_counts(site.unpd, "mysqlchk").accepted,
            PATIENCE_S,
            "every check to be answered, also those that were under way",
        )
    site.has_no_complaint()


# --- what they are given --------------------------------------------------------------


@requires_root
@pytest.mark.parametrize(
    ("name", "user", "greeting"),
    [
        pytest.param("git", "nobody", b"", marks=requires_tool("/usr/bin/git")),
        pytest.param("rsync", "nobody", b"@RSYNCD: ", marks=requires_tool("/usr/bin/rsync")),
        pytest.param("ftp", "ftp", b"220 ", marks=requires_tool(VSFTPD)),
        ("mysqlchk", "nobody", b""),
    ],
)
def test_each_has_its_user_and_one_socket(
    serve: Serve, public: Path, name: str, user: str, greeting: bytes
) -> None:
    """Before the client has said anything, each has the ids that it was given or, as
    vsftpd, has taken; a session of its own; and no socket but the connection and its
    way to the log. It ends with the daemon.
    """
    path = CONFIGURED_IN.get(name)
    site = serve(name, written(public, path, {}) if path else {"/srv/git": str(public)})
    with clients.connect(site.unpd.address(name)) as sock:
        assert clients.read_exactly(sock, len(greeting)) == greeting
        (program,) = until(site.programs, PATIENCE_S, "the program")
        until(lambda: not procs.title(program).startswith("unpd: "), PATIENCE_S, "execve(2)")
        account, found = pwd.getpwnam(user), procs.credentials(program)
        assert (set(found.uids), set(found.gids)) == ({account.pw_uid}, {account.pw_gid})
        assert set(found.groups) <= {account.pw_gid}
        assert os.getsid(program) == os.getpgid(program) == program
        fds = procs.fds(program)
        sockets = {fd: where for fd, where in fds.items() if where.startswith("socket:")}
        assert sockets.keys() <= {0, 1, 2}
        assert fds[1] in (fds[0], os.devnull)
        assert site.unpd.stop() == 0
        assert not procs.alive(program)


def test_every_documented_service_is_run() -> None:
    """These tests know each service and each file of the README."""
    assert documented.services().keys() == PORTS.keys()
    assert documented.files().keys() == {*CONFIGURED_IN.values(), HAPROXY, CHROOT_DROP_IN}


# --- what they read of their environment ----------------------------------------------


@requires_tool("tcprulescheck")
def test_ucspi_programs_know_the_client(launch: Launch, public: Path) -> None:
    """The tcprulescheck of ucspi-tcp finds the rule for TCPREMOTEIP."""
    rules = '127.0.0.1:allow,ANSWER="one"\n127.0.0.2:deny\n'
    compile_rules = shell(f"cd {public} && printf '%s' \"$RULES\" | tcprules rules.cdb rules.new")
    client(*compile_rules, RULES=rules)
    (public / "rules.cdb").chmod(0o644)
    check = find_tool("tcprulescheck") or ""
    unpd = launch(service("rules", check, f"{public}/rules.cdb"))
    answers = {}
    for source in (HOST, "127.0.0.2", "127.0.0.3"):
        with clients.connect(unpd.address("rules"), source=source) as sock:
            answers[source] = clients.read_all(sock).decode()
    assert answers == {
        HOST: "rule 127.0.0.1:\nset environment variable ANSWER=one\nallow connection\n",
        "127.0.0.2": "rule 127.0.0.2:\ndeny connection\n",
        "127.0.0.3": "default:\nallow connection\n",
    }
    programs_ended(unpd, "rules", ok=3)


@requires_tool("/usr/bin/rsync")
def test_rsync_knows_the_client_by_remote_host(
    launch: Launch, public: Path, tmp_path: Path
) -> None:
    """Behind another program, rsync has no socket that knows the client. Its own access
    rules go by REMOTE_HOST.
    """
    home = shared(public / "pub")
    config = public / "rsyncd.conf"
    config.write_text(
        f"use chroot = no\n[mine]\npath = {home}\nhosts allow = {HOST}\n"
        f"[theirs]\npath = {home}\nhosts allow = 192.0.2.1\n"
    )
    piped = shell(f"cat | rsync --server --daemon --config={config} . | cat")
    unpd = launch(service("rsync", *piped))
    url = f"rsync://{HOST}:{unpd.port('rsync')}"
    client("rsync", f"{url}/mine/file", f"{tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert "access denied" in client("rsync", f"{url}/theirs/file", f"{tmp_path}/x", fails=True)
    programs_ended(unpd, "rsync", ok=2)
