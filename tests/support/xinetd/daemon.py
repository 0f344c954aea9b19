"""Starts a real xinetd for a test, and moves the clock of daemons with libfaketime.

Owns the process of xinetd and what libfaketime leaves in /dev/shm. The differential
test calls it. CalledProcessError, or an AssertionError with xinetd's own log, if it
does not start.

The clock that libfaketime moves is that of the date (CLOCK_REALTIME). CLOCK_MONOTONIC
stays, and so do timeouts.
"""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support import procs
from tests.support.faults import find_tool
from tests.support.waiting import until

PATIENCE_S = 10.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - libfaketime's, not ours


@dataclass(frozen=True, slots=True)
class Clock:
    """The date for programs started with :attr:`environment`. It stands still."""

    path: Path
    zone: str

    def set(self, now: int) -> None:
        """Let it be ``now``, in seconds since the epoch."""
        new = self.path.with_suffix(".new")
        new.write_text(str(now))
        new.replace(self.path)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of libfaketime (README.gz of its package), and TZ."""
        return {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_FMT": "%s",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "TZ": self.zone,
        }


def _library() -> str:
    """Return the path of libfaketime, from the program that comes with it."""
    ended = subprocess.run(
        ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"],
        check=True,
        capture_output=True,
        text=True,
    )
    return ended.stdout.strip()


def remove_shared_memory(pid: int) -> None:
    """Remove what libfaketime leaves behind where ``pid`` was killed."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (SHARED_MEMORY / name).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Xinetd:
    """A running xinetd. It has a child for each open connection."""

    pid: int
    log: Path

    def settled(self, open_connections: int) -> None:
        """Wait until it has reaped the children of all other connections."""
        until(
            lambda: len(procs.child_pids(self.pid)) == open_connections,
            PATIENCE_S,
            lambda: (
                f"{open_connections} children of xinetd; there are"
                f" {procs.children(self.pid)}, and its log ends:\n{self.log_text()[-2000:]}"
            ),
        )

    def log_text(self) -> str:
        """Return its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextlib.contextmanager
def running_xinetd(text: str, directory: Path, clock: Clock) -> Iterator[Xinetd]:
    """Run xinetd with the configuration ``text`` for the length of the block."""
    directory.mkdir()
    config = directory / "xinetd.conf"
    config.write_text(text)
    log = directory / "xinetd.log"
    command = [find_tool("xinetd") or "xinetd", "-dontfork", "-f", str(config)]
    files = ["-filelog", str(log), "-pidfile", str(directory / "xinetd.pid")]
    process = subprocess.Popen(
        [*command, *files],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", **clock.environment},
    )
    xinetd = Xinetd(process.pid, log)
    try:
        until(
            lambda: "Started working" in xinetd.log_text(),
            PATIENCE_S,
            lambda: f"xinetd to start: {xinetd.log_text()}",
        )
        yield xinetd
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
            remove_shared_memory(process.pid)
