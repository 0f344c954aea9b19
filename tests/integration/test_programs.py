"""Programs (type exec): what a program finds when it begins. Its descriptors, signals,
environment, rights and limits are those that the manual promises, and no others.
"""

import contextlib
import os
import pwd
import re
import resource
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, clients, faults, procs
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.programs import (
    PATIENCE_S,
    TELL_PID,
    begun,
    executable,
    launcher,
    read_line,
    service,
    shell,
)
from tests.support.waiting import until
from unpd.dispatcher.environment import PATH
from unpd.dispatcher.launch import SOFT_OPEN_FILES

ENVIRONMENT = shell("exec env")
FORKED: tuple[dict[str, Any], ...] = (
    {"nice": 1},
    {"limits": {"nofile": 99}},
    {"banner_accepted": "hello"},
    {"pass": "systemd"},
)
"""Keys for which a program is not begun by posix_spawn(3), but after a fork."""
TRY_ROOT = f"""#!{os.path.realpath(sys.executable)} -IS
import errno, os
for call, ids in ("setresuid", (0, 0, 0)), ("setresgid", (0, 0, 0)), ("setgroups", ([0],)):
    try:
        getattr(os, call)(*ids)
    except OSError as error:
        print(call, errno.errorcode[error.errno])
    else:
        print(call, "worked")
"""
"""Tries to become root again."""
OF_SYSTEMD = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "FDSTORE",
)
NR_OPEN = Path("/proc/sys/fs/nr_open")
HUGE_LIMIT = 1_073_741_816


@pytest.fixture
def huge_limit() -> Iterator[int]:
    """As many descriptors as a process may have in some containers, where this one may
    allow that (CAP_SYS_RESOURCE); else as many as it has itself.
    """
    before = NR_OPEN.read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        NR_OPEN.write_text(str(HUGE_LIMIT))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, HUGE_LIMIT))
        limit = HUGE_LIMIT
    except (OSError, ValueError):
        limit = hard
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):  # nor could it be changed
            NR_OPEN.write_text(before)


def test_the_client_talks_to_the_program(launch: Launch) -> None:
    """Bytes go both ways, the program sees the client's FIN, and the client gets the
    program's end.
    """
    unpd = launch(service("cat", "/bin/cat"))
    data = bytes(range(256)) * 1000
    assert clients.converse(unpd.address("cat"), data) == data
    unpd.metric_becomes(1, "unpd_programs_ended_total", service="cat", result="ok")
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="cat", cause="done")
    assert unpd.metric("unpd_program_seconds_count", service="cat") == 1
    assert unpd.metric("unpd_program_cpu_seconds_total", service="cat") > 0
    assert unpd.metric("unpd_program_peak_memory_bytes", service="cat") > 1 << 16
    unpd.metric_becomes(0, "unpd_connections_active", service="cat")


def echoes(sock: socket.socket) -> None:
    """Wait until a program that tells its pid has become cat: the dynamic linker opens
    libraries meanwhile.
    """
    sock.sendall(b"x\n")
    assert read_line(sock) == b"x"


