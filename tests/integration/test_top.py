"""``unpd top``: on a terminal, as plain text, and without a daemon."""

import contextlib
import io
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any

import pytest
from rich.console import Console

from tests.support import ROOT, clients, faults, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.scale import scale
from tests.support.waiting import pause, until
from tests.support.watched import Watched, watching
from tests.unit.control.test_status_fields import example
from unpd.cli.top.answers import Answer, Answers
from unpd.cli.top.bars import BARS
from unpd.cli.top.columns import make_tables
from unpd.cli.top.layout import Size, page
from unpd.cli.top.painting import painted
from unpd.cli.top.polling import Asker
from unpd.cli.top.view import View, followed, pressed
from unpd.control.client import unanswered
from unpd.control.protocol import Request, encode_answer
from unpd.errors import PrivilegeError

NOT_RUNNING = "unpd is not running, or its control socket is another one: no process listens on"
OTHER_VERSION = (
    "the daemon's answer has no usable field {}: the daemon may be of another version of unpd"
)
ECHO = """
[daemon]
control = "{}"
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


def left(watched: Watched) -> None:
    """Wait for the end; the terminal is as it was before."""

    def ended() -> bool:
        # A terminal that nobody reads would keep the program from writing its last.
        return bool(watched.said) and watched.process.poll() is not None

    until(ended, 30.0, lambda: f"the end of top: {watched.lines}")
    assert watched.process.returncode == 0
    assert watched.said.endswith("\x1b[?25h\x1b[?1049l")
    assert watched.modes_now() == watched.modes


def test_the_screen_lives_with_the_daemon(launch: Launch, tmp_path: Path) -> None:
    """It shows a client that comes, keys work, also while the daemon stands still, it
    follows the size of the window, and it survives a reload, the end of the daemon, and
    its return.
    """
    config = ECHO.format(tmp_path / "control.sock")
    unpd = launch(config)
    with watching(unpd.control, "--interval", "0.1") as screen:
        screen.wait(r"^echo +0 ")
        with clients.connect(unpd.address("echo")) as sock:
            sock.sendall(b"x")
            screen.wait(r"^echo +1 ")
        screen.type("s")
        screen.wait(r"^SERVICE \^")
        screen.type("\r")
        screen.wait(r"^accepted: 1 .*How many connections it has accepted\.")
        screen.type("\x1b[B")
        screen.wait(r"^kind: exporter|^kind: worker")
        screen.type("\x1bp")
        screen.wait("^paused")
        screen.resize(40, 12)
        until(lambda: fits(screen.lines, 40, 12), 30.0, lambda: str(screen.lines))
        screen.type("p")
        os.kill(unpd.pid, SIGSTOP)
        screen.type("?")
        screen.wait("^keys$")
        os.kill(unpd.pid, SIGCONT)
        screen.type("q")
        unpd.signal(SIGHUP)
        screen.wait("generation 2")
        unpd.signal(SIGTERM)
        unpd.wait_exit()
        screen.wait("^unpd is not running")
        again = launch(config)
        screen.wait(rf"pid {again.pid}$")
        screen.type("q")
        left(screen)


@pytest.mark.slow
def test_the_charts_outlast_a_reload(launch: Launch, tmp_path: Path) -> None:
    """They show the clients that come, and after a reload the clients that have gone,
    with the reload among the events. A small window has no charts, and a terminal
    without the characters of bars has numbers.
    """
    unpd = launch(ECHO.format(tmp_path / "control.sock"))
    words = ("--interval", "0.1")
    with watching(unpd.control, *words, LC_ALL="C.UTF-8") as screen:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(clients.connect(unpd.address("echo")))
            screen.wait(r"^LAST TEN MINUTES +NOW +MAX  10 min ago +now$")
            screen.wait(r"^Open connections +3 +3  +[▁-▇]+$")
            screen.wait(r"^New per second, connections +[0-9.]+ +[1-9][0-9.]*  +[▁-▇]+$")
        screen.wait(r"^Open connections +0 +3  +[▁-▇]+$")
        reload(unpd, every_pool=True)
        screen.wait("generation 2")
        screen.wait(r"^Open connections +0 +3  +[▁-▇]+$")
        screen.type("c")
        screen.wait("info +reload.succeeded +generation 2 serves$")
        screen.type("c")
        screen.wait("^LAST TEN MINUTES")
        screen.resize(100, 20)
        until(lambda: fits(screen.lines, 100, 20), 30.0, lambda: str(screen.lines))
        assert not any("LAST TEN MINUTES" in line for line in screen.lines)
        screen.type("q")
        left(screen)
    with watching(unpd.control, *words, LC_ALL="C") as screen:
        screen.wait(r"^LAST TEN MINUTES +NOW +MAX$")
        screen.wait(r"^Open connections +0 +3$")
        assert not set(BARS) & set(screen.said)
        screen.type("q")
        left(screen)


def fits(lines: list[str], width: int, height: int) -> bool:
    """Whether the screen was drawn whole in this size."""
    return len(lines) == height and all(len(line) <= width for line in lines)


def test_ctrl_z_gives_the_terminal_back(tmp_path: Path) -> None:
    """While top is stopped, its terminal is as it was; then it draws again."""
    with watching(tmp_path / "none.sock") as screen:
        screen.wait("^unpd is not running")
        screen.type("\x1a")
        until(lambda: state(screen) == "T", 30.0, "the stop")
        assert screen.said.endswith("\x1b[?25h\x1b[?1049l")
        assert screen.modes_now() == screen.modes
        before = len(screen.said)
        screen.process.send_signal(SIGCONT)
        until(lambda: "unpd is not running" in screen.said[before:], 30.0, "the screen anew")
        screen.type("q")
        left(screen)


def state(watched: Watched) -> str:
    """The state of the process, by its letter (proc(5))."""
    found = procs.stat(watched.process.pid)
    return found.state if found else ""


@pytest.mark.parametrize("end", ["\x03", SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(tmp_path: Path, end: str | Signals) -> None:
    """Also Ctrl-C, and where no daemon has ever answered."""
    with watching(tmp_path / "none.sock") as screen:
        screen.wait("^unpd is not running")
        if isinstance(end, str):
            screen.type(end)
        else:
            screen.process.send_signal(end)
        left(screen)


def test_once_prints_text_with_rates(launch: Launch, tmp_path: Path) -> None:
    """Without a terminal, a colour or a control character."""
    unpd = launch(ECHO.format(tmp_path / "control.sock"))
    words = ("top", "--control", str(unpd.control))
    done = unpd.run(*words, "--once", "--interval", "0.1", "--filter", "echo")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert text.startswith("unpd ")
    assert "\nSERVICE  OPEN  " in text
    assert "accepted/s" in text
    facts = "zombies 0, denied networks 0, log lines lost 0"
    assert re.search(rf"^heartbeat [0-9.]+ s ago, {facts}$", text, re.MULTILINE)
    assert "-" not in text.split("\necho ")[1].split("\n")[0]
    assert "\nworker" not in text
    assert text.replace("\n", "").isprintable()


def test_plain_text_goes_on_until_its_reader_goes(launch: Launch, tmp_path: Path) -> None:
    """So ``unpd top | head`` ends, quietly. A pipe is no screen: --plain is implied."""
    unpd = launch(ECHO.format(tmp_path / "control.sock"))
    words = ("top", "--control", str(unpd.control), "--interval", "0.1")
    command = [sys.executable, "-m", "unpd", *words]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as top:
        assert top.stdout is not None
        assert top.stderr is not None
        lines = [top.stdout.readline() for _ in range(60)]
        top.stdout.close()
        top.wait(30)
        assert top.stderr.read() == b""
    assert sum(line.startswith(b"unpd ") for line in lines) >= 2


def test_once_fails_without_a_daemon(tmp_path: Path) -> None:
    """With one sentence."""
    done = run("top", "--once", "--control", str(tmp_path / "none.sock"))
    sentence = f"unpd: {NOT_RUNNING} {tmp_path / 'none.sock'}\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of unpd to its end."""
    return subprocess.run(
        [sys.executable, "-m", "unpd", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_without_rich_one_sentence_says_how_to_install_it(tmp_path: Path) -> None:
    """The text needs no library."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'rich': raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    with watching(tmp_path / "none.sock", PYTHONPATH=f"{tmp_path}:{ROOT}") as screen:
        assert screen.process.wait(30) == 1
        assert screen.said.replace("\r\n", "\n") == (
            "unpd: the screen of unpd top needs the library rich: install it with pip install"
            " rich, or use unpd top --plain, which needs none\n"
        )


FULL_S = 600.0
PICTURES = ROOT / "build/pictures"
BUSY = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
max_connections = 14
[services.daytime]
listen = ["tcp://127.0.0.1:0"]
model = "iterative"
[services.discard]
listen = ["tcp://127.0.0.1:0"]
[services.chargen]
listen = ["tcp://127.0.0.1:0"]
deny = ["0.0.0.0/0"]
"""


class Crowd:
    """Clients that come and go in waves, and some that are denied."""

    def __init__(self, unpd: Unpd) -> None:
        self._echo, self._chargen = unpd.address("echo"), unpd.address("chargen")
        self._idle: list[socket.socket] = []

    def act(self, at_s: float) -> None:
        """Do what the time ``at_s`` since the start asks for."""
        wanted = int(9 + 3.5 * math.sin(at_s / 30))
        while len(self._idle) < wanted:
            self._idle.append(clients.connect(self._echo))
            self._idle[-1].sendall(b"hello")
        while len(self._idle) > wanted:
            self._idle.pop(0).close()
        with contextlib.suppress(OSError):  # denied, or its worker was killed
            for _ in range(int(4 + 3.5 * math.sin(at_s / 40))):
                clients.converse(self._echo, b"short")
            if at_s % 60 < 20:
                clients.connect(self._chargen).close()

    def close(self) -> None:
        """Go home."""
        for sock in self._idle:
            sock.close()


def is_complete(answers: Answers | None) -> bool:
    """Whether there are rates, and the daemon is old enough to tell how much its
    children work.
    """
    return (
        answers is not None
        and answers.previous is not None
        and all(child.now.get("cpu_percent") is not None for child in answers.children())
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "keys", "height"),
    [("top", ("down",), 34), ("top-details", ("enter",), 26), ("top-help", ("?",), 26)],
)
def test_a_picture_of_a_busy_daemon(
    launch: Launch, tmp_path: Path, name: str, keys: tuple[str, ...], height: int
) -> None:
    """For somebody who wants to see what it looks like: build/pictures has each view as
    a picture, of a daemon with clients. The full run of the first takes ten minutes, so
    that its charts are full; a shorter one does not replace the picture of it.
    """
    span_s = FULL_S if (name, scale()) == ("top", 1) else 0.0
    directory = PICTURES if span_s or name != "top" else tmp_path
    unpd = launch(BUSY)
    asker = Asker(unpd.control, Request("status", {"history": True}), 0.5)
    answers: Answers | None = None
    victims = unpd.workers()[:1] if span_s else []
    with contextlib.closing(asker), contextlib.closing(Crowd(unpd)) as crowd:
        began = time.monotonic()
        while (at_s := time.monotonic() - began) < span_s or not is_complete(answers):
            crowd.act(at_s)
            if victims and at_s > 0.8 * span_s:
                os.kill(victims.pop(), SIGKILL)
            if answer := asker.turn():
                answers = answers.then(answer) if answers else Answers(answer)
            pause(0.05)
    assert answers
    view = View()
    for key in keys:
        tables = make_tables(answers, view.orders, view.wanted)
        view = pressed(followed(view, tables), key, tables)
    size = Size(110, height)
    lines = page(view, answers, make_tables(answers, view.orders, ""), "", size)
    console = Console(record=True, width=size.width, height=size.height, file=io.StringIO())
    console.print(painted(lines))
    picture = console.export_svg(title="unpd top")
    directory.mkdir(parents=True, exist_ok=True)
    # The library's own picture asks another host for a font.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    (directory / f"{name}.svg").write_text(picture)
    assert "http" not in picture.replace("http://www.w3.org", "").replace("https://www.textual", "")
    assert "echo" in picture or name == "top-help"


# a daemon that does what a test wants


class Faulty:
    """A listener on a control socket, and the asker that asks it. ``answers``: what the
    asker got.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.asker = Asker(path, Request("status"), 0.01)
        self.answers: list[Answer] = []

    def listen(self, backlog: int = 5) -> None:
        """Begin to listen."""
        self.listener.bind(str(self.path))
        self.listener.listen(backlog)

    def close(self) -> None:
        """End both."""
        self.asker.close()
        self.listener.close()

    def turn(self) -> bool:
        """Let the asker work. Whether it has a question open."""
        if answer := self.asker.turn():
            self.answers.append(answer)
        return self.asker.fileno() is not None

    def answer(self, *pieces: bytes) -> str:
        """Accept the question, answer it in these pieces and break off. Return the
        trouble of the asker.
        """
        until(self.turn, 10.0, lambda: f"a question; {self.asker.trouble}")
        taken, _ = self.listener.accept()
        with taken, contextlib.suppress(BrokenPipeError):
            assert taken.recv(4096).endswith(b"\n")
            for piece in pieces:
                taken.sendall(piece)
                self.turn()
        until(lambda: self.asker.fileno() is None or not self.turn(), 10.0, "the end of it")
        return self.asker.trouble


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    """A daemon that does what a test wants."""
    with contextlib.closing(Faulty(tmp_path / "control.sock")) as found:
        yield found


def told(**changes: Any) -> bytes:
    """An answer with a whole status, but for the changes."""
    return encode_answer(ok=True, status={**example(), **changes})


def test_an_answer_may_come_in_pieces(faulty: Faulty) -> None:
    """As a large one does."""
    faulty.listen()
    whole = told(pid=77)
    assert faulty.answer(whole[:100], whole[100:-1], whole[-1:]) == ""
    assert [answer.status["pid"] for answer in faulty.answers] == [77]


@pytest.mark.parametrize(
    ("pieces", "sentence"),
    [
        ((), str(unanswered())),
        ((told()[:-1],), str(unanswered())),
        (
            (b"nonsense\n",),
            "the daemon's answer is not a line of JSON",
        ),
        ((encode_answer(ok=False, reason="not you"),), "not you"),
        (
            (told(children=7),),
            OTHER_VERSION.format("children"),
        ),
        (
            (b"x" * (1 << 16),) * 80,
            "the daemon's answer is longer than 4194304 bytes",
        ),
    ],
    ids=["no answer", "half an answer", "nonsense", "refused", "another version", "endless"],
)
def test_trouble_is_a_sentence(faulty: Faulty, pieces: tuple[bytes, ...], sentence: str) -> None:
    """Whatever a daemon does, top goes on, and says why it shows nothing new. With the
    next answer that is over.
    """
    faulty.listen()
    assert faulty.answer(*pieces) == sentence
    assert faulty.answer(told()) == ""
    assert len(faulty.answers) == 1


def test_a_daemon_that_comes_back_is_found(faulty: Faulty) -> None:
    """At the same path."""
    assert not faulty.turn()
    assert faulty.asker.trouble == f"{NOT_RUNNING} {faulty.path}"
    faulty.listen()
    assert faulty.answer(told()) == ""


def test_a_full_queue_is_trouble_at_once(faulty: Faulty) -> None:
    """A daemon that is stopped takes no connections, and nothing waits for it."""
    faulty.listen(backlog=0)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(faulty.path))
        assert not faulty.turn()
    sentence = f"unpd takes no connections on {faulty.path}: it is stopped or hung"
    assert faulty.asker.trouble == sentence


@faults.requires_root
def test_a_user_without_the_right_is_told_so(public: Path) -> None:
    """That is no trouble that passes."""
    with contextlib.closing(Faulty(public / "control.sock")) as daemon:
        daemon.listen()
        daemon.path.chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(PrivilegeError, match="user nobody may not use the control socket"):
                daemon.turn()
        finally:
            os.seteuid(0)


@faults.requires_root
def test_a_right_that_is_lost_after_an_answer_may_come_back(public: Path) -> None:
    """While a daemon is started anew, its socket has other rights for a moment."""
    with contextlib.closing(Faulty(public / "control.sock")) as daemon:
        daemon.listen()
        assert daemon.answer(told()) == ""
        daemon.path.chmod(0o600)
        os.seteuid(65534)
        try:
            until(lambda: not daemon.turn() and daemon.asker.trouble, 10.0, "the trouble")
        finally:
            os.seteuid(0)
        assert "user nobody may not use the control socket" in daemon.asker.trouble
        assert daemon.answer(told()) == ""
