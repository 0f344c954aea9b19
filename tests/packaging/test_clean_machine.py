"""The rows of the README's table of ways to install that get libraries from the package
index: what a row says, word for word, leads from a clean Debian 12 to a service that
tells the time.

The machine has no network. So the wheels that an installer would download lie in it,
and variables of the environment say so. pipx comes from Debian there, and uv as the
README says.
The wheels come from the package index that pip is configured for.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT

import pytest

from tests.packaging.account import Account, root, user
from tests.packaging.machine import Machine, booted
from tests.packaging.root import BOOKWORM, with_installers
from tests.support import ROOT, clients, documented, procs
from tests.support.waiting import until

pytestmark = pytest.mark.packaging

WHEELS = "/srv/wheels"
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": WHEELS,
    "UV_OFFLINE": "1",
    "UV_FIND_LINKS": WHEELS,
    "UV_PYTHON_DOWNLOADS": "never",
}
INSTALLERS = ("pip", "setuptools", "wheel", "uv", "hatchling", "editables")
"""uv, what pipx installs for itself, and what pip needs to install the source."""
DAYTIME = '[services.daytime]\nlisten = ["tcp://127.0.0.1:{port}"]\n'
INSTALL_S = 300.0
ANSWER_S = 20.0
STATUS = ".venv/bin/unpd status"
"""The first command of the tour that prints what no other machine does."""
NOT_SOURCE = (".*", "build", "dist", "__pycache__")
VARYING = re.compile(
    r"\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}"  # a date
    r"|\d\.\d s\b"
    r'|(?<=,state="ready"} )\d+|(?<=_wanted{kind="worker",pool="default"} )\d+'
)
"""What the tour's commands print differently elsewhere: times, and how many workers
there are.
"""


def run(*arguments: str) -> None:
    """Run Python in this tree. AssertionError, with its output, if it fails."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the wheel of unpd, made as the README says, and all others."""
    directory = tmp_path_factory.mktemp("wheels")
    made = shlex.split(documented.command_of_the_wheel())
    assert made[0] == "python3"
    run(*(str(directory) if word == "dist" else word for word in made[1:]))
    (unpd,) = directory.glob("unpd-*.whl")
    there = ("--python-version", BOOKWORM.python.removeprefix("python"), "--only-binary", ":all:")
    run("-m", "pip", "download", *there, "--dest", str(directory), f"{unpd}[top]", *INSTALLERS)
    return directory


@pytest.fixture
def clean(can_boot: None, wheels: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine that never had an unpd. The test runs in its network."""
    with booted(with_installers(), tmp_path / "console") as machine:
        shutil.copytree(wheels, machine.path(WHEELS))
        machine.path(WHEELS).chmod(0o755)
        with machine.network():
            yield machine


def installed(account: Account, way: str, config: str, port: int) -> None:
    """Install as the README says, write a configuration, and follow the steps that its
    last command has printed. AssertionError if the service does not tell the time.
    """
    (wheel,) = account.machine.path(WHEELS).glob("unpd-*.whl")
    commands, then = documented.ways_to_install()[way]
    assert any("PACKAGE" in command for command in commands)
    for command in commands:
        account.run(command.replace("PACKAGE", f"{WHEELS}/{wheel.name}"), timeout_s=INSTALL_S)
    (units,) = then
    printed = account.run(units).stdout
    account.machine.put(config, DAYTIME.format(port=port))
    account.follow(printed)
    assert len(clients.ask(("127.0.0.1", port)).split()) == 5


def test_pip_as_root(clean: Machine) -> None:
    """The systemd of the machine runs the service, as the user unpd."""
    installed(root(clean, OFFLINE), "pip", "/etc/unpd/unpd.toml", 13)
    show = ("systemctl", "show", "--value", "--property", "User,ActiveState", "unpd")
    assert set(clean.run(*show).stdout.split()) == {"unpd", "active"}


@pytest.mark.parametrize("way", ["pipx", "uv"])
def test_a_user_without_root(clean: Machine, way: str) -> None:
    """The systemd of that user runs the service."""
    alice = user(clean, "alice", OFFLINE)
    if way == "uv":
        as_root = root(clean, OFFLINE)
        for command in documented.commands_for_uv():
            as_root.run(command, timeout_s=INSTALL_S)
    installed(alice, way, "/home/alice/.config/unpd/unpd.toml", 10013)
    assert alice.run("systemctl --user is-enabled unpd").stdout == "enabled\n"


def alike(printed: str) -> str:
    """What a command prints, without what differs from one machine to the other."""
    return VARYING.sub("...", printed).strip()


def read_to(process: subprocess.Popen[str], event: str) -> None:
    """Read what a program prints, up to an event. AssertionError, with all of it, if
    the program ends before.
    """
    printed = []
    assert process.stdout
    for line in process.stdout:
        printed.append(line)
        if f" {event} " in line:
            return
    raise AssertionError("".join(printed))


def test_the_source(clean: Machine) -> None:
    """``make run``, as a user has it in a copy of this tree, serves what the README's
    tour asks for. An interrupt ends it.
    """
    (make_run, _), *tour = documented.typed("A tour of 60 seconds")
    assert documented.ways_to_install()["the source"] == ([make_run], [])
    *asked, (scrape, samples) = tour[: [command for command, _ in tour].index(STATUS)]
    alice = user(clean, "alice", OFFLINE)
    tree = clean.path("/home/alice/unpd")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    clean.run("chown", "--recursive", "alice:alice", "/home/alice/unpd")

    def printed(command: str) -> str:
        return alike(alice.run(f"cd unpd; exec 2>&1; {command}").stdout)

    with alice.start(f"cd unpd; {make_run}") as make:
        try:
            read_to(make, "master.ready")
            for command, shown in asked:
                assert printed(command) == alike(shown), command
            until(lambda: printed(scrape) == alike(samples), ANSWER_S, lambda: printed(scrape))
            below = procs.descendants(make.pid)
            (master,) = (each.pid for each in below if each.title.startswith("unpd: master"))
            os.kill(master, SIGINT)
            assert make.wait(ANSWER_S) == 0
        finally:
            procs.kill(each.pid for each in procs.descendants(make.pid))  # after a failure