def test_it_has_three_descriptors(launch: Launch) -> None:
    """They are the connection, which waits, and nothing else is open."""
    unpd = launch(service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        begun(stack, unpd.address("cat"))
        sock, pid = begun(stack, unpd.address("cat"))
        echoes(sock)
        fds = procs.fds(pid)
        assert set(fds) == {0, 1, 2}
        assert len(set(fds.values())) == 1
        assert fds[0].startswith("socket:")
        flags = (procs.PROC / str(pid) / "fdinfo/0").read_text()
        (octal,) = re.findall(r"flags:\s+(\d+)", flags)
        assert not int(octal, 8) & os.O_NONBLOCK


@pytest.mark.parametrize("keys", [{}, {"nice": 1}], ids=["spawned", "forked"])
@faults.requires_root
@faults.requires_strace()
def test_no_descriptor_is_closed_one_by_one(
    launch: Launch, tmp_path: Path, keys: dict[str, Any]
) -> None:
    """However many the limit allows (RLIMIT_NOFILE is 1,073,741,816 in some containers,
    and would cost minutes): close_range(2) takes all of them at once.
    """
    unpd = launch(service("true", "/bin/true", **keys))
    with faults.straced(launcher(unpd), tmp_path / "trace", "close,close_range,execve") as trace:
        assert clients.ask(unpd.address("true")) == b""
        until(lambda: trace.count("execve"), PATIENCE_S, "the program in the trace")
    calls = trace.whole_calls()
    pid = next(line.split(" ")[0] for line in calls if "execve(" in line)
    of_program = [line for line in calls if line.startswith(f"{pid} ")]
    before = of_program[: next(i for i, line in enumerate(of_program) if "execve(" in line)]
    assert sum("close(" in line for line in before) < 5
    (closed,) = [line for line in before if "close_range(" in line]
    assert re.search(r"close_range\(3, \d{9,}, 0\) += 0", closed)


@faults.requires_root
def test_a_huge_limit_of_descriptors_costs_nothing(launch: Launch, huge_limit: int) -> None:
    """Each program has its three descriptors and no others, within the usual time. One
    by one, a process would close them for minutes.
    """
    unpd = launch(
        service("spawned", *TELL_PID) + service("forked", *TELL_PID, nice=1),
        preexec=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (huge_limit,) * 2),
    )
    assert re.search(rf"^Max open files +{huge_limit} ", procs.limits(launcher(unpd)), re.MULTILINE)
    with contextlib.ExitStack() as stack:
        for name in ("spawned", "forked"):
            sock, pid = begun(stack, unpd.address(name))
            echoes(sock)
            assert set(procs.fds(pid)) == {0, 1, 2}


KEPT_BY_LIBC = {32, 33}
"""The signals that no program can reach through the C library (nptl(7)). A process that
make(1) or another program has begun by posix_spawn(3) of glibc may ignore them.
"""


@pytest.mark.parametrize("keys", [{}, *FORKED], ids=str)
def test_its_signals_are_clean(launch: Launch, keys: dict[str, Any]) -> None:
    """None is ignored, blocked, handled or pending. It leads a session and a process
    group.
    """
    unpd = launch(service("sleep", "/bin/sleep", "60", **keys))
    with clients.connect(unpd.address("sleep")):

        def programs() -> list[procs.Stat]:
            found = procs.children(launcher(unpd))
            return [one for one in found if one.title.startswith("/bin/sleep")]

        (program,) = until(programs, PATIENCE_S, "the program")
        sets = procs.signals(program.pid)
        inherited = procs.signals(unpd.pid).ignored & KEPT_BY_LIBC if keys else set()
        assert (sets.pending, sets.blocked, sets.caught) == (frozenset(),) * 3
        assert sets.ignored == inherited
        assert os.getpgid(program.pid) == os.getsid(program.pid) == program.pid


def test_its_environment_over_tcp(launch: Launch) -> None:
    """PATH, the variables of the configuration and of the connection, and no others."""
    unpd = launch(
        service(
            "env",
            *ENVIRONMENT,
            environment={"LANG": "C.UTF-8", "EMPTY": ""},
            pass_environment=["TZ", "ABSENT"],
        ),
        env={"TZ": "Etc/UTC", "SECRET": "x", "NOTIFY_SOCKET": "", "PYTHONWARNINGS": "error"},
    )
    with clients.connect(unpd.address("env")) as sock:
        host, port = sock.getsockname()
        text = clients.read_all(sock).decode()
    local = str(unpd.port("env"))
    found = dict(line.split("=", 1) for line in text.splitlines())
    assert found.pop("PWD", "/") == "/"  # the shell sets this one
    assert found == {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "EMPTY": "",
        "TZ": "Etc/UTC",
        "PROTO": "TCP",
        "REMOTE_HOST": host,
        "REMOTE_PORT": str(port),
        "SERVER_PORT": local,
        "TCPREMOTEIP": host,
        "TCPREMOTEPORT": str(port),
        "TCPLOCALIP": "127.0.0.1",
        "TCPLOCALPORT": local,
        "TCPCONNNUM": "1",
    }


