"""The section "UNP in unpd" of the README: each file and function is there, and each
command prints what the README says.

The commands run as they stand there, against a daemon that its first block starts. They
run in namespaces of their own, where no other process has its ports, its paths or its
names.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support import ROOT, faults
from tests.support.apart import apart
from tests.support.waiting import until

SECTION = (ROOT / "README.md").read_text().split("## UNP in unpd\n", 1)[1].split("\n## ", 1)[0]
BLOCKS = re.findall(r"```console\n(.*?)```", SECTION, re.DOTALL)
HEAD = "| topic | in unpd | try | it prints |\n|---|---|---|---|\n"
HOSTS = "config/unp-hosts "
READY_S = 30.0
LIMIT = ("timeout", "--signal=KILL", "30")
"""Ends a shell with all that it started, in seconds."""

PLACEHOLDERS = {
    "...": ".*",
    "PID": r"\d+",
    "PORT": r"\d+",
    "FD": r"\d+",
    "COUNT": r"[1-9]\d*\.0",
    "S": r"\d+\.\d",
    "TIME": r"\w{3} \w{3} {1,2}\d{1,2} \d\d:\d\d:\d\d \d{4}",
}
"""What the names in the last column stand for, as regular expressions."""
NEEDED = ("unshare", "nsenter", "setpriv", "strace", "pstree", "ss", "ip", "curl", "pgrep")


def needs_a_machine(test: Callable[..., None]) -> Callable[..., None]:
    """Skip a test where the programs or the namespaces of the section are missing. The
    commands wait for seconds, so the test is slow.
    """
    marked: Callable[..., None] = pytest.mark.slow(faults.requires_namespaces()(test))
    for name in NEEDED:
        marked = faults.requires_tool(name)(marked)
    return marked


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: its topic, the cell that names files and functions, a
    command, and the lines that it prints.
    """

    topic: str
    places: str
    command: str
    printed: tuple[str, ...]


def code_of(cell: str) -> tuple[str, ...]:
    """The texts between backticks."""
    return tuple(re.findall(r"`([^`]*)`", cell))


def table() -> list[Row]:
    """The rows of the table, and the block with pstree as a row."""
    lines = SECTION.split(HEAD, 1)[1].strip().splitlines()
    rows = []
    for line in lines:
        _, topic, places, command, printed, _ = re.split(r"(?<!\\)\|", line)
        rows.append(Row(topic.strip(), places, code_of(command)[0], code_of(printed)))
    return rows


def pstree() -> Row:
    """The block that shows the processes, as a row."""
    command, *printed = BLOCKS[2].removeprefix("$ ").splitlines()
    return Row("pstree", "", command, tuple(printed))


def children() -> int:
    """How many children the daemon has, as that block shows them."""
    return sum(line.startswith(("  |-", "  `-")) for line in pstree().printed)


def shells() -> tuple[str, str]:
    """What the README has a reader type first in each of the two shells."""
    typed = [
        "\n".join(line.removeprefix("$ ") for line in block.splitlines()) for block in BLOCKS[:2]
    ]
    return typed[0], typed[1]


def pattern(line: str) -> str:
    """The regular expression for a line that a command prints."""
    words = re.split(r"(\.\.\.|\b(?:PID|PORT|FD|COUNT|S|TIME)\b)", line)
    return "".join(PLACEHOLDERS.get(word, re.escape(word)) for word in words)


