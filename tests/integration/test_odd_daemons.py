"""The commands for a running daemon, where the daemon is another one, another user's,
stopped, or no unpd at all.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, clients, faults
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, refused_reload, reload, status
from tests.support.threads import beside
from tests.support.waiting import until
from unpd.control.answer_fields import AnswerField, mismatch
from unpd.control.client import ANSWER_TIMEOUT_S
from unpd.control.status_fields import STATUS

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0", "unix://{directory}/echo.sock"]
"""


def unpd(
    *words: str, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``unpd WORDS`` to its end."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "unpd", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
        stdin=subprocess.DEVNULL,
    )


# another daemon


@pytest.mark.parametrize("verb", ["stop", "reload", "status"])
def test_a_daemon_with_another_configuration_refuses(
    launch: Launch, tmp_path: Path, verb: str
) -> None:
    """Two files that name the same control socket: a command for the one does not reach
    the daemon of the other. The message names both.
    """
    daemon = launch()
    other = tmp_path / "other.toml"
    shutil.copy(daemon.config_path, other)
    ended = daemon.run(verb, "--config", str(other))
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr.decode().removeprefix("unpd: ").removeprefix("reload failed: ") == (
        f"the daemon on this control socket runs with the configuration {daemon.config_path}, not"
        f" with {other}: name the other daemon with --config FILE, or this one with"
        f" --control {daemon.control}\n"
    )
    assert status(daemon)["generation"] == 1
    assert not daemon.log_events("control.asked")


def test_a_file_has_several_names(launch: Launch, tmp_path: Path) -> None:
    """The daemon's own file is known by a relative path and by a symbolic link, and by
    its name after that became a link to a new release of the file.
    """
    daemon = launch()
    path = daemon.config_path
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    for name in (path, link, path.name, f"../{path.parent.name}/{path.name}"):
        assert daemon.run("status", "--config", str(name)).returncode == 0, name
    release = path.rename(tmp_path / "release.toml")
    path.symlink_to(release)
    assert daemon.run("reload", "--config", str(path)).returncode == 0
    assert daemon.run("reload", "--config", str(release)).returncode == 1


def test_the_control_socket_alone_names_the_daemon(launch: Launch) -> None:
    """With --control there is nothing to compare, as with a request that a person
    writes.
    """
    daemon = launch()
    assert daemon.run("reload", "--control", str(daemon.control)).returncode == 0
    assert ask(daemon.control, verb="reload")["ok"] is True
    assert ask(daemon.control, verb="reload", config=["/other"])["ok"] is False


# no daemon


HIDING = """
mount -t tmpfs tmpfs /run
test ! -d /etc/unpd || mount -t tmpfs tmpfs /etc/unpd
exec "$@"
"""
"""Hides the daemon and the configuration that this machine may have."""
BARE = ("unshare", "--mount", "sh", "-e", "-c", HIDING, "sh")


@faults.requires_namespaces()
def test_the_default_path_is_named_with_another_way() -> None:
    """Where nobody named a socket, the message says which one was tried, and how to
    name another.
    """
    ended = unpd("status", prefix=BARE)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        "unpd: unpd is not running, or its control socket is another one: no process listens on"
        " /run/unpd/control.sock, the default path"
        " for this user; to reach another daemon, name its socket with --control\n"
    )


@faults.requires_root()
def test_the_default_path_depends_on_the_user() -> None:
    """A user other than root learns which path was tried, and the one of the packaged
    daemon.
    """
    stranger = pwd.getpwnam("bin")
    prefix = ("setpriv", f"--reuid={stranger.pw_uid}", "--clear-groups", "--regid=65534")
    ended = unpd("status", prefix=(*BARE, *prefix), env={"XDG_RUNTIME_DIR": "/run/nobody"})
    assert ended.returncode == 3
    assert "no process listens on /run/nobody/unpd/control.sock, the default" in ended.stderr
    assert "--control /run/unpd/control.sock" in ended.stderr


