"""Runs the load generator (load.c) step by step. While it stands between two steps
nothing moves, so the server can be measured.
"""

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STEP_S = 60.0
"""The longest time of a step. The generator itself gives up after 5 s without an
answer.
"""


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts of the generator. ``cpu_s`` is its own time. Latencies exist in mode
    idle only. ``lost`` counts datagrams without an answer, which are no operations.
    """

    seconds: float
    operations: int
    errors: int
    short_reads: int
    lost: int
    first_error: str
    p50_us: float
    p99_us: float
    cpu_s: float

    @property
    def fault(self) -> str:
        """Why this run has no figure; "" if it has one."""
        if self.errors or self.short_reads:
            return (
                f"{self.errors} errors and {self.short_reads} short reads; the first:"
                f" {self.first_error}"
            )
        return "" if self.operations else "no operation came to its end"


class Generator:
    """A running generator. ``wait(word)`` waits until it stands at that step, ``go()``
    starts the next one.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._pending = b""

    def wait(self, word: str) -> None:
        """Wait until the generator prints ``word``."""
        said = self._line()
        if said != word:
            raise RuntimeError(f"the generator printed {said!r} instead of {word!r}")

    def go(self) -> None:
        """Start the next step."""
        self._stdin.write(b"go\n")
        self._stdin.flush()

    def tally(self) -> Tally:
        """Return the counts of a step of work. Its connections are still open."""
        return Tally(**json.loads(self._line()))

    def _line(self) -> str:
        deadline = time.monotonic() + STEP_S
        while b"\n" not in self._pending:
            ready, _, _ = select.select(
                [self._stdout], [], [], max(0.0, deadline - time.monotonic())
            )
            piece = os.read(self._stdout.fileno(), 65536) if ready else b""
            if not piece:
                raise RuntimeError(
                    "the generator ended too early"
                    if ready
                    else f"the generator took more than {STEP_S} s"
                )
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()


@contextlib.contextmanager
def generator(program: Path, cpu: int, arguments: Sequence[str]) -> Iterator[Generator]:
    """Start the generator on ``cpu``. At the end of the block, where it stands at a
    step, it closes its connections and ends.
    """
    command = ["taskset", "-c", str(cpu), str(program), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        try:
            yield Generator(process)
        except BaseException:
            process.kill()
            raise
