"""A measurement of an echo server, from the user's options to the report.

Called by ``command``; calls ``ping`` or ``bulk`` with a connected socket, and
``report``. Errors: ClientFailure, OutputClosed.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from unpd.cli.client import bulk, connect, datagrams, probes, report
from unpd.cli.client.asked import DEFAULT_INTERVAL_S, Asked, size_of
from unpd.cli.client.connect import Candidate
from unpd.cli.client.failures import ClientFailure
from unpd.cli.client.interrupts import Interrupts
from unpd.cli.client.ping import Measurement, Plan, failure_without_answer
from unpd.cli.client.streams import Output
from unpd.cli.client.targets import Target
from unpd.names import ClientExit

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Setting:
    """What a measurement has besides its socket."""

    asked: Asked
    target: Target
    output: Output
    timeout_s: float | None
    interrupts: Interrupts


def measure(asked: Asked, target: Target, output: Output, timeout_s: float | None) -> ClientExit:
    """Measure and print the report. Return DONE if an answer came, INTERRUPTED if a
    Ctrl-C came before any answer.
    """
    talk = _measure if asked.bulk_s is None else _transfer
    candidates = connect.find(target, timeout_s)
    if target.datagrams:
        with Interrupts() as interrupts:
            setting = Setting(asked, target, output, timeout_s, interrupts)
            return datagrams.with_each(target, candidates, partial(_over, talk, setting))
    with connect.connect_any(target, candidates, timeout_s) as sock, Interrupts() as interrupts:
        setting = Setting(asked, target, output, timeout_s, interrupts)
        return talk(setting, sock, _peer_of(sock, target), False)


_TalkOver = Callable[[Setting, socket.socket, str, bool], ClientExit]


def _over(
    talk: _TalkOver, setting: Setting, sock: socket.socket, candidate: Candidate, others: bool
) -> ClientExit:
    return talk(setting, sock, candidate.text, others)


def _peer_of(sock: socket.socket, target: Target) -> str:
    """Return the address that accepted the connection, as numbers or a path."""
    try:
        return target.host if target.port is None else str(sock.getpeername()[0])
    except OSError:
        return target.host  # reset meanwhile: the first recv gives the error


def _measure(setting: Setting, sock: socket.socket, address: str, others: bool) -> ClientExit:
    asked = setting.asked
    size = size_of(asked, setting.target)
    coder = probes.Coder(probes.new_token(), size)
    kind = probes.DatagramProbe if setting.target.datagrams else probes.StreamProbe
    plan = Plan(
        size=size,
        interval_ns=round((asked.interval_s or DEFAULT_INTERVAL_S) * NS),
        count=asked.count,
        timeout_ns=None if setting.timeout_s is None else round(setting.timeout_s * NS),
        as_json=asked.as_json,
    )
    subject = report.Subject(setting.target, address, size)
    if not asked.as_json:
        every = f", every {plan.interval_ns / NS:g} s"
        setting.output.write(f"{subject.heading(every)}\n".encode())
    measurement = Measurement(
        kind(sock, coder), plan, setting.output, setting.interrupts, others=others
    )
    try:
        measurement.run()
    except ClientFailure:
        _print_summary(setting, subject, measurement, plan)
        raise
    _print_summary(setting, subject, measurement, plan)
    if measurement.tally.counts.received:
        return ClientExit.DONE
    if setting.interrupts.came and measurement.trouble is None:
        return ClientExit.INTERRUPTED
    raise failure_without_answer(measurement, setting.timeout_s)


def _print_summary(
    setting: Setting, subject: report.Subject, measurement: Measurement, plan: Plan
) -> None:
    measured = report.Measured(
        counts=measurement.tally.counts,
        spread=measurement.tally.spread,
        interval_ns=plan.interval_ns,
        elapsed_ns=measurement.ended_ns - measurement.began_ns,
        retransmits=measurement.retransmits,
    )
    text = report.summary_json if plan.as_json else report.summary
    setting.output.write(text(subject, measured).encode())


def _transfer(setting: Setting, sock: socket.socket, address: str, others: bool) -> ClientExit:
    del others  # an error before the first answer is an OSError in any case
    asked = setting.asked
    subject = report.Subject(setting.target, address, size_of(asked, setting.target))
    duration_ns = round((asked.bulk_s or 0) * NS)
    timeout_ns = None if setting.timeout_s is None else round(setting.timeout_s * NS)
    kind = bulk.DatagramBulk if setting.target.datagrams else bulk.StreamBulk
    transfer = kind(sock, subject.size, setting.output.fd, setting.interrupts)
    moved = transfer.run(duration_ns, timeout_ns)
    if not moved.received_bytes:
        if setting.interrupts.came:
            return ClientExit.INTERRUPTED
        raise ClientFailure(ClientExit.TIMED_OUT, "timed out", "nothing came")
    text = report.throughput_json if asked.as_json else report.throughput
    setting.output.write(text(subject, moved).encode())
    return ClientExit.DONE
