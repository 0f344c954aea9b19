"""The command line: the output, effect, cost and exit code of each command."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import ROOT, clients, faults, procs
from tests.support.clients import Address
from tests.support.commands import RunUnpd
from tests.support.configs import compose
from tests.support.daemon import LISTENING
from tests.support.launch import Launch
from tests.support.observed import parse_log
from tests.support.operating import nothing_remains
from tests.support.waiting import until
from unpd.cli.dispatch import run_command
from unpd.control.verbs import VERBS
from unpd.kernel.privileges import user_name
from unpd.names import EXIT_MEANINGS, MASTER_SIGNALS, ExitCode

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

HEAVY = (
    "pydantic",
    "prometheus_client",
    "asyncio",
    "h11",
    "daemon",
    "setproctitle",
    "tomllib",
    "json",
)

PRIVATE_ROOM = (
    'mount -t tmpfs tmpfs /run && ip link set lo up && if [ -d "$ROOM" ]; then mount --bind "$ROOM"'
    ' /etc; fi && exec "$@"'
)
"""Runs a command in namespaces of its own: the ports of the built-in default are free,
/run is empty, and /etc is the directory that the test made.
"""


def imported(*arguments: str) -> set[str]:
    """The top-level packages that ``unpd`` imports for these arguments (-X
    importtime).
    """
    command = [sys.executable, "-X", "importtime", "-m", "unpd", *arguments]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30.0, check=False
    )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 10
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


# without a daemon


def test_the_version_comes_without_anything_heavy(run_unpd: RunUnpd) -> None:
    """``unpd --version`` prints one line, and imports nothing that costs time: not even
    the parser.
    """
    ended = run_unpd("--version")
    assert ended.returncode == 0
    assert re.fullmatch(r"unpd \d+\.\d+\.\d+\S*\n", ended.stdout)
    assert imported("--version").isdisjoint({*HEAVY, "argparse", "dataclasses"})


@pytest.mark.parametrize("verb", list(VERBS))
def test_the_verbs_come_without_pydantic(tmp_path: Path, verb: str) -> None:
    """A verb imports nothing that only the daemon needs."""
    assert imported(verb, "--control", str(tmp_path / "nobody")).isdisjoint(
        {"pydantic", "prometheus_client", "asyncio", "h11", "daemon"}
    )


def test_help_shows_the_tables(run_unpd: RunUnpd) -> None:
    """``unpd run --help`` shows every signal with its meaning and every exit code."""
    shown = run_unpd("run", "--help").stdout
    for row in MASTER_SIGNALS:
        assert re.search(rf"^  {row.name} +{re.escape(row.meaning)}$", shown, re.MULTILINE), row
    for code, meaning in EXIT_MEANINGS.items():
        assert re.search(rf"^  {int(code)} +{re.escape(meaning)}$", shown, re.MULTILINE), code


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("run", "--fast"),
        ("run", "--builtin", "--config", "x"),
        ("status", "--jso"),
        ("client", "echo"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: Sequence[str], run_unpd: RunUnpd) -> None:
    """Arguments that the command line does not know end with code 2 and the usage."""
    ended = run_unpd(*arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: unpd")


@pytest.mark.parametrize("command", ["run", "check", "start", *VERBS])
def test_a_missing_configuration_ends_with_78(
    tmp_path: Path, command: str, run_unpd: RunUnpd
) -> None:
    """The command names a configuration file that does not exist. A verb says how else
    to reach a daemon, but explain asks none then.
    """
    path = tmp_path / "missing.toml"
    arguments = VERBS[command].arguments if command in VERBS else ()
    values = {"condition": "drained", "level": "debug", "workers": "3"}
    operands = [values.get(each.name, "::1") for each in arguments if each.operand]
    options = ["--all"] if command == "kick" else []
    ended = run_unpd(command, "--config", str(path), *operands, *options)
    assert ended.returncode == 78
    first, *more = ended.stderr.splitlines()
    assert first == f"unpd: {path}: there is no such file"
    hint = f"unpd: {path}: so its control socket is not known: name it with --control"
    assert more == ([hint] if command in VERBS and command != "explain" else [])


@pytest.mark.parametrize(("verb", "code"), [("stop", 1), ("reload", 1), ("status", 3)])
def test_a_verb_without_a_daemon_fails(
    tmp_path: Path, verb: str, code: int, run_unpd: RunUnpd
) -> None:
    """The verbs say in one sentence that no daemon runs, also if the socket of one that
    has ended is left. The exit code of status is its own for this.
    """
    control = tmp_path / "control.sock"
    for stale in (False, True):
        if stale:
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(control))
        ended = run_unpd(verb, "--control", str(control))
        assert ended.returncode == code
        assert ended.stderr.endswith(
            "unpd is not running, or its control socket is another one: no process listens on"
            f" {control}\n"
        )
        assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(("verb", "code"), [("stop", 1), ("reload", 1), ("status", 3)])
def test_a_socket_that_the_configuration_names(
    tmp_path: Path, verb: str, code: int, run_unpd: RunUnpd
) -> None:
    """Where no process listens on the path of the file, the message says that the file
    names it, which may have changed since the start, and how to name another.
    """
    config = tmp_path / "unpd.toml"
    config.write_text(f"[daemon]\ncontrol = '{tmp_path}/new.sock'\n")
    ended = run_unpd(verb, "--config", str(config))
    assert ended.returncode == code
    assert ended.stderr.endswith(
        f"no process listens on {tmp_path}/new.sock, which the configuration {config} names"
        " (daemon.control); to reach another daemon, name its socket with --control\n"
    )


# check


def test_check_says_that_the_configuration_is_good(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """``unpd check`` prints one line, and creates none of the files that the
    configuration names.
    """
    config = tmp_path / "unpd.toml"
    config.write_text(
        f'[daemon]\npid_file = "{tmp_path}/run/unpd.pid"\ncontrol ='
        f' "{tmp_path}/run/c.sock"\n\n[log]\nfile = "{tmp_path}/log"\n' + ECHO
    )
    ended = run_unpd("check", "--config", str(config))
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        f"configuration OK: {config}\n",
        "",
    )
    assert list(tmp_path.iterdir()) == [config]


def test_check_says_how_many_entries_a_list_file_has(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """So an operator notices a list that lacks some. A file counts once."""
    (tmp_path / "few.list").write_text("192.0.2.1 # one\n")
    (tmp_path / "more.list").write_text("192.0.2.1\n\n192.0.2.9\n")
    (tmp_path / "unpd.toml").write_text(
        f"[daemon]\nuser = '{user_name(os.geteuid())}'\n{ECHO}"
        f"deny = ['file:{tmp_path}/few.list', 'file:{tmp_path}/more.list']\n"
        f"proxy_protocol = ['file:{tmp_path}/few.list']\n"
    )
    ended = run_unpd("check", "--config", f"{tmp_path}/unpd.toml")
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [
        f"{tmp_path}/few.list: 1 entry",
        f"{tmp_path}/more.list: 2 entries",
        f"configuration OK: {tmp_path}/unpd.toml",
    ]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), ""),
        (("a.toml",), " and 1 drop-in in {}/conf.d"),
        (("a.toml", "b.toml", ".c.toml", "d.toml~"), " and 2 drop-ins in {}/conf.d"),
    ],
)
def test_check_names_the_files_that_it_has_read(
    tmp_path: Path, names: tuple[str, ...], words: str, run_unpd: RunUnpd
) -> None:
    """The main one, and how many drop-ins: a name that does not end in .toml shows."""
    config, directory = tmp_path / "unpd.toml", tmp_path / "conf.d"
    config.write_text(ECHO)
    directory.mkdir()
    for name in names:
        (directory / name).touch()
    ended = run_unpd("check", "--config", str(config))
    verdict = f"configuration OK: {config}{words.format(tmp_path)}\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, verdict, "")


def test_check_says_that_it_had_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator who wrote the file elsewhere would have the built-in default."""
    monkeypatch.setattr("unpd.cli.configured.DEFAULT_CONFIG", tmp_path / "none.toml")
    assert run_command(["check"]) == ExitCode.DONE
    assert capsys.readouterr().out == "configuration OK: the built-in default\n"


