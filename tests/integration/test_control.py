"""The control socket: which users may connect, the answers to nonsense, and that no
peer can hold the master up.
"""

import contextlib
import errno
import json
import os
import pwd
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support import clients, faults, loads, procs
from tests.support.fork_server import ForkServer
from tests.support.launch import Launch
from tests.support.memory_sink import MemorySink
from tests.support.operating import (
    another_listens_at,
    ask,
    degraded,
    descriptors,
    read_answer,
    refused_reload,
    reload,
    says_once_and_leaves_alone,
    send_request,
    status,
)
from tests.support.runtimes import running
from tests.support.waiting import holds, until
from unpd.config.control import ReadGroup
from unpd.control import server
from unpd.control.callers import Callers
from unpd.control.server import ControlServer
from unpd.kernel import sockets
from unpd.kernel.credentials import Credentials
from unpd.logs import Log
from unpd.loop import Loop
from unpd.master.mending import look_at_readers
from unpd.names import Fault

NO_VERB = (
    "the verb must be one of stop, reload, status, workers, listeners, events, wait, deny,"
    " undeny, denied, explain, connections, kick, pause, resume, drain, log-level, scale, try"
)
ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


def as_user(uid: int, gid: int, control: Path, verb: str = "status") -> str:
    """Ask as ``uid`` with the one group ``gid``; return the line of the answer, or the
    name of the error.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        result = b"nothing"
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            result = json.dumps(ask(control, verb=verb)).encode()
        except BaseException as error:  # noqa: BLE001 - the top of a forked process
            result = type(error).__name__.encode()
        finally:
            os.write(writer, result[:4096])
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        line = pipe.read().decode()
    os.waitpid(pid, 0)
    return line


# the file


@faults.requires_strace()
def test_no_other_user_can_connect_at_any_moment(launch: Launch, tmp_path: Path) -> None:
    """From its first moment the socket has its mode, 0660. With every step between bind
    and listen slowed down, no other mode shows.
    """
    prefix = faults.strace_prefix(
        tmp_path / "trace",
        "?chmod,?fchmodat,?chown,?fchownat,listen",
        "?chmod,?fchmodat,?chown,?fchownat:delay_enter=150000",
    )
    unpd = launch(ECHO, ready=False, prefix=prefix)
    modes: list[int] = []

    def ready() -> bool:
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(unpd.control.lstat().st_mode)
            if mode not in modes[-1:]:
                modes.append(mode)
        return bool(unpd.log_events("master.ready"))

    until(ready, 20.0, "the daemon to be ready")
    assert modes == [0o660]


@faults.requires_root
def test_the_masters_group_may_ask_but_neither_strangers_nor_its_own_children(
    launch: Launch, public: Path
) -> None:
    """The file belongs to the master (0660): its group may ask, other users cannot
    connect. The user of the workers is refused even where the mode lets it connect.
    """
    worker, stranger = pwd.getpwnam("daemon"), pwd.getpwnam("bin")
    control = public / "control.sock"
    launch(f'[daemon]\nuser = "daemon"\ncontrol = "{control}"\n' + ECHO)
    there = control.stat()
    assert (there.st_uid, there.st_gid, stat.S_IMODE(there.st_mode)) == (0, 0, 0o660)
    assert json.loads(as_user(stranger.pw_uid, 0, control))["ok"] is True
    assert as_user(stranger.pw_uid, stranger.pw_gid, control) == "PermissionError"
    assert as_user(worker.pw_uid, worker.pw_gid, control) == "PermissionError"
    control.chmod(0o666)
    assert json.loads(as_user(worker.pw_uid, worker.pw_gid, control)) == {
        "version": 1,
        "ok": False,
        "reason": f"user {worker.pw_uid} may not control this daemon",
    }


@faults.requires_root
def test_the_read_group_may_look_and_a_reload_takes_that_away(launch: Launch, public: Path) -> None:
    """A member gets an answer to a verb that changes nothing, and one sentence to any
    other, which the log has too. The file keeps its mode, and a new file gets the
    rights again. After a reload without the key the member cannot connect.
    """
    stranger, group, control = pwd.getpwnam("bin"), 4242, public / "control.sock"
    text = f'[daemon]\nuser = "daemon"\ncontrol = "{control}"\n{ECHO}'
    unpd = launch(f'[control]\nread_group = "{group}"\n{text}')
    ask_as = partial(as_user, stranger.pw_uid, group, control)
    assert json.loads(ask_as("status"))["ok"] is True
    refused = json.loads(ask_as("reload"))
    assert (refused["ok"], "control.read_group" in refused["reason"]) == (False, True)
    assert unpd.wait_event("control.refused").fields["reason"] == refused["reason"]
    assert as_user(stranger.pw_uid, stranger.pw_gid, control) == "PermissionError"
    assert stat.S_IMODE(control.stat().st_mode) == 0o660
    control.unlink()
    unpd.wait_event("control.renewed")
    assert json.loads(ask_as("status"))["ok"] is True
    reload(unpd, text)
    assert ask_as("status") == "PermissionError"
    assert unpd.wait_event("control.readers").fields["group"] == ""


def test_a_process_from_before_the_daemon_may_ask(launch: Launch, tmp_path: Path) -> None:
    """The entrypoint of a container may start a watcher of its files and then become
    the daemon. The watcher looks like a child of the daemon, but may ask for a reload.
    The daemon's user is that of its children here.
    """
    go, answer = tmp_path / "go", tmp_path / "answer"
    watcher = (
        f'(until [ -e {go} ]; do sleep 0.05; done; "{sys.executable}" -m unpd reload --control'
        f' {tmp_path}/control.sock >{answer}.new 2>&1; mv {answer}.new {answer}) & exec "$@"'
    )
    user = pwd.getpwuid(os.geteuid()).pw_name
    unpd = launch(
        f'[daemon]\nuser = "{user}"\ncontrol = "{tmp_path}/control.sock"\n{ECHO}',
        prefix=("sh", "-c", watcher, "sh"),
    )
    go.touch()
    until(answer.exists, 20.0, "the watcher's answer")
    assert "reloaded: generation 2\n" in answer.read_text()
    unpd.metric_becomes(1, "unpd_unknown_children_reaped_total")


def test_a_stale_socket_is_replaced_and_anything_else_is_not(
    launch: Launch, tmp_path: Path
) -> None:
    """A socket that no process listens on is replaced. A file in its place stays: the
    start is refused with code 73, and leaves no listener.
    """
    path = tmp_path / "control.sock"
    text = f'[daemon]\ncontrol = "{path}"\n' + ECHO
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    unpd = launch(text)
    assert status(unpd)["ready"] is True
    assert unpd.stop() == 0
    path.write_text("precious")
    refused = launch(text, ready=False)
    refused.expect_exit(73)
    refused.expect_errors("master.refused")
    assert refused.wait_exit() == 73
    assert f"cannot make the control socket {path}" in refused.stderr()
    assert path.read_text() == "precious"


# a file that is gone


def test_a_removed_control_socket_is_made_again(launch: Launch, tmp_path: Path) -> None:
    """When a cleaner removes the file, a new one is there within seconds, with its
    mode, and the log says so. The daemon removes that one when it stops.
    """
    path = tmp_path / "control.sock"
    unpd = launch(f'[daemon]\ncontrol = "{path}"\n' + ECHO)
    with contextlib.closing(send_request(path, verb="reload")) as waiting:
        path.unlink()
        assert read_answer(waiting)["ok"] is True
    renewed = unpd.wait_event("control.renewed", path=str(path))
    assert renewed.fields["reason"] == "its file was removed"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert degraded(unpd) == []
    assert unpd.stop() == 0
    assert not path.exists()


@pytest.mark.slow
def test_the_control_path_of_another_program_is_not_replaced(
    launch: Launch, tmp_path: Path
) -> None:
    """Another program listens at the path. The daemon says so once and in its metrics,
    and takes the path back when that program has left it.
    """
    path = tmp_path / "control.sock"
    unpd = launch(f'[daemon]\ncontrol = "{path}"\n' + ECHO)
    unpd.expect_errors("control.lost")
    with another_listens_at(path):
        lost = unpd.wait_event("control.lost", path=str(path))
        assert lost.fields["reason"] == "another program listens there"
        unpd.metric_becomes(1, "unpd_degraded", reason="control_lost")
        says_once_and_leaves_alone(unpd, "control.lost", path)
    unpd.wait_event("control.renewed", path=str(path))
    assert degraded(unpd) == []
    unpd.metric_becomes(0, "unpd_degraded", reason="control_lost")


@pytest.mark.slow
def test_a_control_socket_whose_directory_was_away_is_found_again(
    launch: Launch, tmp_path: Path
) -> None:
    """While the directory is gone the daemon says so once; then it makes the socket
    again, or finds the old one.
    """
    place, aside = tmp_path / "place", tmp_path / "aside"
    place.mkdir()
    path = place / "control.sock"
    unpd = launch(f'[daemon]\ncontrol = "{path}"\n' + ECHO)
    unpd.expect_errors("control.lost")
    place.rename(aside)
    lost = unpd.wait_event("control.lost", path=str(path))
    assert lost.fields["reason"] == "the directory does not exist"
    aside.rename(place)
    back = unpd.wait_event("control.renewed", path=str(path))
    assert back.fields["reason"] == "its file was away for a while"
    assert degraded(unpd) == []
    shutil.rmtree(place)
    unpd.wait_event("control.lost", path=str(path), after=1)
    place.mkdir()
    unpd.wait_event("control.renewed", path=str(path), after=1)
    assert status(unpd)["ready"] is True


# requests


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\n", "the request is not a line of JSON"),
        (b"\x00\xff\xfe\n", "the request is not a line of JSON"),
        (b"[" * 4000 + b"\n", "the request is not a line of JSON"),
        (b"[1]\n", "the request is not a JSON object"),
        (b'{"verb": "status"}\n', "the request is not of version 1"),
        (b'{"version": 2, "verb": "status"}\n', "the request is not of version 1"),
        (
            b'{"version": 1, "verb": "explode"}\n',
            NO_VERB,
        ),
        (
            b'{"version": 1, "verb": ["stop"]}\n',
            NO_VERB,
        ),
        (b'{"version": 1, "verb": "stop", "quick": "yes"}\n', "quick must be true or false"),
        (
            b'{"version": 1, "verb": "status", "quick": true}\n',
            "unknown argument 'quick': status takes only history",
        ),
    ],
    ids=[
        "empty",
        "binary",
        "nested",
        "list",
        "unversioned",
        "version",
        "verb",
        "list-verb",
        "value",
        "argument",
    ],
)
def test_nonsense_is_answered_with_the_reason(control: Path, line: bytes, reason: str) -> None:
    """A line that is no request is answered with the reason, and changes nothing."""
    with clients.connect(str(control)) as sock:
        sock.sendall(line)
        assert read_answer(sock) == {"version": 1, "ok": False, "reason": reason}
        assert sock.recv(1) == b""


def test_a_line_without_end_is_cut_off(control: Path) -> None:
    """A connection that sends more bytes than any request has, without a line end, is
    closed at once, and not only when its time is over.
    """
    with (
        clients.connect(str(control), timeout_s=3.0) as sock,
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
    ):
        sock.sendall(b"x" * 1_000_000)
        assert sock.recv(1) == b""


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Iterator[Path]:
    """The control socket of one daemon for all lines of nonsense. Afterwards the daemon
    is healthy and has the same children.
    """
    launch = Launch(tmp_path_factory.mktemp("control"), fork_server)
    unpd = launch(ECHO)
    children = {child.pid for child in procs.children(unpd.pid)}
    yield unpd.control
    assert status(unpd)["ready"] is True
    assert {child.pid for child in procs.children(unpd.pid)} == children
    assert launch.finish() == []


# peers that hold on


def test_silent_and_slow_peers_do_not_hold_the_master_up(launch: Launch) -> None:
    """With peers that send nothing or half a line, the master still answers others and
    respawns workers, and clients are served as before.
    """
    unpd = launch(ECHO)
    open_before = descriptors(unpd, births=3)
    with contextlib.ExitStack() as stack, loads.running(unpd.address("echo"), rate=200) as load:
        for number in range(30):
            peer = stack.enter_context(clients.connect(str(unpd.control)))
            peer.sendall((b"", b'{"version": 1, ', b"")[number % 3])
        assert status(unpd)["ready"] is True
        workers = unpd.workers()[:1]
        procs.kill(workers)
        until(
            lambda: len(unpd.workers()) == 2 and workers[0] not in unpd.workers(),
            5.0,
            "the respawn",
        )
        assert ask(unpd.control, verb="reload", all=True)["ok"] is True
        load.more(20)
        books = load.stop()
    assert set(books.failed()) <= {"reset_before", "reset_after", "shed"}, (
        "only connections of the killed worker may be lost"
    )
    until(
        lambda: len(procs.fds(unpd.pid)) == open_before,
        10.0,
        "every peer's descriptor to be closed",
    )


@pytest.mark.slow
def test_peers_that_fill_the_table_are_closed_in_time(launch: Launch) -> None:
    """Silent peers beyond the limit are closed at once, the others after five seconds;
    then the operator gets an answer.
    """
    unpd = launch(ECHO)
    with contextlib.ExitStack() as stack:
        held: list[socket.socket] = []

        def another() -> bool:
            # The accept queue is full while the master has yet to accept.
            with contextlib.suppress(BlockingIOError):
                held.append(stack.enter_context(clients.connect(str(unpd.control))))
            return len(held) == 1000

        until(another, 20.0, "a thousand connections")
        assert [sock.recv(1) for sock in held[32:]] == [b""] * 968
        until(
            lambda: b"ready" in unpd.run("status", "--control", str(unpd.control)).stdout,
            15.0,
            "an answer for the operator",
        )


def test_a_peer_that_leaves_loses_only_its_answer(launch: Launch) -> None:
    """A reload goes on when the peer that asked for it hangs up, and the next peer is
    answered.
    """
    unpd = launch(ECHO)
    send_request(unpd.control, verb="reload").close()
    unpd.wait_event("reload.succeeded", generation=2)
    assert ask(unpd.control, verb="reload")["generation"] == 3


@faults.requires_strace()
def test_without_descriptors_the_master_does_not_spin(launch: Launch, tmp_path: Path) -> None:
    """When accept fails for want of descriptors, the master tries again about once a
    second; afterwards the peer that waited is answered.
    """
    unpd = launch(ECHO)
    with faults.straced(
        unpd.pid, tmp_path / "trace", "accept4", "accept4:error=EMFILE", follow=False
    ) as trace:
        waiting = send_request(unpd.control, verb="status")
        until(lambda: trace.count("accept4") >= 1, 10.0, "the first failure")
        holds(lambda: trace.count("accept4") < 20, 0.4, "the master spins on accept")
    with contextlib.closing(waiting):
        assert read_answer(waiting)["ok"] is True


def test_a_peer_that_the_kernel_does_not_name_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller without credentials is closed, and the next one is answered: a client's
    connection never ends the master.
    """
    names = [Credentials(1, 0, 0)]
    asked_for: list[socket.socket] = []

    def credentials(sock: socket.socket) -> Credentials:
        asked_for.append(sock)
        if len(asked_for) == 1:
            raise OSError(22, "no credentials")
        return names.pop()

    monkeypatch.setattr(server, "peer_credentials", credentials)
    loop = Loop()
    path = tmp_path / "control.sock"
    listener = server_for(path, loop)
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        unnamed, named = (
            stack.enter_context(contextlib.closing(send_request(path, verb="status")))
            for _ in range(2)
        )
        for _ in range(4):
            loop.turn(0.1)
        with contextlib.suppress(ConnectionResetError):
            assert unnamed.recv(1) == b""
        assert read_answer(named)["ok"] is True


