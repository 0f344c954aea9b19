"""The command line with standard descriptors that are closed, full, or not read: no
trace, one sentence, and an exit code that tells what was done.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, clients, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import status
from tests.support.scale import first
from unpd import __version__

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""
FULL = "unpd: cannot write the answer to standard output: No space left on device\n"
CLOSED = "unpd: cannot write the answer to standard output: Bad file descriptor\n"
CLOSED_SETS = [
    "".join(closing)
    for count in (1, 2, 3)
    for closing in itertools.combinations(("<&- ", ">&- ", "2>&- "), count)
]


def unpd(redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``unpd WORDS`` with its standard descriptors redirected by the shell."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "unpd", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("lost", [(">/dev/full", FULL), (">&-", CLOSED)], ids=["full", "closed"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [("--version",), ("--help",), ("run", "--help"), ("client", "echo", "--help"), ("check",)],
    ids=" ".join,
)
def test_an_answer_that_cannot_be_written_is_a_failure(
    words: tuple[str, ...],
    lost: tuple[str, str],
    unbuffered: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Every command that only answers ends with 1 and one sentence, however the
    interpreter buffers.
    """
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    if words == ("check",):
        config = tmp_path / "unpd.toml"
        config.write_text(ECHO)
        words = ("check", "--config", str(config))
    ended = unpd(lost[0], *words)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", lost[1])


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>/dev/full >&-"])
@pytest.mark.parametrize(
    ("words", "code"),
    [(("fly",), 2), (("check", "x"), 2), (("check", "--config", "/nowhere"), 78)],
    ids=["usage", "operand", "configuration"],
)
def test_a_message_that_cannot_be_written_leaves_the_exit_code(
    redirection: str, words: tuple[str, ...], code: int
) -> None:
    """The exit code has to do."""
    ended = unpd(redirection, *words)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")


def test_a_reader_that_has_gone_is_no_news() -> None:
    """A command ends without a message, as others do on SIGPIPE."""
    for words in (("--version",), ("run", "--help")):
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "wb") as pipe:
            ended = subprocess.run(
                [sys.executable, "-m", "unpd", *words],
                cwd=ROOT,
                stdout=pipe,
                stderr=subprocess.PIPE,
                timeout=30.0,
                check=False,
            )
        assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.parametrize(("redirection", "sentence"), [(">/dev/full", FULL), (">&-", CLOSED)])
def test_a_change_that_was_made_is_a_success(
    launch: Launch, redirection: str, sentence: str
) -> None:
    """A reload and a stop end with 0 where nobody gets the words about them; a status
    ends with 1, because the words are all that it does.
    """
    daemon = launch(ECHO)
    control = ("--control", str(daemon.control))
    shown = unpd(redirection, "status", *control)
    assert (shown.returncode, shown.stderr) == (1, sentence)
    reloaded = unpd(redirection, "reload", *control)
    assert (reloaded.returncode, reloaded.stderr) == (0, sentence)
    assert status(daemon)["generation"] == 2
    stopped = unpd(redirection, "stop", *control)
    assert (stopped.returncode, stopped.stderr) == (0, sentence)
    assert daemon.wait_exit() == 0


@pytest.mark.parametrize("redirection", first(3, CLOSED_SETS))
def test_start_needs_no_standard_descriptor(launch: Launch, redirection: str) -> None:
    """``unpd start`` detaches whatever its caller closed, and the daemon serves with
    /dev/null as its standard descriptors.
    """
    prefix = ("sh", "-c", f'exec "$@" {redirection}', "sh")
    daemon = launch(ECHO, detached=True, prefix=prefix)
    assert clients.converse(daemon.address("echo"), b"hello") == b"hello"
    assert {procs.fds(daemon.pid)[fd] for fd in (0, 1, 2)} == {"/dev/null"}
    stop(daemon)


@pytest.mark.parametrize("redirection", first(3, CLOSED_SETS))
def test_a_failed_start_is_reported_as_far_as_it_can_be(tmp_path: Path, redirection: str) -> None:
    """The exit code is that of the reason, and the reason goes to standard error if
    that is open; it never goes to standard output.
    """
    config = tmp_path / "unpd.toml"
    config.write_text("[services.echo]\nlisten = 7\n")
    ended = unpd(redirection, "start", "--config", str(config))
    assert (ended.returncode, ended.stdout) == (78, "")
    assert (str(config) in ended.stderr) == ("2>" not in redirection)
    assert "Traceback" not in ended.stderr


def stop(daemon: Unpd) -> None:
    """Stop a detached daemon."""
    assert daemon.run("stop", "--control", str(daemon.control)).returncode == 0
    assert daemon.wait_exit() == 0


def test_nothing_is_opened_before_they_are_looked_at() -> None:
    """The entry of the command line imports no ctypes: that may open a file, with the
    libffi of Debian 13 and later, which would take the number of a closed one.
    """
    script = "import sys, unpd.cli.main; sys.exit('_ctypes' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60.0)


def test_the_version_is_written_where_it_can_be() -> None:
    """A locale without UTF-8 and a closed standard input do not matter."""
    ended = unpd("<&-", "--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"unpd {__version__}\n", "")