@faults.requires_root()
def test_another_user_s_daemon_is_not_called_dead(launch: Launch) -> None:
    """A user who may not use the control socket is told that, with another exit code
    than where no daemon runs.
    """
    directory = Path(tempfile.mkdtemp(prefix="unpd-run-"))
    try:
        directory.chmod(0o755)
        control = directory / "control.sock"
        daemon = launch(f'[daemon]\ncontrol = "{control}"\n')
        stranger = pwd.getpwnam("bin")
        prefix = ("setpriv", f"--reuid={stranger.pw_uid}", "--clear-groups", "--regid=65534")
        ended = unpd("status", "--control", str(control), prefix=prefix)
        assert (ended.returncode, ended.stdout) == (77, "")
        assert ended.stderr == (
            f"unpd: unpd status: user bin may not use the control socket {control}: ask as root, as"
            " the user that unpd runs as, or, in order to look, as a member of the group in"
            " control.read_group\n"
        )
        assert daemon.stop() == 0
    finally:
        shutil.rmtree(directory)


# a daemon that stands still


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["status", "reload", "stop"])
def test_a_stopped_daemon_is_reported(launch: Launch, verb: str) -> None:
    """A master that SIGSTOP stopped does not hold a command up for ever."""
    daemon = launch()
    daemon.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        ended = daemon.run(verb, "--control", str(daemon.control))
        took_s = time.monotonic() - began
    finally:
        daemon.signal(signal.SIGCONT)
    assert ended.returncode == 1
    assert (
        f"unpd (pid {daemon.pid}) has not answered on {daemon.control} for {ANSWER_TIMEOUT_S:g} s:"
        " it is stopped (SIGSTOP) or hung"
    ) in ended.stderr.decode()
    assert took_s < 4 * ANSWER_TIMEOUT_S
    if verb == "stop":
        assert "it may still carry the request out" in ended.stderr.decode()
        assert daemon.wait_exit() == 0


@pytest.mark.slow
def test_a_stopped_daemon_with_a_full_queue_is_reported(launch: Launch) -> None:
    """Neither does one whose control socket takes no more connections."""
    daemon = launch()
    daemon.signal(signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(BlockingIOError):
                while True:
                    stack.enter_context(clients.connect(str(daemon.control)))
            ended = daemon.run("status", "--control", str(daemon.control))
    finally:
        daemon.signal(signal.SIGCONT)
    assert ended.returncode == 1
    assert f"unpd has not answered on {daemon.control}" in ended.stderr.decode()


@pytest.mark.slow
def test_a_daemon_that_stands_still_while_it_stops_is_reported(launch: Launch) -> None:
    """``unpd stop`` does not wait for ever for the end of a process that stands
    still.
    """
    daemon = launch("[daemon]\ngrace_s = 60\n")
    with clients.idle(daemon.address("echo"), 1):
        command = [*daemon.setting.command, "stop", "--control", str(daemon.control)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as stopping:
            daemon.wait_event("master.stopping")
            daemon.signal(signal.SIGSTOP)
            try:
                _, errors = stopping.communicate(timeout=60.0)
            finally:
                daemon.signal(signal.SIGCONT)
        assert stopping.returncode == 1
        assert "stopped (SIGSTOP) or hung" in errors
    assert daemon.wait_exit() == 0


# no unpd at all


@contextlib.contextmanager
def serving(path: Path, answer: bytes) -> Iterator[None]:
    """A control socket that answers each request with ``answer`` and closes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as peer, contextlib.suppress(OSError):
                        peer.recv(65536)
                        peer.sendall(answer)

        with beside(serve, stop=lambda: listener.shutdown(socket.SHUT_RDWR)):
            yield


def line(**fields: object) -> bytes:
    """Return an answer of the protocol's version."""
    return json.dumps({"version": 1, **fields}, ensure_ascii=False).encode() + b"\n"


EVIL = "\x1b]0;owned\x07\x9b31m\u202e"
NOT_JSON = "the daemon's answer is not a line of JSON"
UNUSABLE = "the daemon's answer has no usable field"
OTHER_VERSION = "the daemon's answer is not of version 1"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "unpd closed the connection without an answer"),
        (b'{"version":1,"ok":true', "unpd closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", NOT_JSON),
        (b"\xff\xfe\x00\n", NOT_JSON),
        (b"[" * 100_000 + b"\n", NOT_JSON),
        (b"[1]\n", "the daemon's answer is not a JSON object"),
        (b"{}\n", OTHER_VERSION),
        (line(ok="yes"), OTHER_VERSION),
        (b"x" * 5_000_000, "the daemon's answer is longer than 4194304 bytes"),
        (line(ok=True), f"{UNUSABLE} status"),
        (line(ok=True, status=[]), f"{UNUSABLE} status"),
        (line(ok=True, status={}), f"{UNUSABLE} schema"),
        (line(ok=True, status={"schema": 1, "version": 7}), f"{UNUSABLE} version"),
        (line(ok=False), "unpd refused without a reason"),
        (line(ok=False, reason=[EVIL]), "]0;owned"),
        (line(ok=False, reason=f"no{EVIL}"), r"unpd: no\x1b]0;owned\x07\u009b31m\u202e"),
    ],
    ids=range(16),
)
def test_an_odd_answer_is_one_sentence(tmp_path: Path, answer: bytes, sentence: str) -> None:
    """Whatever the peer answers, the command ends with 1 and a sentence, without a
    trace and without a character that controls a terminal.
    """
    path = tmp_path / "control.sock"
    with serving(path, answer):
        ended = unpd("status", "--control", str(path))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.rstrip("\n").isprintable()