READERS = ReadGroup("watch", 4242)


def server_for(path: Path, loop: Loop, readers: ReadGroup | None = None) -> ControlServer:
    """A server that answers every request at once."""
    return ControlServer(
        Callers(children_uid=-1, path=str(path), readers=readers),
        loop,
        lambda control, asked: control.answer(asked.number, ok=True),
        lambda *_: None,
    )


def test_processes_that_may_only_look_leave_room_for_an_administrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more of them than MAX_LOOKERS is closed at once; root is answered."""
    names = [Credentials(1, 7, READERS.gid)] * (server.MAX_LOOKERS + 1) + [Credentials(1, 0, 0)]
    monkeypatch.setattr(server, "peer_credentials", lambda _: names.pop(0))
    loop, path = Loop(), tmp_path / "control.sock"
    with contextlib.ExitStack() as stack:
        stack.callback(server_for(path, loop, READERS).close)
        silent = [stack.enter_context(clients.connect(str(path))) for _ in names[1:]]
        root = stack.enter_context(contextlib.closing(send_request(path, verb="stop")))
        for _ in range(2 * len(silent)):
            loop.turn(0.01)
        assert names == []
        assert silent[-1].recv(1) == b""
        silent[-2].setblocking(False)
        with pytest.raises(BlockingIOError):
            silent[-2].recv(1)
        assert read_answer(root)["ok"] is True


def test_without_access_control_lists_only_the_group_is_shut_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a start, after a reload and in a new socket alike: the others can connect, and
    a sentence says why the group cannot. It is let in as soon as that can be done.
    """
    path, lacking, admitted = tmp_path / "control.sock", [True], []

    def admit(sock: socket.socket, inode: int, gid: int | None) -> None:
        if gid is not None and lacking:
            raise OSError(errno.ENOTSUP, "not supported")
        admitted.append(gid)

    monkeypatch.setattr(sockets, "admit_group", admit)
    sentence = "its file system has no access control lists, which control.read_group needs"
    loop = Loop()
    with contextlib.closing(server_for(path, loop, READERS)) as listener:
        assert listener.shut_out == sentence
        listener.let_look(None)
        assert listener.shut_out == ""
        listener.let_look(READERS)
        assert listener.shut_out == sentence
        path.unlink()
        repair = listener.mend()
        assert repair is not None
        assert (repair.remade, listener.shut_out) == (True, sentence)
        with contextlib.closing(send_request(path, verb="status")) as sock:
            for _ in range(2):
                loop.turn(0.1)
            assert read_answer(sock)["ok"] is True
        assert listener.mend() is None
        assert admitted == [None]
        lacking.clear()
        assert listener.mend() is None
        assert (listener.shut_out, admitted) == ("", [None, READERS.gid])


