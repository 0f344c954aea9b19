"""A plain Debian 12 as a directory. mmdebstrap makes it, ~/.cache/unpd-test keeps it
between runs, and nothing writes to it afterwards.

It holds the programs that the tests use inside (python3, nc, a Prometheus server),
because a booted system cannot leave its own network. It does not hold unpd.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support import faults

SUITE = "bookworm"
PACKAGES = (
    "dbus",
    "libc6",
    "libgcc-s1",
    "netcat-openbsd",
    "prometheus",
    "python3",
    "systemd",
    "systemd-sysv",
)
"""They must contain the packages that unpd's package depends on, and a bus, through
which systemctl speaks to systemd.
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


def debian() -> Path:
    """The directory of the plain system. The first call takes half a minute and needs
    the network.
    """
    sources = _sources()
    key = hashlib.sha256("\n".join((SUITE, *PACKAGES, *PREPARE, sources)).encode()).hexdigest()[:12]
    kept = _cache() / f"{SUITE}-{key}"
    if not kept.exists():
        _make(kept, sources)
    return kept


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "unpd-test"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _make(kept: Path, sources: str) -> None:
    """Make the system beside its place and rename it, so that ``kept`` is always
    complete. If two runs make it at once, the second throws its own away.
    """
    made = kept.with_name(f"{kept.name}.{os.getpid()}")
    hooks = [f"--customize-hook={hook}" for hook in PREPARE]
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        *hooks,
        SUITE,
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


def _sources() -> str:
    """This machine's own sources of Debian 12, as lines of sources.list. "" if it has
    none: mmdebstrap then uses its default.
    """
    found = _listed()
    if not found:
        subprocess.run(["apt-get", "-qq", "update"], check=False)
        found = _listed()
    return found


def _listed() -> str:
    form = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Identifier: Packages", "Origin: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = sorted(
        {
            line
            for line in listed.stdout.splitlines()
            if line.split()[2].partition("-")[0] == SUITE and line.endswith(" main")
        }
    )
    return "".join(f"{line}\n" for line in lines)