def test_an_odd_reload_is_a_reload(tmp_path: Path) -> None:
    """An answer without a generation says all the same that the reload succeeded, and
    text in its place is escaped.
    """
    path = tmp_path / "control.sock"
    for fields, shown in (({}, "unknown"), ({"generation": "\x1b[2J"}, r"\x1b[2J")):
        with serving(path, line(ok=True, **fields)):
            ended = unpd("reload", "--control", str(path))
        assert (ended.returncode, ended.stdout) == (0, f"reloaded: generation {shown}\n")
        path.unlink()


def test_a_name_with_control_characters_is_escaped(launch: Launch, tmp_path: Path) -> None:
    """Text of an honest daemon is escaped as well, in the text and in the JSON."""
    daemon = launch()
    answer = {**ask(daemon.control, verb="status")["status"], "version": f"{EVIL}\x7f"}
    path = tmp_path / "control.sock"
    with serving(path, line(ok=True, status=answer)):
        text = unpd("status", "--control", str(path)).stdout
        shown = unpd("status", "--json", "--control", str(path)).stdout
    assert text.startswith(r"unpd \x1b]0;owned\x07\u009b31m\u202e\x7f: ready")
    assert all(row.isprintable() for row in shown.split("\n"))
    assert json.loads(shown) == answer


# what a status tells


def fields_of(values: object) -> object:
    """Return the names of all fields, with those of the first object of a list."""
    if isinstance(values, dict):
        return {name: fields_of(value) for name, value in values.items()}
    return fields_of(values[0]) if isinstance(values, list) and values else None


def documented(fields: tuple[AnswerField, ...]) -> object:
    """Return the names of all fields of the table in the same form."""
    return {field.name: documented(field.fields) if field.fields else None for field in fields}