@pytest.mark.parametrize("keys", [{}, {"nice": 1}], ids=["spawned", "forked"])
def test_nothing_of_the_service_manager_reaches_it(
    launch: Launch, systemd: FakeSystemd, keys: dict[str, Any]
) -> None:
    """Neither its sockets nor the variables about them and about the watchdog, which
    concern the daemon: not even those that pass_environment names.
    """
    systemd.listen("env", socket.create_server(("127.0.0.1", 0)))
    unpd = systemd.start(
        launch,
        service("env", *ENVIRONMENT, listen="systemd:env", pass_environment=OF_SYSTEMD, **keys),
        watchdog_s=60.0,
        env={"WATCHDOG_PID": "1"},
    )
    text = clients.ask(unpd.address("env")).decode()
    found = {line.partition("=")[0] for line in text.splitlines()}
    assert "TCPREMOTEIP" in found
    assert not found & set(OF_SYSTEMD)


def test_its_environment_over_a_unix_socket(launch: Launch, tmp_path: Path) -> None:
    """The path of the socket, and the process at its other end."""
    path = tmp_path / "env.sock"
    unpd = launch(service("env", *ENVIRONMENT, listen=f"unix://{path}"))
    text = clients.ask(unpd.address("env")).decode()
    found = dict(line.split("=", 1) for line in text.splitlines())
    found.pop("PWD", None)
    ids = {"UID": os.getuid(), "GID": os.getgid(), "EUID": os.getuid(), "EGID": os.getgid()}
    assert found == {
        "PATH": PATH,
        "PROTO": "UNIX",
        "UNIXLOCALPATH": str(path),
        "UNIXREMOTEPID": str(os.getpid()),
        "UNIXCONNNUM": "1",
        **{f"UNIXREMOTE{name}": str(number) for name, number in ids.items()},
    }


def test_its_environment_over_ipv6(launch: Launch) -> None:
    """An address has no brackets, and one of IPv4 stays one of IPv4."""
    unpd = launch(service("env", *ENVIRONMENT, listen="tcp://[::]:0"))
    port = unpd.port("env")
    for host in ("::1", "127.0.0.1"):
        text = clients.ask((host, port)).decode()
        assert f"\nTCPREMOTEIP={host}\n" in f"\n{text}"
        assert f"\nTCPLOCALIP={host}\n" in f"\n{text}"


def test_the_connections_of_a_client_are_counted(launch: Launch) -> None:
    """TCPCONNNUM is their number, this one included; it falls when one ends."""
    unpd = launch(service("number", *shell("echo $TCPCONNNUM; exec cat")))
    with contextlib.ExitStack() as stack:
        socks = []
        for number in (1, 2, 3):
            sock = stack.enter_context(clients.connect(unpd.address("number")))
            assert read_line(sock) == b"%d" % number
            socks.append(sock)
        for sock in socks[:2]:
            sock.shutdown(socket.SHUT_WR)
            assert clients.read_all(sock) == b""
        unpd.metric_becomes(2, "unpd_programs_ended_total", service="number", result="ok")
        with clients.connect(unpd.address("number")) as sock:
            assert read_line(sock) == b"2"
    other = {"source": "127.0.0.2"}
    with clients.connect(unpd.address("number"), **other) as sock:  # type: ignore[arg-type]
        assert read_line(sock) == b"1"


def test_the_client_of_a_load_balancer_is_told(launch: Launch) -> None:
    """The address in the header of the PROXY protocol is REMOTE_HOST, and the program
    reads what follows.
    """
    script = "echo $REMOTE_HOST $REMOTE_PORT $TCPCONNNUM; exec cat"
    unpd = launch(service("told", *shell(script), proxy_protocol=["loopback"]))
    with clients.connect(unpd.address("told")) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\nbody\n")
        assert read_line(sock) == b"192.0.2.7 4711 1"
        assert read_line(sock) == b"body"


