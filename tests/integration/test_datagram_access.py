"""Access rules and limits for the datagrams of a real daemon: each refuses what it
should, counts it, and can be tried before that.
"""

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from signal import SIGCONT, SIGSTOP

import pytest

from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import ask
from tests.support.rules import HOME, OTHER, Rule, make_busy, rules
from tests.support.waiting import until

PATIENCE_S = 10.0
REFUSED, WOULD, UNANSWERED = (
    f"unpd_{name}_total" for name in ("refused", "would_refuse", "datagrams_unanswered")
)


def service(name: str, *lines: str) -> str:
    """An echo service of datagrams with keys of its own."""
    return "\n".join(
        (f"[services.{name}]", 'type = "echo"', 'listen = ["udp://0.0.0.0:0"]', *lines, "")
    )


def is_answered(
    unpd: Unpd, name: str, source: str = HOME, host: str = HOME, *, busy: bool = False
) -> bool:
    """Send a datagram and wait until it is answered, or counted as refused. ``busy``:
    the machine has to be, meanwhile.
    """
    before = unpd.total(REFUSED, service=name)
    if busy:
        make_busy(unpd)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(b"x", (host, unpd.port(name)))

        def is_over() -> bool:
            return bool(select.select([sock], [], [], 0.0)[0]) or (
                unpd.total(REFUSED, service=name) > before
            )

        until(is_over, PATIENCE_S, "a datagram to be answered or refused")
        return bool(select.select([sock], [], [], 0.0)[0])


def come_refused(unpd: Unpd, rule: Rule) -> None:
    """Send datagrams until the rule has refused one. While the master measures how busy
    the machine is, it may let some in.
    """
    for _ in range(rule.first):
        assert is_answered(unpd, rule.service)

    def is_refused() -> bool:
        return not is_answered(unpd, rule.service, busy=rule.busy)

    until(is_refused, PATIENCE_S if rule.busy else 0.0, f"{rule.reason} to refuse")


@pytest.mark.slow
def test_every_rule_refuses_datagrams(launch: Launch) -> None:
    """Each is counted by its reason and among those without an answer, and has its line
    in the log; another source is served where the rule is about sources.
    """
    unpd = launch("".join(service(rule.service, rule.lines) for rule in rules()))
    for rule in rules():
        name = rule.service
        come_refused(unpd, rule)
        if rule.spares:
            assert is_answered(unpd, name, OTHER), name
        unpd.metric_becomes(1, REFUSED, service=name, reason=rule.reason)
        unpd.metric_becomes(1, REFUSED, service=name)
        unpd.metric_becomes(1, UNANSWERED, service=name, reason="refused")
        line = unpd.wait_event("connection.refused", service=name).fields
        assert (line["peer"], line["reason"]) == (HOME, rule.reason)
    assert unpd.total(WOULD) == 0


def come_observed(unpd: Unpd, rule: Rule) -> None:
    """Send datagrams, which are all answered, until one is counted as a refusal."""
    name = rule.service
    for _ in range(rule.first):
        assert is_answered(unpd, name)
    assert unpd.total(WOULD, service=name) == 0

    def is_observed() -> bool:
        assert is_answered(unpd, name, busy=rule.busy)
        return unpd.total(WOULD, service=name, reason=rule.reason) > 0

    until(is_observed, PATIENCE_S, f"{rule.reason} to be observed")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["mode", "observe"])
def test_observed_rules_refuse_no_datagram(launch: Launch, how: str) -> None:
    """They are answered, and counted as refusals that would have been: for the whole
    service, or for one key.
    """
    texts = []
    for rule in rules():
        observed = 'mode = "observe"' if how == "mode" else f'observe = ["{rule.reason}"]'
        texts.append(service(rule.service, rule.lines, observed))
    unpd = launch("".join(texts))
    for rule in rules():
        come_observed(unpd, rule)
        line = unpd.wait_event("connection.would_be_refused", service=rule.service).fields
        assert (line["peer"], line["reason"]) == (HOME, rule.reason)
    assert unpd.total(REFUSED) == 0
    assert unpd.total(UNANSWERED, reason="refused") == 0


def test_a_v4_mapped_sender_has_the_rules_of_ipv4(launch: Launch) -> None:
    """A socket of both families gives its address in the form of IPv6."""
    text = service("echo", f'allow = ["{OTHER}"]').replace("0.0.0.0", "[::]")
    unpd = launch(text)
    assert not is_answered(unpd, "echo")
    assert is_answered(unpd, "echo", OTHER)
    unpd.metric_becomes(1, REFUSED, service="echo", reason="allow")


@contextlib.contextmanager
def alone(worker: int, workers: list[int]) -> Iterator[None]:
    """Stop all other workers, so that this one has to take every datagram."""
    others = [pid for pid in workers if pid != worker]
    try:
        for pid in others:
            os.kill(pid, SIGSTOP)
        yield
    finally:
        for pid in others:
            os.kill(pid, SIGCONT)


@pytest.mark.slow
def test_a_live_denial_holds_for_datagrams_at_every_worker(launch: Launch) -> None:
    """Soon after the answer to `unpd deny` no worker answers the network, and each
    answers others; after `unpd undeny` each answers it.
    """
    unpd = launch(service("echo") + "[pools.default]\nworkers = 4\n")
    workers = unpd.workers()
    assert is_answered(unpd, "echo", OTHER)
    assert ask(unpd.control, verb="deny", network=OTHER)["ok"]
    until(lambda: not is_answered(unpd, "echo", OTHER), 1.0, "the denial to hold")
    refused = unpd.total(REFUSED, service="echo", reason="denied")
    for worker in workers:
        with alone(worker, workers):
            assert not is_answered(unpd, "echo", OTHER)
            assert is_answered(unpd, "echo", HOME)
    unpd.metric_becomes(refused + 4, REFUSED, service="echo", reason="denied")
    unpd.metric_becomes(refused + 4, UNANSWERED, service="echo", reason="refused")
    assert unpd.wait_event("connection.refused").fields["reason"] == "denied"
    assert ask(unpd.control, verb="undeny", network=OTHER)["ok"]
    until(lambda: is_answered(unpd, "echo", OTHER), 1.0, "the denial to end")
    for worker in workers:
        with alone(worker, workers):
            assert is_answered(unpd, "echo", OTHER)