@faults.requires_strace()
def test_check_binds_nothing(tmp_path: Path) -> None:
    """``unpd check`` makes no socket: an address that is in use is no fault of the
    configuration.
    """
    config, trace = tmp_path / "unpd.toml", tmp_path / "trace"
    config.write_text(ECHO)
    command = [
        *faults.strace_prefix(trace, "bind,listen,connect,mkdir,unlink,rename"),
        sys.executable,
        "-B",
        "-m",
        "unpd",
        "check",
        "--config",
        str(config),
    ]
    with nothing_remains():  # the tracer ends a moment after what it traces
        assert (
            subprocess.run(
                command, cwd=ROOT, capture_output=True, timeout=30.0, check=False
            ).returncode
            == 0
        )
    calls = [
        line
        for line in trace.read_text().splitlines()
        if "/var/run/nscd" not in line and "exited" not in line
    ]
    assert calls == []


def test_check_tells_every_fault(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """Each fault is printed with its file, line and key, and with the right form; the
    exit code is 78.
    """
    config = tmp_path / "unpd.toml"
    config.write_text(
        '[daemon]\ngrace = 1\n\n[services.echo]\nlisten = ["tcp://localhost:7"]\npool = "fast"\n'
    )
    ended = run_unpd("check", "--config", str(config))
    assert ended.returncode == 78
    assert ended.stdout == ""
    for line, key in ((2, "daemon.grace"), (5, "services.echo.listen"), (6, "services.echo.pool")):
        assert re.search(
            rf"^unpd: {config}:{line}: {re.escape(key)}\S*: ", ended.stderr, re.MULTILINE
        ), ended.stderr
    assert "did you mean" in ended.stderr


def test_check_warns_of_a_backlog_that_the_kernel_would_cut(
    tmp_path: Path, run_unpd: RunUnpd
) -> None:
    """A backlog above net.core.somaxconn is a warning with both numbers, no error."""
    config = tmp_path / "unpd.toml"
    config.write_text(ECHO + "backlog = 65536\n")
    ended = run_unpd("check", "--config", str(config))
    ceiling = Path("/proc/sys/net/core/somaxconn").read_text().strip()
    if int(ceiling) < 65536:
        assert ended.stderr.startswith(
            f"warning: {config}:4: services.echo.backlog: 65536 is above net.core.somaxconn, so"
            f" the kernel uses {ceiling};"
        )
    assert (ended.returncode, ended.stdout) == (0, f"configuration OK: {config}\n")


@pytest.mark.parametrize("value", ["1", "3.0"])
def test_check_accepts_a_harmless_amplification(
    tmp_path: Path, value: str, run_unpd: RunUnpd
) -> None:
    """The default and less are no matter of a warning."""
    config = tmp_path / "unpd.toml"
    config.write_text(f'[services.chargen]\nlisten = ["udp://[::]:0"]\namplification = {value}\n')
    ended = run_unpd("check", "--config", str(config))
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        f"configuration OK: {config}\n",
        "",
    )