@faults.requires_root
def test_it_runs_as_its_user(launch: Launch, public: Path) -> None:
    """Its user, its group and its supplementary groups, and no others; the launcher
    stays root for that. A program without these keys in the same pool runs as the
    daemon's children do.
    """
    unpd = launch(
        service("own", *TELL_PID, user="daemon", groups=["mail", "games"])
        + service("grouped", *TELL_PID, user="daemon", group="mail")
        + service("plain", *TELL_PID)
    )
    daemon, nobody = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")
    mail, games = 8, 60
    with contextlib.ExitStack() as stack:
        ids = {
            name: procs.credentials(begun(stack, unpd.address(name))[1])
            for name in ("own", "grouped", "plain")
        }
    assert {name: (one.uids[0], one.gids[0], one.groups) for name, one in ids.items()} == {
        "own": (daemon.pw_uid, daemon.pw_gid, (mail, games)),
        "grouped": (daemon.pw_uid, mail, ()),
        "plain": (nobody.pw_uid, nobody.pw_gid, ()),
    }
    for one in ids.values():
        assert len(set(one.uids)) == len(set(one.gids)) == 1
        assert not any(one.capabilities[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
    assert procs.credentials(launcher(unpd)).uids == (0,) * 4


@faults.requires_root
def test_a_launcher_without_other_users_drops_root(launch: Launch) -> None:
    """It and its programs have the daemon's user, no capability, and no way to one."""
    unpd = launch(service("plain", *TELL_PID, user="nobody"))
    with contextlib.ExitStack() as stack:
        _, pid = begun(stack, unpd.address("plain"))
        for process in (pid, launcher(unpd)):
            ids = procs.credentials(process)
            assert ids.uids == (pwd.getpwnam("nobody").pw_uid,) * 4
            assert not any(mask for name, mask in ids.capabilities.items() if name != "CapBnd")
            assert ids.no_new_privileges


@faults.requires_root
@pytest.mark.parametrize("keys", [{}, {"user": "daemon"}], ids=["children", "other"])
def test_there_is_no_way_back_to_root(launch: Launch, public: Path, keys: dict[str, Any]) -> None:
    """Neither for a program that runs as the daemon's children do, nor for one with
    another user, which was root until then.
    """
    unpd = launch(service("tries", executable(public / "tries", TRY_ROOT), **keys))
    told = clients.ask(unpd.address("tries")).decode().splitlines()
    assert told == [f"{call} EPERM" for call in ("setresuid", "setresgid", "setgroups")]


@faults.requires_root
def test_set_user_id_programs(launch: Launch, public: Path) -> None:
    """Where the launcher stays root for another user of its pool, they get their
    rights, as under xinetd; where it has dropped root they get none (no_new_privs).
    """
    if os.statvfs(public).f_flag & os.ST_NOSUID:
        pytest.skip("needs a directory for temporary files without the mount option nosuid")
    program = public / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    tell = shell(f"grep NoNewPrivs: /proc/self/status; exec {program} -u")
    keeps = launch(service("own", *tell, user="daemon") + service("plain", *tell))
    for name in ("own", "plain"):
        assert clients.ask(keeps.address(name)).split() == [b"NoNewPrivs:", b"0", b"0"]
    drops = launch(service("plain", *tell))
    nobody = b"%d" % pwd.getpwnam("nobody").pw_uid
    assert clients.ask(drops.address("plain")).split() == [b"NoNewPrivs:", b"1", nobody]


@faults.requires_root
@faults.requires_tool("setpriv")
def test_the_capabilities_of_the_drop_in_are_enough(launch: Launch) -> None:
    """Those of programs.conf, for a main process that is root: programs become their
    users, and the main process reaches and ends all of them.
    """
    drop_in = (ROOT / "unpd/units/unpd.service.d/programs.conf").read_text()
    *_, words = re.findall(r"^CapabilityBoundingSet=(.*)$", drop_in, re.MULTILINE)
    names = ",".join(f"+{word.removeprefix('CAP_').lower()}" for word in words.split())
    unpd = launch(
        service("own", *TELL_PID, user="daemon", groups=["mail"]),
        prefix=("setpriv", "--no-new-privs", f"--bounding-set=-all,{names}"),
    )
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("own"))
        assert procs.credentials(pid).uids == (pwd.getpwnam("daemon").pw_uid,) * 4
        assert unpd.stop() == 0
        assert clients.read_all(sock) == b""


def test_its_surroundings(launch: Launch, public: Path) -> None:
    """Directory, umask, nice value and limits are those of its keys."""
    directory = public / "here"
    directory.mkdir()
    unpd = launch(
        service(
            "keys",
            *shell("pwd; umask; nice; cat /proc/self/limits"),
            directory=str(directory),
            umask="0037",
            nice=3,
            limits={"nofile": 33, "cpu_s": 44, "as_mb": 512, "core_mb": 1, "nproc": 5555},
        )
        + service("bare", *shell("pwd; ulimit -n"))
    )
    lines = clients.ask(unpd.address("keys")).decode().splitlines()
    nice = os.getpriority(os.PRIO_PROCESS, unpd.pid) + 3
    assert lines[:3] == [str(directory), "0037", str(nice)]
    limits = {line[:26].strip(): line[26:].split()[:2] for line in lines[3:]}
    for name, number in {
        "Max open files": 33,
        "Max cpu time": 44,
        "Max address space": 512 << 20,
        "Max core file size": 1 << 20,
        "Max processes": 5555,
    }.items():
        assert limits[name] == [str(number)] * 2, name
    soft = min(SOFT_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert clients.ask(unpd.address("bare")).decode().split() == ["/", str(soft)]


def test_arguments_reach_it_as_they_are(launch: Launch, public: Path) -> None:
    """No shell reads them."""
    program = executable(public / "say", '#!/bin/sh\nprintf "%s|" "$@"\n')
    words = ("a b", "$HOME", "*", "", 'ä"')
    unpd = launch(service("say", program, *words))
    assert clients.ask(unpd.address("say")).decode() == "".join(f"{word}|" for word in words)


def test_a_client_is_greeted_first(launch: Launch) -> None:
    """By banner_accepted, before the program says anything."""
    unpd = launch(service("cat", *shell("echo program"), banner_accepted="welcome\r\n"))
    assert clients.ask(unpd.address("cat")) == b"welcome\r\nprogram\n"


def test_a_client_that_is_gone_before_its_greeting(launch: Launch) -> None:
    """Its program notices that itself, as without a banner: SIGPIPE would end it before
    it has begun.
    """
    unpd = launch(service("true", "/bin/true", banner_accepted="welcome\r\n"))
    with procs.stopped([launcher(unpd)]):
        sock = clients.connect(unpd.address("true"))
        sock.shutdown(socket.SHUT_WR)
        clients.reset(sock)
    until(
        lambda: unpd.total("unpd_programs_ended_total", service="true") == 1,
        PATIENCE_S,
        "its program to end",
    )
    assert "SIGPIPE" not in unpd.log_text()


def test_no_more_run_than_may(launch: Launch) -> None:
    """The next client waits in the queue until one of the programs has ended."""
    unpd = launch(service("cat", *TELL_PID, max_connections=2))
    with contextlib.ExitStack() as stack:
        first, _ = begun(stack, unpd.address("cat"))
        begun(stack, unpd.address("cat"))
        third = stack.enter_context(clients.connect(unpd.address("cat"), timeout_s=0.3))
        with pytest.raises(TimeoutError):
            read_line(third)
        first.close()
        third.settimeout(PATIENCE_S)
        assert int(read_line(third)) > 0


def test_clients_are_refused_by_rules(launch: Launch) -> None:
    """No program is started for them."""
    unpd = launch(service("cat", *TELL_PID, deny=["loopback"]))
    with clients.connect(unpd.address("cat")) as sock, contextlib.suppress(ConnectionResetError):
        assert clients.read_all(sock) == b""
    unpd.metric_becomes(1, "unpd_refused_total", service="cat", reason="deny")
    assert unpd.total("unpd_session_processes_spawned_total", service="cat") == 0


def test_it_is_shown_to_operators(launch: Launch) -> None:
    """The status has the launcher and the connections, /readyz waits for the launcher,
    and `unpd services` has the type.
    """
    unpd = launch(service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        begun(stack, unpd.address("cat"))
        shown = unpd.run("status", "--control", str(unpd.control)).stdout.decode()
        cells = [re.split("  +", line) for line in shown.splitlines()]
        assert ["1", "1"] in [[row[1], row[5]] for row in cells if row[0] == "cat"]
        (row,) = [row for row in cells if row[0] == "launcher"]
        assert row[1:5] == ["default/0", str(launcher(unpd)), "ready", "1"]
        assert unpd.get("/readyz").status == 200
        assert unpd.metric("unpd_workers", kind="launcher", pool="default", state="ready") == 1
    assert re.search(
        r"^exec +- +- +stream, datagram ", unpd.run("services").stdout.decode(), re.MULTILINE
    )
