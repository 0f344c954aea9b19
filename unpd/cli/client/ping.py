"""The measuring echo client, in the way of ping(8): one wait on the server, on Ctrl-C
and on the clock. The ping of UNP 28.5 sends in a handler of SIGALRM; here all is
poll(2).

Called by ``measuring`` with a probe; calls ``tally`` for what an answer means and
``report`` for the words. Errors: OutputClosed; ClientFailure if a stream ends early.
Theory of operation:

- The next request is due one interval after the last. A client that was held up sends
  one request, and does not make up for those that it missed.
- A request without an answer gets a line when its time is over, and its answer still
  counts when it comes. An ICMP error is a line, too, and the measurement goes on: the
  server may start again.
- After the last request the client waits for the missing answers, as long as
  ``figures.linger_ns`` says. That time begins when the last byte is sent. A Ctrl-C ends
  all this at once.

Known gap: times are those of this process, so a busy machine adds to them.
"""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from unpd.cli.client import report, streams
from unpd.cli.client.datagrams import datagram_failure, trouble_of
from unpd.cli.client.failures import ClientFailure, failure_of
from unpd.cli.client.interrupts import Interrupts
from unpd.cli.client.probes import STRANGE, Probe
from unpd.cli.client.tally import Tally
from unpd.kernel.tcp_info import retransmits
from unpd.names import ClientExit

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. ``count`` is None to go on until Ctrl-C; ``timeout_ns`` is None
    for no limit; ``as_json``: print one object at the end and no lines before.
    """

    size: int
    interval_ns: int
    count: int | None
    timeout_ns: int | None
    as_json: bool


class Measurement:
    """One measurement. ``tally`` has its counts."""

    def __init__(
        self,
        probe: Probe,
        plan: Plan,
        output: streams.Output,
        interrupts: Interrupts,
        *,
        others: bool = False,
    ) -> None:
        """``others``: the name of the server has more addresses; then an error before
        the first answer ends the measurement as an OSError.
        """
        self.tally = Tally(plan.timeout_ns)
        self.began_ns = self.ended_ns = time.monotonic_ns()
        self._probe = probe
        self._plan = plan
        self._output = output
        self._interrupts = interrupts
        self._next_ns = self.began_ns
        self._last_ns = self.began_ns
        self._others = others
        self.trouble: OSError | None = None

    def run(self) -> None:
        """Send and receive to the end. Its time stays known whatever the end is."""
        try:
            while not self._ended(time.monotonic_ns()):
                self._turn()
        finally:
            self.ended_ns = time.monotonic_ns()

    @property
    def retransmits(self) -> int | None:
        """How many segments were sent again; None but for TCP."""
        return retransmits(self._probe.sock)

    def _ended(self, now_ns: int) -> bool:
        if self._interrupts.came:
            return True
        if not self._all_sent() or self._probe.busy:
            return False
        if self.tally.complete:
            return True
        until_ns = self._lingers_until_ns()
        return until_ns is not None and now_ns >= until_ns

    def _lingers_until_ns(self) -> int | None:
        """When the wait for the missing answers is over; None as long as it has not
        begun, or without a limit.
        """
        linger_ns = self.tally.linger_ns(self._plan.interval_ns)
        if linger_ns is None or not self._all_sent() or self._probe.busy:
            return None
        return self._last_ns + linger_ns

    def _all_sent(self) -> bool:
        return self.tally.sent == self._plan.count

    def _turn(self) -> None:
        """Wait once, and do what is due. Answers come first: their time is running."""
        fd = self._probe.sock.fileno()
        ready = streams.wait(
            {
                fd: streams.READABLE | (streams.WRITABLE if self._probe.busy else 0),
                self._output.fd: streams.WATCHED,
                self._interrupts.fd: streams.READABLE,
            },
            self._wait_s(time.monotonic_ns()),
        )
        streams.check_output(ready.get(self._output.fd, 0))
        if fd in ready:
            self._receive()
            self._flush()
        for number in self.tally.expire(time.monotonic_ns()):
            self._say(f"seq={number}: no answer within {self._timeout_text()} s")
            self._refuse_to_hang()
        self._send()

    def _wait_s(self, now_ns: int) -> float | None:
        moments = [
            self.tally.due_ns(),
            None if self._all_sent() else self._next_ns,
            self._lingers_until_ns(),
        ]
        known = [moment for moment in moments if moment is not None]
        return max((min(known) - now_ns) / NS, 0.0) if known else None

    def _send(self) -> None:
        now_ns = time.monotonic_ns()
        if self._all_sent() or now_ns < self._next_ns or self._interrupts.came:
            return
        self._next_ns += self._plan.interval_ns
        if self._next_ns <= now_ns:
            self._next_ns = now_ns + self._plan.interval_ns
        if self._probe.busy:
            return
        self._last_ns = now_ns
        number = self.tally.send(now_ns)
        try:
            self._probe.send(number)
        except OSError as error:
            self._suffer(error)

    def _flush(self) -> None:
        if not self._probe.busy:
            return
        try:
            self._probe.flush()
        except OSError as error:
            self._suffer(error)
        self._last_ns = time.monotonic_ns()

    def _receive(self) -> None:
        for number in self._numbers():
            self._take(number)

    def _numbers(self) -> Iterator[int]:
        try:
            yield from self._probe.receive()
        except OSError as error:
            self._suffer(error)

    def _take(self, number: int) -> None:
        now_ns = time.monotonic_ns()
        if number == STRANGE or number > self.tally.sent:
            self.tally.strange += 1
            self._say("something came that is no answer")
            return
        verdict, round_trip_ns = self.tally.answer(number, now_ns)
        self._say(report.answer_line(self._plan.size, number, round_trip_ns, verdict))

    def _suffer(self, error: OSError) -> None:
        """Take an error: a stream ends with it, a datagram is only one of many."""
        sock = self._probe.sock
        if sock.type == socket.SOCK_STREAM:
            raise failure_of(error, "") from error
        if self._others and not self.tally.counts.received:
            raise error
        self.trouble = error
        self._say(f"seq={self.tally.suffer()}: {trouble_of(sock, error)}")

    def _refuse_to_hang(self) -> None:
        """Give up a stream whose server takes nothing: no request could follow."""
        if self._probe.busy:
            raise ClientFailure(
                ClientExit.TIMED_OUT,
                "timed out",
                f"the server took nothing for {self._timeout_text()} s",
            )

    def _timeout_text(self) -> str:
        return f"{(self._plan.timeout_ns or 0) / NS:g}"

    def _say(self, line: str) -> None:
        if not self._plan.as_json:
            self._output.write(f"{line}\n".encode())


def failure_without_answer(measurement: Measurement, timeout_s: float | None) -> ClientFailure:
    """Return the failure of a measurement to which no answer came."""
    if measurement.trouble is not None:
        return datagram_failure(measurement.trouble, "no answer came")
    return report.nothing_came(measurement.tally.counts, timeout_s)
