"""What pip brings for a package: the tools of the build, and the libraries of the lock
for several versions of CPython side by side.

build.py and image.py call this module; it runs pip. Wheels and tools come from the
index that pip is configured for. The locks pin them by hash, and build/package keeps
them between builds. Errors: SystemExit if the wheels for two versions of Python do not
fit beside each other, and a trace if pip fails.

The same lock gives the same files, whatever interpreter runs the build: wheels are
chosen by the tags of the target.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = ROOT / "build" / "package"
PLATFORMS = tuple(
    f"{glibc}_x86_64" for glibc in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
)
COMPILED = re.compile(r"\.cpython-\d+-x86_64-linux-gnu\.so$")
"""The end of the name of a compiled module, which names the version of CPython that it
fits: the modules of several versions lie side by side.
"""
KEPT_METADATA = {"METADATA", "sboms"}
"""The entries of a .dist-info directory that stay: they name the library, its version
and the components that it was compiled from.
"""


def tools() -> Path:
    """The directory of the tools of tools.lock; only the first build installs them."""
    lock = HERE / "tools.lock"
    return cached(
        "tools",
        lock,
        lambda into: pip(
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--target",
            str(into),
            "--requirement",
            str(lock),
        ),
    )


def cached(name: str, lock: Path, fill: Callable[[Path], None]) -> Path:
    """The directory that ``fill`` filled from exactly this lock, now or in an earlier
    build. It gets its name only when it is complete.
    """
    place = CACHE / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not place.exists():
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=CACHE) as directory:
            fill(Path(directory, "whole"))
            try:
                Path(directory, "whole").rename(place)
            except OSError:
                if not place.exists():  # it exists if another build was quicker
                    raise
    return place


def pip(*arguments: str) -> None:
    """Run pip, which takes its index from its own configuration."""
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], check=True
    )


def install_wheels(part: Path, python: str, directory: Path) -> None:
    """Install the wheels of a directory for one version of CPython in ``part``."""
    offline = ("--no-index", "--find-links", str(directory))
    pip("install", *locked(python), *offline, "--no-compile", "--target", str(part))


def wheels(pythons: Sequence[str]) -> Path:
    """The directory of the wheels of requirements.lock for these versions of CPython,
    and of no others; only the first build downloads them.
    """

    def download(into: Path) -> None:
        for python in pythons:
            pip("download", *locked(python), "--dest", str(into))

    name = "-".join(("wheels", *pythons))
    return cached(name, HERE / "requirements.lock", download)


def locked(python: str) -> list[str]:
    """The options of pip for exactly what requirements.lock says, for one version of
    CPython on x86-64, whatever interpreter runs pip.
    """
    abis = (f"cp{python.replace('.', '')}", "abi3", "none")
    return [
        *("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", python),
        *(word for abi in abis for word in ("--abi", abi)),
        *(word for platform in PLATFORMS for word in ("--platform", platform)),
        *("--requirement", str(HERE / "requirements.lock")),
    ]


def remove_what_only_pip_needs(part: Path) -> None:
    """Remove the programs of libraries, and of each .dist-info directory all but
    :data:`KEPT_METADATA`.
    """
    if (part / "bin").exists():
        shutil.rmtree(part / "bin")
    for info in part.glob("*.dist-info"):
        for entry in info.iterdir():
            if entry.name not in KEPT_METADATA:
                remove(entry)


def put_side_by_side(parts: Sequence[Path], library: Path) -> None:
    """Copy the parts, one for each version of CPython, into one directory. SystemExit
    if they differ in more than their compiled modules: one would not fit its Python.
    """
    first = other_content(parts[0])
    for part in parts[1:]:
        differing = {name for name, _ in first.items() ^ other_content(part).items()}
        if differing:
            raise SystemExit(
                f"the wheels for Python {parts[0].name} and {part.name} differ in"
                f" {', '.join(sorted(differing))}"
            )
    for part in reversed(parts):  # the files that all have come from the first
        shutil.copytree(part, library, dirs_exist_ok=True)


def other_content(part: Path) -> dict[str, bytes]:
    """Every file that is no compiled module, by its name."""
    return {
        str(path.relative_to(part)): essence(path)
        for path in part.rglob("*")
        if path.is_file() and not COMPILED.search(path.name)
    }


def essence(path: Path) -> bytes:
    """The content of a file. A list of components (SBOM) is taken without the number
    and the time that its maker gave it: each wheel has its own.
    """
    content = path.read_bytes()
    if path.parent.name != "sboms":
        return content
    made = json.loads(content)
    del made["serialNumber"], made["metadata"]["timestamp"]
    return json.dumps(made).encode()


def remove(path: Path) -> None:
    """Remove a file, or a directory with its content."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
