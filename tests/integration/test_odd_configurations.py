"""Configurations that nobody expects: a daemon refuses them at a reload and goes on, or
serves with them like with any other.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT, clients
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.operating import refused_reload, reload
from tests.support.waiting import until
from unpd.names import ExitCode

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
NO_INTERFACE = '[services.echo]\nlisten = ["tcp://127.0.0.1:0", "tcp://[fe80::1%eth0..1]:7777"]\n'


def test_a_missing_interface_is_refused_by_check_and_reload(launch: Launch) -> None:
    """``unpd check`` and ``unpd reload`` refuse a listener on an interface that this
    host lacks, however its name looks. The old configuration goes on serving.
    """
    unpd = launch(ECHO)
    pid = unpd.pid
    reason = refused_reload(unpd, NO_INTERFACE)
    assert (
        "service echo cannot listen on tcp://[fe80::1%eth0..1]:7777: this host has no such"
        " interface" in reason
    )
    ended = unpd.run("check", "--config", str(unpd.config_path))
    assert ended.returncode == ExitCode.CONFIGURATION
    assert b'services.echo.listen: this host has no interface "eth0..1"\n' in ended.stderr
    assert unpd.pid == pid
    assert clients.converse(unpd.address("echo"), b"still here") == b"still here"
    assert reload(unpd, ECHO)


ODD_NAME = "my echo, \u00e9 %20 'x' [1]:{2}"


def test_a_unix_path_may_have_any_printable_character(launch: Launch, tmp_path: Path) -> None:
    """A UNIX listener whose path has spaces, quotes and more serves, survives a reload,
    and shows its path in the log, the status and the kernel's list. Our client reaches
    it. (Metrics have no series for UNIX listeners.)
    """
    path = tmp_path / ODD_NAME
    text = f'[services.echo]\nlisten = ["unix://{path}"]\n'
    unpd = launch(text)
    for _ in range(2):
        assert clients.converse(str(path), b"hello") == b"hello"
        reload(unpd, text)
    assert unpd.log_events("listener.opened", service="echo", address=f"unix://{path}")
    shown = unpd.run("status", "--control", str(unpd.control)).stdout.decode()
    assert f"unix://{path}  open   -" in shown
    ended = unpd.run("client", "echo", str(path))
    assert (ended.returncode, ended.stderr) == (0, b"")
    listed = subprocess.run(["ss", "-xlH"], capture_output=True, check=True).stdout
    assert os.fsencode(f" {path} ") in listed
    unpd.stop()
    assert not path.exists()


def test_the_text_log_quotes_a_path_with_spaces(launch: Launch, tmp_path: Path) -> None:
    """In a log of text, the address is one word in quotes."""
    path = tmp_path / "my echo"
    unpd = launch(
        f'[log]\nformat = "text"\n[services.echo]\nlisten = ["unix://{path}"]\n', ready=False
    )
    line = f'listener.opened service=echo address="unix://{path}"\n'
    until(lambda: line in unpd.log_text(), 10.0, "the listener in the log")
    unpd.stop()


def test_the_descriptor_store_keeps_a_path_with_spaces(
    launch: Launch, systemd: FakeSystemd, tmp_path: Path
) -> None:
    """A listener whose path has spaces comes back from the descriptor store: after a
    crash it serves on the same socket file.
    """
    path = tmp_path / ODD_NAME
    text = f'[services.echo]\nlisten = ["unix://{path}"]\n'
    first = systemd.start(launch, text)
    first.expect_leftover(path)
    assert clients.converse(str(path), b"one") == b"one"
    inode = path.stat().st_ino
    systemd.kill(first)
    second = systemd.start(launch, text)
    second.expect_leftover(path)
    assert clients.converse(str(path), b"two") == b"two"
    assert path.stat().st_ino == inode


def test_a_character_that_the_locale_lacks_is_refused(tmp_path: Path) -> None:
    """Where the locale cannot write a character, a path with it is refused with a
    remedy, and an account of that name does not exist. Neither ends in a traceback.
    """
    config = tmp_path / "unpd.toml"
    config.write_text(
        '[daemon]\nuser = "\u00e9"\n[services.echo]\nlisten = ["unix:///run/\u00e9"]\n'
        '[services.cat]\ntype = "exec"\nlisten = ["tcp://127.0.0.1:0"]\ncommand = ["/bin/cat"]\n'
        'user = "\u00e9"\n'
    )
    ended = subprocess.run(
        [sys.executable, "-m", "unpd", "check", "--config", str(config)],
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == ExitCode.CONFIGURATION
    assert ended.stderr.splitlines() == [
        f'unpd: {config}:2: daemon.user: there is no user "\\u00e9" on this system',
        (
            f'unpd: {config}:4: services.echo.listen: "/run/\\u00e9" has a character that this'
            " locale lacks: run unpd with LC_ALL=C.UTF-8"
        ),
        f'unpd: {config}:9: services.cat.user: there is no user "\\u00e9" on this system',
    ]
