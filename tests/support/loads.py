"""Runs a load against a daemon and counts the outcome of every attempt, so that a test
can assert that no connection was lost.

Integration, chaos and packaging tests use it. :mod:`tests.support.load_generator` runs
in a process of its own. The test reads its counts at any moment, and gets the whole
result from :meth:`RunningLoad.stop`.
"""

import contextlib
import dataclasses
import json
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.support import ROOT
from tests.support.clients import Address
from tests.support.load_generator import ATTEMPTS_AT, OUTCOMES, OUTCOMES_AT, WORDS, Order
from tests.support.waiting import until

STOP_SLACK_S = 10.0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of a load. Durations are in seconds. ``latency_s`` holds p50, p99,
    p999 and max of the ok attempts, ``longest_gap_s`` the longest time between two ok
    ones. ``details`` counts the failures by outcome and errno. ``lost`` has the own
    addresses of the TCP attempts that were not ok, as a log has them.
    """

    attempts: int
    outcomes: Mapping[str, int]
    duration_s: float
    longest_gap_s: float
    latency_s: Mapping[str, float]
    details: Mapping[str, int]
    lost: Sequence[str] = field(repr=False)

    def check_balance(self) -> None:
        """Assert that every attempt has exactly one outcome."""
        total = sum(self.outcomes.values())
        assert self.attempts == total, (
            f"{self.attempts} attempts but {total} outcomes: {dict(self.outcomes)}"
        )
        assert set(self.outcomes) == set(OUTCOMES), (
            f"unknown or missing outcomes: {sorted(self.outcomes)}"
        )

    @property
    def ok(self) -> int:
        """The number of attempts that got their whole reply and a FIN."""
        return self.outcomes["ok"]

    @property
    def rate(self) -> float:
        """Attempts per second, as achieved."""
        return self.attempts / self.duration_s

    def failed(self) -> dict[str, int]:
        """Return the outcomes other than ok that occurred."""
        return {
            outcome: count for outcome, count in self.outcomes.items() if count and outcome != "ok"
        }

    def assert_clean(self, *, at_least: int = 1, allow: Mapping[str, int] | None = None) -> None:
        """Assert that every attempt was ok, except at most ``allow[outcome]`` of each
        outcome. At least ``at_least`` attempts must be ok, so that an idle load does
        not pass.
        """
        allowed = allow or {}
        excess = {
            outcome: count
            for outcome, count in self.failed().items()
            if count > allowed.get(outcome, 0)
        }
        assert not excess, f"of {self.attempts} attempts: {excess}; {dict(self.details)}"
        assert self.ok >= at_least, (
            f"only {self.ok} attempts were ok, {at_least} are needed for a verdict"
        )


def cut_off(count: int) -> Mapping[str, int]:
    """Return what to allow where ``count`` connections belonged to killed workers. The
    kernel ends each with an RST, or with a FIN if the worker had read everything.
    """
    return dict.fromkeys(("reset_before", "reset_after", "closed_early", "shed"), count)


class LoadFailed(Exception):
    """The load generator itself failed. Its counts say nothing about the server."""


class RunningLoad:
    """A running load. :func:`start` creates it."""

    def __init__(
        self, process: subprocess.Popen[bytes], words: memoryview, timeout_s: float
    ) -> None:
        self._process = process
        self._words = words
        self._timeout_s = timeout_s

    @property
    def pid(self) -> int:
        """The pid of the generator."""
        return self._process.pid

    def attempts(self) -> int:
        """Return the number of attempts started so far."""
        return int(self._words[ATTEMPTS_AT])

    def count(self, outcome: str) -> int:
        """Return the number of attempts that ended in ``outcome`` so far."""
        return int(self._words[OUTCOMES_AT + OUTCOMES.index(outcome)])

    def more(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait for ``count`` more ok attempts. LoadFailed if the generator fails."""
        goal = self.count("ok") + count
        self.wait(lambda: self.count("ok") >= goal, timeout_s, f"{goal} ok attempts")

    def wait(self, condition: Callable[[], bool], timeout_s: float, message: str) -> None:
        """Wait for a condition on the counts. LoadFailed if the generator fails."""
        until(
            lambda: condition() or self._process.poll() is not None,
            timeout_s,
            lambda: f"{message}; there are {self._outcomes()}",
        )
        if self._process.poll() is not None:
            raise LoadFailed(self._complaint())

    def stop(self) -> LoadResult:
        """Start no more attempts, wait for the open ones, and check the balance.
        LoadFailed if the generator failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None
        try:
            printed, _ = self._process.communicate(timeout=self._timeout_s + STOP_SLACK_S)
        except subprocess.TimeoutExpired:
            self.abandon()
            raise LoadFailed("the load generator did not end") from None
        if self._process.returncode != 0:
            raise LoadFailed(self._complaint())
        ledger = LoadResult(self.attempts(), self._outcomes(), **json.loads(printed))
        ledger.check_balance()
        return ledger

    def abandon(self) -> None:
        """End the generator at once, without a result. Harmless after :meth:`stop`."""
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
) -> RunningLoad:
    """Start a load against ``address``: ``rate`` attempts per second (0: as fast as
    possible) with at most ``concurrency`` open at a time.

    ``timeout_s`` limits a whole attempt. With ``cpu`` the generator keeps to that
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
            [
                sys.executable,
                "-m",
                "tests.support.load_generator",
                json.dumps(dataclasses.asdict(order)),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[words_fd],
        )
    finally:
        os.close(words_fd)
    return RunningLoad(process, words, timeout_s)


@contextlib.contextmanager
def running(
    address: Address,
    kind: Literal["echo", "daytime"] = "echo",
    *,
    rate: float = 0.0,
    concurrency: int = 64,
    timeout_s: float = 10.0,
    cpu: int = -1,
) -> Iterator[RunningLoad]:
    """Start a load as :func:`start` does. Enter the block after the first ok attempt,
    and leave no process behind. The test itself calls :meth:`RunningLoad.stop`.
    """
    client = start(address, kind, rate=rate, concurrency=concurrency, timeout_s=timeout_s, cpu=cpu)
    try:
        client.more(1)
        yield client
    finally:
        client.abandon()
