"""The Pythons of this machine from 3.11 on: those on PATH, and those that pyenv built.

Called by the packaging tests. ``python -m tests.support.pythons`` prints the path of
the newest one that is of another version than the Python that runs it, for ``.ci/run``.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
"""The versions for which unpd has packages."""
ASK = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"


def found() -> dict[str, Path]:
    """The programs by their versions, such as "3.12", the oldest first."""
    pythons = {running(): Path(sys.executable)}
    for candidate in _candidates():
        version, path = _asked(candidate)
        if version:
            pythons.setdefault(version, path)
    return dict(sorted(pythons.items(), key=lambda pair: _number(pair[0])))


def running() -> str:
    """The version of the Python that runs."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _candidates() -> Iterator[Path]:
    """What may be a Python from 3.11 on. A program on PATH may be the script of a
    version manager, which fails.
    """
    for directory in os.get_exec_path():
        yield from sorted(Path(directory).glob("python3.[0-9][0-9]"))
    manager = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(manager.glob("versions/3.*/bin/python3.[0-9][0-9]"))


def _asked(candidate: Path) -> tuple[str, Path]:
    """The version of a program and its own path; "" if it is none of ours, or no
    Python.
    """
    if not re.fullmatch(r"python3\.\d\d", candidate.name) or not shutil.which(candidate):
        return "", candidate
    asked = subprocess.run(
        [candidate, "-IS", "-c", ASK], check=False, capture_output=True, text=True
    )
    version, _, path = asked.stdout.strip().partition(" ")
    fits = asked.returncode == 0 and OLDEST <= _number(version) <= NEWEST
    return (version if fits else ""), Path(path)


def _dotted(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> None:
    """Print another Python than this one. SystemExit, with a sentence, if there is
    none.
    """
    others = [path for version, path in found().items() if version != running()]
    if not others:
        raise SystemExit(
            f"The default tests have to run with a second Python, and {running()} is the only"
            f" one from {_dotted(OLDEST)} to {_dotted(NEWEST)} on PATH or from pyenv."
        )
    print(others[-1].resolve())


if __name__ == "__main__":
    main()