def matches(printed: str, expected: tuple[str, ...]) -> bool:
    """Whether a command printed these lines. Blanks count as one."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    wanted = [" ".join(line.split()) for line in expected]
    return len(lines) == len(wanted) and all(
        re.fullmatch(pattern(want), line) for line, want in zip(lines, wanted, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """Namespaces as good as a machine of their own. ``prefix`` goes before a command
    that runs there; ``directory`` looks like the source tree.
    """

    prefix: tuple[str, ...]
    directory: Path

    def of_user(self) -> "Machine":
        """The same for a user who is not root. The user may read all files, because the
        source tree or Python may lie where only root can look.
        """
        self.directory.chmod(0o777)
        user = ("--reuid=65534", "--regid=65534", "--clear-groups")
        reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        home = f"XDG_RUNTIME_DIR={self.directory}"
        return replace(self, prefix=(*self.prefix, "setpriv", *user, *reads, "env", home))

    def shell(self, script: str, limit: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The command that runs a script there. The script is a file, so that no
        ``pgrep -f`` finds its own text.
        """
        path = self.directory / ("typed" if limit else "typed-first")
        path.write_text(f"cd {self.directory}\n{script}\n")
        return (*self.prefix, *limit, "bash", str(path))

    def run(self, script: str) -> str:
        """Run a script there; return what it prints, errors included."""
        return subprocess.run(
            self.shell(script, LIMIT),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        ).stdout


def environment() -> dict[str, str]:
    """The environment of the shells."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """Make the namespaces; end all processes in them afterwards."""
    (directory / ".venv").symlink_to(sys.prefix)
    (directory / "config").symlink_to(ROOT / "config")
    with apart("mount -t tmpfs -o mode=0755 tmpfs /run") as there:
        yield Machine(there.prefix, directory)


def is_ready(log: str) -> bool:
    """Whether the master and all its children are ready, as the log has it."""
    return len(re.findall(r" \w+\.ready ", log)) == 1 + children()


@contextmanager
def started(there: Machine) -> Iterator[None]:
    """Start the daemon as the README does in the first shell; stop it afterwards. A
    reader types the first command when all children have started: one that has not
    taken its title yet would look like a second master.
    """
    log = there.directory / "log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(there.shell(shells()[0]), env=environment(), stderr=stderr) as first,
    ):
        try:
            until(lambda: is_ready(log.read_text()), READY_S, log.read_text)
            yield
            there.run("kill $(pgrep -nf '^unpd: master')")
            assert first.wait(READY_S) == 0, log.read_text()
        finally:
            first.kill()  # if it is still there; the rest ends with the machine


@pytest.mark.parametrize("row", table(), ids=lambda row: row.topic)
def test_the_files_and_functions_are_there(row: Row) -> None:
    """Each file that the table names is there, and has the functions that follow it."""
    defined: set[str] = set()
    for name in code_of(row.places):
        if "/" in name:
            defined = set(definitions((ROOT / name).read_text()))
        else:
            assert name in defined, f"{name} is not in the file before it"


def definitions(source: str) -> Iterator[str]:
    """The functions and classes of a module, and the methods as Class.method."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (
                f"{node.name}.{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef)
            )


def check(there: Machine, rows: list[Row]) -> None:
    """Type the command of each row in the second shell; compare what it prints."""
    wrong = []
    for row in rows:
        printed = there.run(f"{shells()[1]}\n{row.command}")
        if not matches(printed, row.printed):
            expected = "\n".join(row.printed)
            wrong.append(f"{row.topic}: $ {row.command}\n{printed}-- README:\n{expected}")
    assert not wrong, "\n\n".join(wrong)


@needs_a_machine
def test_each_command_prints_what_the_readme_says(tmp_path: Path) -> None:
    """Each command for the daemon prints the lines beside it, without root."""
    rows = [row for row in table() if not row.command.startswith(HOSTS)]
    with machine(tmp_path) as there, started(there.of_user()):
        check(there.of_user(), [pstree(), *rows])


@needs_a_machine
@pytest.mark.parametrize(
    "row",
    [row for row in table() if row.command.startswith(HOSTS)],
    ids=lambda row: row.topic,
)
def test_a_client_sees_how_a_host_ends(tmp_path: Path, row: Row) -> None:
    """Each command with two hosts of its own prints the lines beside it."""
    with machine(tmp_path) as there:
        check(there, [row])
