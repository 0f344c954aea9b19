"""The ledger client: a load whose every attempt ends in exactly one outcome, so that
"nothing was lost" can be counted instead of believed.

The load runs in a process of its own (:mod:`tests.support.load`); the test reads its
counts at any moment and gets the whole ledger from :meth:`Client.stop`.
"""

import contextlib
import dataclasses
import json
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tests.support import ROOT
from tests.support.clients import Address
from tests.support.load import ATTEMPTS_AT, OUTCOMES, OUTCOMES_AT, WORDS, Order
from tests.support.waiting import until

STOP_SLACK_S = 10.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of a load. Durations in seconds; ``latency_s`` of the ok ones by p50,
    p99, p999, max; ``longest_gap_s`` between two ok ones; ``details`` counts the
    failures by outcome and errno.
    """

    attempts: int
    outcomes: Mapping[str, int]
    duration_s: float
    longest_gap_s: float
    latency_s: Mapping[str, float]
    details: Mapping[str, int]

    def balance(self) -> None:
        """Invariant I1: every attempt has exactly one outcome."""
        total = sum(self.outcomes.values())
        assert self.attempts == total, (
            f"{self.attempts} attempts but {total} outcomes: {dict(self.outcomes)}"
        )
        assert set(self.outcomes) == set(OUTCOMES), (
            f"not the outcomes there are: {sorted(self.outcomes)}"
        )

    @property
    def ok(self) -> int:
        """Attempts that got their whole reply and a FIN."""
        return self.outcomes["ok"]

    @property
    def rate(self) -> float:
        """Attempts a second, as achieved."""
        return self.attempts / self.duration_s

    def failed(self) -> dict[str, int]:
        """The outcomes other than ok that occurred."""
        return {
            outcome: count for outcome, count in self.outcomes.items() if count and outcome != "ok"
        }

    def assert_clean(self, *, at_least: int = 1, allow: Mapping[str, int] | None = None) -> None:
        """Every attempt was ok, but for at most ``allow[outcome]`` of each; and there
        were ``at_least`` of them, so that silence is no success.
        """
        allowed = allow or {}
        excess = {
            outcome: count
            for outcome, count in self.failed().items()
            if count > allowed.get(outcome, 0)
        }
        assert not excess, f"of {self.attempts} attempts: {excess}; {dict(self.details)}"
        assert self.ok >= at_least, (
            f"only {self.ok} attempts were ok, {at_least} are needed for the test to say anything"
        )


def cut_off(count: int) -> Mapping[str, int]:
    """To allow where ``count`` connections were with workers that were killed: the
    kernel ends each by an RST or, where everything that had come was read, by a FIN.
    """
    return dict.fromkeys(("reset_before", "reset_after", "closed_early", "shed"), count)


class BrokenLedger(Exception):
    """The load generator itself failed, so that its counts say nothing about the
    server.
    """


class Client:
    """A running load; made by :func:`start`."""

    def __init__(
        self, process: subprocess.Popen[bytes], words: memoryview, timeout_s: float
    ) -> None:
        self._process = process
        self._words = words
        self._timeout_s = timeout_s

    @property
    def pid(self) -> int:
        """The generator's process."""
        return self._process.pid

    def attempts(self) -> int:
        """Attempts started up to now."""
        return int(self._words[ATTEMPTS_AT])

    def count(self, outcome: str) -> int:
        """Attempts that ended in ``outcome`` up to now."""
        return int(self._words[OUTCOMES_AT + OUTCOMES.index(outcome)])

    def more(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait for ``count`` more ok attempts than there are now; BrokenLedger if the
        generator failed meanwhile.
        """
        goal = self.count("ok") + count
        self.wait(lambda: self.count("ok") >= goal, timeout_s, f"{goal} ok attempts")

    def wait(self, condition: Callable[[], bool], timeout_s: float, message: str) -> None:
        """Wait for a condition on the counts; BrokenLedger if the generator failed
        meanwhile.
        """
        until(
            lambda: condition() or self._process.poll() is not None,
            timeout_s,
            lambda: f"{message}; there are {self._outcomes()}",
        )
        if self._process.poll() is not None:
            raise BrokenLedger(self._complaint())

    def stop(self) -> Ledger:
        """Start no more attempts, let each open one come to its end, and balance the
        books. BrokenLedger if the generator failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None
        try:
            printed, _ = self._process.communicate(timeout=self._timeout_s + STOP_SLACK_S)
        except subprocess.TimeoutExpired:
            self.abandon()
            raise BrokenLedger("the load generator did not come to its end") from None
        if self._process.returncode != 0:
            raise BrokenLedger(self._complaint())
        ledger = Ledger(self.attempts(), self._outcomes(), **json.loads(printed))
        ledger.balance()
        return ledger

    def abandon(self) -> None:
        """End the generator at once, without a ledger. Harmless after :meth:`stop`."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _outcomes(self) -> dict[str, int]:
        return {outcome: self.count(outcome) for outcome in OUTCOMES}

    def _complaint(self) -> str:
        return (
            f"the load generator ended with {self._process.returncode} (its trace is on standard"
            f" error) after {self.attempts()} attempts"
        )


def start(
    address: Address,
    kind: Literal["echo", "daytime"] = "echo",
    *,
    rate: float = 0.0,
    concurrency: int = 64,
    timeout_s: float = 10.0,
    payload_bytes: int = 32,
    cpu: int = -1,
) -> Client:
    """Start a load against ``address``: ``rate`` attempts a second (0: as fast as
    possible) with at most ``concurrency`` open at a time.

    ``timeout_s`` is for a whole attempt. With ``cpu`` the generator keeps to that
    processor. A UNIX socket is given by its path.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert concurrency < hard - 64, (
        f"{concurrency} connections need more than the {hard} descriptors allowed here"
    )
    words_fd = os.memfd_create("ledger")
    try:
        os.ftruncate(words_fd, WORDS * 8)
        words = memoryview(mmap.mmap(words_fd, WORDS * 8)).cast("Q")
        order = Order(kind, address, rate, concurrency, timeout_s, payload_bytes, cpu, words_fd)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.load", json.dumps(dataclasses.asdict(order))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[words_fd],
        )
    finally:
        os.close(words_fd)
    return Client(process, words, timeout_s)


@contextlib.contextmanager
def running(
    address: Address,
    kind: Literal["echo", "daytime"] = "echo",
    *,
    rate: float = 0.0,
    concurrency: int = 64,
    timeout_s: float = 10.0,
    cpu: int = -1,
) -> Iterator[Client]:
    """As :func:`start`; enters after the first attempt has ended well, and leaves no
    process behind. The test itself calls :meth:`Client.stop`.
    """
    client = start(address, kind, rate=rate, concurrency=concurrency, timeout_s=timeout_s, cpu=cpu)
    try:
        client.more(1)
        yield client
    finally:
        client.abandon()