def test_a_group_that_is_shut_out_is_a_fault_that_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the group is let in, and with one line in the log for each."""
    lacking, shown = [True], MemorySink()

    def admit(sock: socket.socket, inode: int, gid: int | None) -> None:
        if lacking:
            raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(sockets, "admit_group", admit)
    text = f'[control]\nread_group = "4242"\n[services.echo]\nlisten = ["unix://{tmp_path}/e"]\n'
    log = Log(shown.sink, "info", "json")
    with running(f"[metrics]\nlisten = false\n{text}", log) as runtime:
        runtime.control = server_for(tmp_path / "control.sock", runtime.loop, READERS)
        with contextlib.closing(runtime.control):
            for _ in range(2):
                look_at_readers(runtime)
            (fault,) = runtime.faults.items()
            assert fault[0] == (Fault.READERS_SHUT_OUT, runtime.control.path)
            assert 'the group "4242" (control.read_group) cannot connect' in fault[1]
            lacking.clear()
            runtime.control.mend()
            for _ in range(2):
                look_at_readers(runtime)
            assert runtime.faults == {}
    names = [json.loads(line)["event"] for line in shown.lines]
    assert names == ["control.readers_shut_out", "control.readers"]


# the two sides together


def test_the_reason_of_a_refusal_comes_through_whole(launch: Launch) -> None:
    """``unpd reload`` prints every fault of a configuration, however many it has."""
    unpd = launch(ECHO)
    reason = refused_reload(
        unpd, ("[services.echo]\nlisten = [" + '"nonsense", ' * 90 + "]\n").encode()
    )
    assert reason.count("unpd.toml:2: services.echo.listen") == 90
