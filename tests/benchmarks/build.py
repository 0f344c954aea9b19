"""Compiles the programs of the benchmark under build/ when their source is newer."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

SOURCES = ROOT / "tests" / "benchmarks"
OUT = ROOT / "build" / "benchmarks"
CC = ("gcc", "-O2", "-Wall", "-Wextra")
"""Warnings are shown but are no errors. A newer compiler finds new ones, and the
benchmark has to run there too.
"""


@dataclass(frozen=True, slots=True)
class Places:
    """The files of results: the page, the JSON of the last whole run, of the one before
    it, and of any other run.
    """

    page: Path = SOURCES / "RESULTS.md"
    last: Path = OUT / "results.json"
    previous: Path = OUT / "previous.json"
    partial: Path = OUT / "partial.json"


PLACES = Places()


@dataclass(frozen=True, slots=True)
class Programs:
    """The paths of the programs. ``other`` is a tree with another unpd to measure
    beside ours.
    """

    load: Path
    epoll: Path
    udp: Path
    chargen: Path
    fork: Path
    splice: Path
    answer: Path
    execing: Path
    go: Path
    other: Path | None = None


def build(peers: bool, other: Path | None = None) -> Programs:
    """Compile the generator, and with ``peers`` the compiled peers. Compile the
    bytecode of unpd and of the ``other`` tree's unpd, as pip does at an installation.
    Otherwise every start would compile it again where unpd cannot write to the tree.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    programs = Programs(
        load=OUT / "load",
        epoll=OUT / "epoll",
        udp=OUT / "udp",
        chargen=OUT / "chargen",
        fork=OUT / "fork",
        splice=OUT / "splice",
        answer=OUT / "answer",
        execing=OUT / "execing",
        go=OUT / "goserver",
        other=other,
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "compileall",
            "-q",
            *(str(tree / "unpd") for tree in (ROOT, other) if tree),
        ],
        check=True,
    )
    _make(programs.load, CC, SOURCES / "load.c")
    only_peers = (
        programs.udp,
        programs.chargen,
        programs.fork,
        programs.splice,
        programs.execing,
    )
    # The echo behind a redirect is one of the peers.
    for program in (programs.epoll, programs.answer, *(only_peers if peers else ())):
        _make(program, CC, SOURCES / "peers" / f"{program.name}.c", SOURCES / "peers" / "listen.h")
    if peers:
        _make(programs.go, ("go", "build"), SOURCES / "peers" / "goserver.go")
    return programs


def _make(program: Path, compiler: Sequence[str], source: Path, *included: Path) -> None:
    if program.exists() and program.stat().st_mtime >= max(
        path.stat().st_mtime for path in (source, *included, Path(__file__))
    ):
        return
    print(f"building {program.name}", flush=True)
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOCACHE": str(OUT / "go-cache"),
        "GOFLAGS": "",
    }
    subprocess.run([*compiler, "-o", str(program), str(source)], check=True, env=environment)