def test_the_status_has_the_fields_of_its_table(launch: Launch, tmp_path: Path) -> None:
    """Every field that a daemon sends stands in the table, and every one of the table
    is sent: with the history, a fault, a reload, a live change, a generation that
    drains, and how a child ended.
    """
    daemon = launch(ECHO.format(directory=tmp_path))
    with clients.idle(daemon.address("echo"), 2):
        daemon.metric_becomes(2, "unpd_connections_active", service="echo")
        reload(daemon, every_pool=True)
        assert ask(daemon.control, verb="pause", service="echo")["ok"]
        drained = ask(daemon.control, verb="status", history=True)["status"]
        assert mismatch(drained, STATUS) == ""
        assert [(old["generation"], old["connections"]) for old in drained["retired"]] == [(1, 2)]
        for pid in daemon.workers():
            os.kill(pid, signal.SIGKILL)
        found = until(lambda: _degraded(status(daemon)), 10.0, "a degraded status")
        ended = until(lambda: _ended(status(daemon)), 10.0, "the ends of children")
        missing = until(lambda: _missing(daemon), 20.0, "a slot without a child")
    assert mismatch(found, STATUS) == ""
    event = {**drained["events"][0], "fields": None}  # each event has its own
    service = {**drained["services"][0], "refused_by_reason": None}  # and each service
    other = {
        "degraded": found["degraded"],
        "events": [event],
        "children": ended,
        "missing": missing,
    }
    whole = {**drained, **other, "services": [service]}
    assert fields_of(whole) == documented(STATUS)


def _degraded(found: dict[str, object]) -> dict[str, list[object]]:
    return found if found["degraded"] else {}  # type: ignore[return-value]


def _ended(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [child for child in found["children"] if child["last_end"]]


def _missing(daemon: Unpd) -> list[dict[str, Any]]:
    """Kill every worker; the slots that wait for another one."""
    for pid in daemon.workers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [slot for slot in status(daemon)["missing"] if slot["last_end"]]


def test_the_status_tells_the_last_reload(launch: Launch) -> None:
    """With its result and its reason, whoever asked for it: a person or a signal."""
    daemon = launch()
    assert status(daemon)["last_reload"] is None
    reload(daemon)
    last = status(daemon)["last_reload"]
    assert (last["result"], last["reason"], last["generation"]) == ("success", "", 2)
    refused_reload(daemon, b"[x")
    by_person = status(daemon)["last_reload"]
    assert (by_person["result"], by_person["generation"]) == ("refused", 2)
    assert "not valid TOML" in by_person["reason"]
    daemon.config_path.write_text("[y]\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_event("reload.refused", after=1)
    assert "y" in status(daemon)["last_reload"]["reason"]
    shown = daemon.run("status", "--control", str(daemon.control)).stdout.decode()
    assert f"last reload: refused at {status(daemon)['last_reload']['ended_at']}: " in shown


def test_the_status_shows_where_to_look(launch: Launch) -> None:
    """The configuration, and the address of the metrics with the port that the kernel
    chose; with metrics off it says so.
    """
    daemon = launch()
    text = daemon.run("status", "--control", str(daemon.control)).stdout.decode().splitlines()
    assert text[1] == f"configuration: {daemon.config_path}"
    assert text[2] == f"metrics: tcp://127.0.0.1:{daemon.port('metrics')}"
    without = launch("[metrics]\nlisten = false\n")
    assert status(without)["metrics"] is None


def test_check_tells_a_degraded_daemon_by_its_exit_code(launch: Launch) -> None:
    """``status --check`` ends with 0 for a daemon that is well and with 4 for one that
    is not, with the same words as without --check.
    """
    daemon = launch("[pools.default]\nworkers = 1\n")
    check = ("status", "--check", "--control", str(daemon.control))
    assert daemon.run(*check).returncode == 0

    def degraded() -> str:
        for pid in daemon.workers():
            os.kill(pid, signal.SIGKILL)
        ended = daemon.run(*check)
        return ended.stdout.decode() if ended.returncode == 4 else ""

    shown = until(degraded, 20.0, "the exit code 4")
    assert "degraded: " in shown
