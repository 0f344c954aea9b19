"""The compiled programs of the benchmark, made under build/ when their source is newer."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

SOURCES = ROOT / "tests" / "benchmarks"
OUT = ROOT / "build" / "benchmarks"
CC = ("gcc", "-O2", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are."""

    load: Path
    epoll: Path
    fork: Path
    splice: Path
    go: Path


def build(peers: bool) -> Programs:
    """Compile the generator, and with ``peers`` the compiled peers."""
    OUT.mkdir(parents=True, exist_ok=True)
    programs = Programs(*(OUT / name for name in ("load", "epoll", "fork", "splice", "goserver")))
    _make(programs.load, CC, SOURCES / "load.c")
    if peers:
        for program in (programs.epoll, programs.fork, programs.splice):
            _make(program, CC, SOURCES / "peers" / f"{program.name}.c", SOURCES / "peers" / "listen.h")
        _make(programs.go, ("go", "build"), SOURCES / "peers" / "goserver.go")
    return programs


def _make(program: Path, compiler: Sequence[str], source: Path, *included: Path) -> None:
    if program.exists() and program.stat().st_mtime >= max(path.stat().st_mtime for path in (source, *included)):
        return
    print(f"building {program.name}", flush=True)
    environment = os.environ | {"GO111MODULE": "off", "GOCACHE": str(OUT / "go-cache"), "GOFLAGS": ""}
    subprocess.run([*compiler, "-o", str(program), str(source)], check=True, env=environment)