def test_check_warns_of_a_raised_amplification(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """An amplification above the default is no error but a warning, which names its
    place and tells what an attacker can do with it.
    """
    config = tmp_path / "unpd.toml"
    config.write_text('[services.chargen]\nlisten = ["udp://[::]:0"]\namplification = 3.5\n')
    ended = run_unpd("check", "--config", str(config))
    assert ended.stderr == (
        f"warning: {config}:3: services.chargen.amplification: 3.5 is above 3: with a forged"
        " source address, an attacker can multiply the traffic that reaches a victim by that"
        " much\n"
    )
    assert (ended.returncode, ended.stdout) == (0, f"configuration OK: {config}\n")


def test_the_output_of_check_show_loads_back(tmp_path: Path, run_unpd: RunUnpd) -> None:
    """``--show`` prints the effective configuration as TOML that means the same. By
    default the metrics listen on loopback.
    """
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(
        '[pools.slow]\nworkers = 1\n\n[services.clock]\ntype = "daytime"\nlisten ='
        ' ["tcp://[::1]:13", "unix:///tmp/x"]\npool = "slow"\n' + ECHO
    )
    shown = run_unpd("check", "--show", "--config", str(first)).stdout
    second.write_text(shown)
    again = run_unpd("check", "--show", "--config", str(second))
    assert (again.stdout, again.stderr) == (shown, "")
    table = tomllib.loads(shown)
    assert table["metrics"]["listen"] == "tcp://127.0.0.1:9867"
    assert table["services"]["clock"]["listen"] == ["tcp://[::1]:13", "unix:///tmp/x"]
    assert table["services"]["echo"]["backlog"] == 4096


# a daemon


def test_a_free_port_is_named_in_the_log(launch: Launch) -> None:
    """With port 0 each listener takes a free port, and the log names it."""
    unpd = launch(
        '[services.echo]\nlisten = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp://[::1]:0"]\n'
    )
    addresses = unpd.addresses("echo")
    assert len(set(addresses)) == 3
    for address in addresses:
        assert isinstance(address, tuple)
        assert address[1] > 0
        assert clients.converse(address, b"here") == b"here"


def test_status_shows_the_state(launch: Launch) -> None:
    """``unpd status`` prints text for people, which finds the daemon through its
    configuration; ``--json`` prints everything.
    """
    unpd = launch(ECHO)
    with clients.idle(unpd.address("echo"), 3):
        unpd.metric_becomes(3, "unpd_connections_active", service="echo")
        text = unpd.run("status", "--config", str(unpd.config_path)).stdout.decode()
        shown = json.loads(unpd.run("status", "--json", "--control", str(unpd.control)).stdout)
    lines = text.splitlines()
    assert re.fullmatch(rf"unpd \S+: ready, pid {unpd.pid}, generation 1, up \d+ s", lines[0])
    cells = [re.split("  +", line) for line in lines]
    service, listener = (row for row in cells if row[0] == "echo")
    assert (service[1], service[5]) == ("3", "3")
    assert (listener[1], listener[4]) == (f"tcp://127.0.0.1:{unpd.port('echo')}", "0")
    assert [row[1] for row in cells if row[0] == "worker"] == ["default/0", "default/1"]
    assert (shown["pid"], shown["ready"], shown["phase"], shown["degraded"]) == (
        unpd.pid,
        True,
        "running",
        [],
    )
    assert {child["pid"] for child in shown["children"]} == {
        child.pid for child in procs.children(unpd.pid)
    }


def test_a_degraded_daemon_says_so(launch: Launch) -> None:
    """While a pool has no ready worker, the status names the pool; the command ends
    with 0 all the same.
    """
    unpd = launch("[pools.default]\nworkers = 1\n" + ECHO)

    def degraded() -> str:
        procs.kill(unpd.workers())
        ended = unpd.run("status", "--control", str(unpd.control))
        assert ended.returncode == 0
        return ended.stdout.decode() if b"degraded: " in ended.stdout else ""

    shown = until(degraded, 20.0, "a degraded status")
    assert "degraded: pool default has no ready worker" in shown
    unpd.metric_becomes(1, "unpd_workers", kind="worker", pool="default", state="ready")


def test_a_broken_configuration_does_not_hide_the_daemon(launch: Launch) -> None:
    """The verbs find the running daemon although its file has a fault by now, as long
    as the fault leaves the path of the control socket readable.
    """
    unpd = launch(ECHO)
    unpd.config_path.write_text(unpd.config_path.read_text() + "\n[servces]\nnonsense = true\n")
    assert unpd.run("check", "--config", str(unpd.config_path)).returncode == 78
    assert unpd.run("status", "--config", str(unpd.config_path)).returncode == 0
    unpd.expect_errors("reload.refused")
    failed = unpd.run("reload", "--config", str(unpd.config_path))
    assert failed.returncode == 1
    assert "did you mean" in failed.stderr.decode()
    assert unpd.run("stop", "--config", str(unpd.config_path)).returncode == 0
    assert unpd.wait_exit() == 0


def test_an_address_in_use_ends_the_start(launch: Launch, tmp_path: Path) -> None:
    """The start ends with code 69 and one sentence, and leaves no pid file, no socket
    and no listener.
    """
    first = launch(ECHO)
    path = tmp_path / "echo.sock"
    second = launch(
        f'[services.echo]\nlisten = ["unix://{path}", "tcp://127.0.0.1:{first.port("echo")}"]\n',
        ready=False,
    )
    second.expect_exit(69)
    second.expect_errors("master.refused")
    assert second.wait_exit() == 69
    assert (
        second.stderr().splitlines()[-1]
        == f"unpd: service echo cannot listen on tcp://127.0.0.1:{first.port('echo')}: the address"
        f" is in use by another program (ss -ltnp sport = :{first.port('echo')} shows it)"
    )
    assert not path.exists()


# the built-in default


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """The directory that is /etc for a daemon in a room of its own."""
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("passwd", "group"):
        (etc / name).write_text(Path("/etc", name).read_text())
    return etc


@pytest.fixture
def builtin(room: Path) -> Iterator[subprocess.Popen[str]]:
    """``unpd run`` in a room of its own."""
    command = [
        "unshare",
        "--mount",
        "--net",
        "sh",
        "-c",
        PRIVATE_ROOM,
        "sh",
        sys.executable,
        "-m",
        "unpd",
        "run",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ROOM": str(room)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(20.0) == 0


def until_ready(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines of standard error, up to the one that says ready."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if "master.ready" in line:
            break
    return lines


def in_the_room(process: subprocess.Popen[str], *arguments: str) -> str:
    """Return the output of a client in the room of ``process``."""
    command = [
        "nsenter",
        "--target",
        str(process.pid),
        "--net",
        sys.executable,
        "-m",
        "unpd",
        "client",
        *arguments,
    ]
    return subprocess.run(
        command, cwd=ROOT, input="hello\n", capture_output=True, text=True, timeout=30.0, check=True
    ).stdout


def listening(process: subprocess.Popen[str]) -> set[str]:
    """The TCP sockets that listen in the room of ``process``, as the kernel lists them
    (proc_net_tcp of its documentation).
    """
    found = set()
    for kind, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        rows = Path(f"/proc/{process.pid}/net", kind).read_text().splitlines()[1:]
        for _, local, _, state, *_ in map(str.split, rows):
            if state == LISTENING:
                host, port = local.split(":")
                words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
                packed = struct.pack(f"={len(words)}I", *words)
                found.add(f"{socket.inet_ntop(family, packed)}:{int(port, 16)}")
    return found


@faults.requires_namespaces()
def test_without_a_configuration_it_serves_the_built_in_default(
    builtin: subprocess.Popen[str],
) -> None:
    """Without --config and /etc/unpd/unpd.toml it serves daytime on 10013, echo on
    10007 and metrics on 9867, all on loopback, and the log names the default as the
    source.
    """
    log = "".join(until_ready(builtin))
    assert 'source="the built-in default"' in log
    for service, port in (("daytime", 10013), ("echo", 10007), ("metrics", 9867)):
        assert f"listener.opened service={service} address=tcp://127.0.0.1:{port}\n" in log
    assert listening(builtin) == {"127.0.0.1:10007", "127.0.0.1:10013", "127.0.0.1:9867"}
    assert in_the_room(builtin, "echo", "127.0.0.1", "10007") == "hello\n"
    assert re.fullmatch(
        r"\w{3} \w{3} +\d+ [\d:]{8} \d{4}\s+", in_the_room(builtin, "daytime", "127.0.0.1", "10013")
    )


@faults.requires_namespaces()
def test_without_an_argument_it_takes_the_installed_configuration(
    room: Path, builtin: subprocess.Popen[str]
) -> None:
    """/etc/unpd/unpd.toml is used if it exists, and the log names it."""
    log = "".join(until_ready(builtin))
    events = {event.name: event for event in parse_log(log)}
    assert events["config.loaded"].fields["source"] == "/etc/unpd/unpd.toml"
    address: Address = ("127.0.0.1", 7777)
    assert f"tcp://{address[0]}:{address[1]}" in log
    assert in_the_room(builtin, "echo", "127.0.0.1", "7777") == "hello\n"


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Install a configuration for the test that needs one."""
    if "installed" in request.node.name:
        directory = request.getfixturevalue("room") / "unpd"
        directory.mkdir()
        text = '[daemon]\nuser = "nobody"\n\n[services.echo]\nlisten = ["tcp://127.0.0.1:7777"]\n'
        (directory / "unpd.toml").write_text(compose(text, tmp_path))
