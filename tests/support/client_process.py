"""Runs ``unpd client`` as a process, and reads how it ended. The fixture ``start`` of
the integration tests starts it.
"""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.support import ROOT
from unpd.names import ClientExit

CLIENT = ("-m", "unpd", "client")
PATIENCE_S = 30.0
"""Longer than anything here takes on a busy machine. Only a test that fails waits so
long.
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a client."""

    exit_code: int
    output: bytes
    errors: str


class Running:
    """A running client. Its standard input is a pipe that stays open until ``ended`` is
    called.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def type(self, text: bytes) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(self.process.stdin.fileno(), rest) :]

    def read(self, count: int) -> bytes:
        """Read the next ``count`` bytes of its standard output; fewer only if it
        ended.
        """
        assert self.process.stdout is not None
        text = b""
        while len(text) < count and (
            chunk := os.read(self.process.stdout.fileno(), count - len(text))
        ):
            text += chunk
        return text

    def ended_by_itself(self) -> Ended:
        """Wait for the end while its standard input is still open."""
        self.process.wait(PATIENCE_S)
        return self.ended()

    def ended(self, text: bytes | None = None) -> Ended:
        """Send ``text`` and the end of its standard input, and wait for the end."""
        output, errors = self.process.communicate(text, timeout=PATIENCE_S)
        return Ended(self.process.returncode, output, errors.decode())


StartClient = Callable[..., Running]


@contextmanager
def starting() -> Iterator[StartClient]:
    """Start ``unpd client ...``. Kill what is left of it after the test."""
    with ExitStack() as stack:

        def start_client(
            *words: str | int, stdin: int = subprocess.PIPE, stdout: int = subprocess.PIPE
        ) -> Running:
            command = (sys.executable, "-W", "error", *CLIENT, *map(str, words))
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=environment,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Running(process)

        yield start_client


@contextmanager
def closed_port() -> Iterator[int]:
    """Provide a port that refuses connections. It is bound, so no other program can
    listen there.
    """
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def complaint(ended: Ended, exit_code: ClientExit) -> str:
    """Assert that a client ended with ``exit_code``. Return its one line on standard
    error without the prefix.
    """
    assert ended.exit_code == exit_code, ended
    line = re.fullmatch(r"unpd: client: (.+)\n", ended.errors)
    assert line, ended.errors
    return line[1]


def drop_time(sentence: str) -> str:
    """Replace the time in the sentence."""
    return re.sub(r"after \d+\.\d s", "after T s", sentence)


def time_of(sentence: str) -> float:
    """Return the seconds in the sentence."""
    time_s = re.search(r"after (\d+\.\d) s", sentence)
    assert time_s, sentence
    return float(time_s[1])
