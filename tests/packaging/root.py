"""A plain Debian 12 or 13 as a directory. mmdebstrap makes it, ~/.cache/unpd-test keeps
it between runs, and nothing writes to it afterwards.

It holds the programs that the tests use inside (python3, nc, a Prometheus server),
because a booted system cannot leave its own network. It does not hold unpd.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import faults


@dataclass(frozen=True, slots=True)
class Suite:
    """A version of Debian. ``python``: the file name of the program of its Python."""

    name: str
    number: int
    python: str


BOOKWORM = Suite("bookworm", 12, "python3.11")
TRIXIE = Suite("trixie", 13, "python3.13")
SUITES = (BOOKWORM, TRIXIE)
PACKAGES = (
    "dbus",
    "libc6",
    "libgcc-s1",
    "libpam-systemd",
    "netcat-openbsd",
    "prometheus",
    "python3",
    "systemd",
    "systemd-sysv",
)
"""They must contain the packages that unpd's package depends on, a bus, through which
systemctl speaks to systemd, and what the systemd of a user needs.
"""
PREPARE = (
    (
        r"printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n'"
        r' >"$1/etc/hosts"'
    ),
    'chroot "$1" systemctl --quiet disable prometheus.service',
)
"""Adds the hosts file, which an installed Debian has and a bare root directory lacks,
and disables the Prometheus server, which runs only when a test starts it.
"""
DOWNLOAD = (
    f'sed -i s/{BOOKWORM.name}/{TRIXIE.name}/g "$1"/etc/apt/sources.list',
    'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq update',
    'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq full-upgrade --yes --download-only',
)
"""Puts into a Debian 12 what an upgrade to 13 needs: a booted system has no network."""

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
"""The programs that the tests need, each with the Debian package that holds it."""


def assert_tools() -> None:
    """AssertionError, with the packages to install, if a tool is missing."""
    missing = {package for program, package in TOOLS.items() if faults.find_tool(program) is None}
    assert not missing, (
        f"the packaging tests need more programs: apt install {' '.join(sorted(missing))}"
    )


def debian(suite: Suite) -> Path:
    """The directory of the plain system. The first call takes half a minute and needs
    the network.
    """
    return _kept(suite, suite.name, PREPARE)


def upgradable() -> Path:
    """The directory of a plain Debian 12 that apt can upgrade to 13 without a network.
    The first call takes a minute and needs the network.
    """
    return _kept(BOOKWORM, "upgradable", (*PREPARE, *DOWNLOAD), skip=("--skip=cleanup/apt",))


def with_installers() -> Path:
    """The directory of a plain Debian 12 that has the installers of Python packages
    too, and what those need who run the source. The first call takes half a minute and
    needs the network.
    """
    more = ("curl", "make", "pipx", "python3-venv")
    return _kept(BOOKWORM, "installers", PREPARE, packages=(*PACKAGES, *more))


def _kept(
    suite: Suite,
    name: str,
    hooks: tuple[str, ...],
    *,
    packages: tuple[str, ...] = PACKAGES,
    skip: tuple[str, ...] = (),
) -> Path:
    sources = _sources(suite)
    content = "\n".join((suite.name, *packages, *hooks, *skip, sources))
    kept = _cache() / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if not kept.exists():
        customize = [f"--customize-hook={hook}" for hook in hooks]
        include = f"--include={','.join(packages)}"
        _make(kept, suite, sources, [include, *customize, *skip])
    return kept


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "unpd-test"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _make(kept: Path, suite: Suite, sources: str, options: list[str]) -> None:
    """Make the system beside its place and rename it, so that ``kept`` is always
    complete. If two runs make it at once, the second throws its own away.
    """
    made = kept.with_name(f"{kept.name}.{os.getpid()}")
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        *options,
        suite.name,
        str(made),
    ]
    if sources:
        command.append("-")
    try:
        subprocess.run(command, input=sources.encode(), check=True)
        if not kept.exists():
            made.rename(kept)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sources(suite: Suite) -> str:
    """This machine's own sources of Debian, for ``suite``, as lines of sources.list. ""
    if it has none: mmdebstrap then uses its default.
    """
    found = _listed(suite)
    if not found:
        subprocess.run(["apt-get", "-qq", "update"], check=False)
        found = _listed(suite)
    return found


def _listed(suite: Suite) -> str:
    form = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Identifier: Packages", "Origin: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    known = "|".join(each.name for each in SUITES)
    lines = sorted(
        {
            re.sub(rf" ({known})(?=[ -])", f" {suite.name}", line)
            for line in listed.stdout.splitlines()
            if re.fullmatch(known, line.split()[2].partition("-")[0]) and line.endswith(" main")
        }
    )
    return "".join(f"{line}\n" for line in lines)
