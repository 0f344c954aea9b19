"""Access rules, limits, banners and sensors in each model: a daemon decides the same
about its clients, whatever serves them. test_access.py has what is common to all.
"""

import contextlib
import select
import socket
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.counts import wait_active
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.rules import HOME, OTHER, Rule, make_busy, rules
from tests.support.sessions import greet
from tests.support.waiting import holds, until

MODELS = ["event", "fork", "iterative"]
PATIENCE_S = 10.0
REFUSED, WOULD = "unpd_refused_total", "unpd_would_refuse_total"
WELCOME, GO_AWAY = b"220 welcome\r\n", b"421 go away\r\n"


def service(name: str, model: str, *lines: str) -> str:
    """An echo service with keys of its own."""
    head = f'[services.{name}]\ntype = "echo"\nlisten = ["tcp://0.0.0.0:0"]\nmodel = "{model}"'
    return "\n".join((head, *lines, ""))


def come(unpd: Unpd, name: str, source: str = HOME) -> socket.socket:
    """A client that has connected."""
    return clients.connect((HOME, unpd.port(name)), source=source)


def answer(unpd: Unpd, name: str, source: str = HOME, *, busy: bool = False) -> bytes:
    """All that a client gets that sends a byte, and its FIN. ``busy``: the machine is,
    meanwhile.
    """
    if busy:
        make_busy(unpd)
    said = b""
    with come(unpd, name, source) as sock:
        with contextlib.suppress(OSError):  # it may be turned away already
            sock.sendall(b"x")
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(4096):
                said += piece
    return said


def come_refused(unpd: Unpd, rule: Rule) -> None:
    """Connect until the rule has refused one client. While the master measures how busy
    the machine is, it may let some in.
    """
    for _ in range(rule.first):
        assert answer(unpd, rule.service) == b"x"

    def is_refused() -> bool:
        return not answer(unpd, rule.service, busy=rule.busy)

    until(is_refused, PATIENCE_S if rule.busy else 0.0, f"{rule.reason} to refuse")


@pytest.mark.parametrize("model", MODELS)
def test_every_rule_refuses(launch: Launch, model: str) -> None:
    """Each client that is refused is counted by the reason, and has its line in the
    log; another source is served where the rule is about sources.
    """
    unpd = launch("".join(service(rule.service, model, rule.lines) for rule in rules()))
    for rule in rules():
        come_refused(unpd, rule)
        if rule.spares:
            assert answer(unpd, rule.service, OTHER) == b"x"
        unpd.metric_becomes(1, REFUSED, service=rule.service, reason=rule.reason)
        unpd.metric_becomes(1, REFUSED, service=rule.service)
        line = unpd.wait_event("connection.refused", service=rule.service).fields
        assert (line["peer"], line["reason"]) == (HOME, rule.reason)
    assert unpd.total(WOULD) == 0


def come_observed(unpd: Unpd, rule: Rule) -> None:
    """Connect, and be served each time, until one client is counted as a refusal."""
    for _ in range(rule.first):
        assert answer(unpd, rule.service) == b"x"
    assert unpd.total(WOULD, service=rule.service) == 0

    def is_observed() -> bool:
        assert answer(unpd, rule.service, busy=rule.busy) == b"x"
        return unpd.total(WOULD, service=rule.service, reason=rule.reason) > 0

    until(is_observed, PATIENCE_S, f"{rule.reason} to be observed")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["mode", "observe"])
@pytest.mark.parametrize("model", MODELS)
def test_observed_rules_refuse_nobody(launch: Launch, model: str, how: str) -> None:
    """Clients are served, and counted as refusals that would have been: for the whole
    service, or for one key.
    """
    texts = []
    for rule in rules():
        observed = 'mode = "observe"' if how == "mode" else f'observe = ["{rule.reason}"]'
        texts.append(service(rule.service, model, rule.lines, observed))
    unpd = launch("".join(texts))
    for rule in rules():
        come_observed(unpd, rule)
        line = unpd.wait_event("connection.would_be_refused", service=rule.service).fields
        assert (line["peer"], line["reason"]) == (HOME, rule.reason)
    assert unpd.total(REFUSED) == 0


LIMITS = {
    "refuse": ("max_connections = 1", 'on_limit = "refuse"'),
    "banner": (
        "max_connections = 1",
        'on_limit = "banner"',
        'banner_refused = "421 go away\\r\\n"',
    ),
    "queue": ("max_connections = 1",),
    "source": ("max_per_source = 1",),
    "observed": ("max_per_source = 1", 'observe = ["max_per_source"]'),
}
"""Services with a limit that one client reaches."""


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_limits_of_open_connections(launch: Launch, model: str) -> None:
    """The client of a process that a reload has retired counts: at the limit the next
    one is refused, reads the banner, or waits, as configured. Once the first has left,
    its place is free.
    """
    unpd = launch("".join(service(name, model, *lines) for name, lines in LIMITS.items()))
    with contextlib.ExitStack() as stack:
        first = {name: greet(stack.enter_context(come(unpd, name))) for name in LIMITS}
        reload(unpd, every_pool=True)
        assert answer(unpd, "refuse") == b""
        assert answer(unpd, "banner") == GO_AWAY
        assert answer(unpd, "source") == b""
        assert answer(unpd, "source", OTHER) == b"x"
        assert answer(unpd, "observed") == b"x"
        waiting = stack.enter_context(come(unpd, "queue"))
        waiting.sendall(b"y")
        unpd.metric_becomes(1, "unpd_listen_queue_length", service="queue")
        for name, sock in first.items():
            greet(sock)
            sock.close()
            if name != "queue":
                wait_active(unpd, 0, service=name)
                assert answer(unpd, name) == b"x"
        assert clients.read_exactly(waiting, 1) == b"y"
    for name, reason in (
        ("refuse", "max_connections"),
        ("banner", "max_connections"),
        ("source", "max_per_source"),
    ):
        unpd.metric_becomes(1, REFUSED, service=name, reason=reason)
    unpd.metric_becomes(1, WOULD, service="observed", reason="max_per_source")
    assert unpd.total(REFUSED, service="observed") == unpd.total(REFUSED, service="queue") == 0


@pytest.mark.parametrize("model", MODELS)
def test_an_observed_limit_of_the_service(launch: Launch, model: str) -> None:
    """It is counted, and the client is served, except where each connection is a
    process: there the limit holds, and the start warns.
    """
    lines = ("max_connections = 1", 'on_limit = "refuse"', 'mode = "observe"')
    unpd = launch(service("echo", model, *lines))
    with come(unpd, "echo") as sock:
        greet(sock)
        reload(unpd, every_pool=True)
        assert answer(unpd, "echo") == (b"" if model == "fork" else b"x")
        counted = REFUSED if model == "fork" else WOULD
        unpd.metric_becomes(1, counted, service="echo", reason="max_connections")
    assert unpd.total(REFUSED) + unpd.total(WOULD) == 1


@pytest.mark.parametrize("model", MODELS)
def test_a_sensor_denies_who_connects(launch: Launch, model: str) -> None:
    """It answers nothing, also not with a banner of [defaults]. All services refuse the
    source from then on, and serve others.
    """
    trap = f'[services.trap]\ntype = "sensor"\nlisten = ["tcp://0.0.0.0:0"]\nmodel = "{model}"\n'
    unpd = launch(
        '[defaults]\nbanner_accepted = "220 welcome\\r\\n"\nbanner_refused = "421 go away\\r\\n"\n'
        f'[access]\nnever_deny = ["{HOME}"]\n{trap}{service("echo", model)}'
    )
    assert answer(unpd, "echo", OTHER) == WELCOME + b"x"
    assert answer(unpd, "trap") == answer(unpd, "trap", OTHER) == b""
    line = unpd.wait_event("denial.sensed").fields
    assert (line["service"], line["network"]) == ("trap", OTHER)
    until(lambda: answer(unpd, "echo", OTHER) == GO_AWAY, PATIENCE_S, "the denial to hold")
    assert answer(unpd, "trap", OTHER) == b""
    assert answer(unpd, "echo") == WELCOME + b"x"
    assert unpd.metric("unpd_denied_addresses") == 1
    unpd.metric_becomes(1, REFUSED, service="trap", reason="denied")


@pytest.mark.parametrize("model", MODELS)
def test_a_service_lifts_the_lists_of_the_defaults(launch: Launch, model: str) -> None:
    """`allow = ["all"]` lets everybody in where [defaults] has a list, by streams and
    by datagrams; but nobody that a list of `deny` has.
    """
    both = 'listen = ["tcp://0.0.0.0:0", "udp://0.0.0.0:0"]\n'
    unpd = launch(
        f'[defaults]\nmodel = "{model}"\nallow = ["{OTHER}"]\ndeny = ["127.0.0.7"]\n'
        f'[services.closed]\ntype = "echo"\n{both}'
        f'[services.open]\ntype = "echo"\n{both}allow = ["all"]\n'
    )
    assert answer(unpd, "closed") == b""
    assert answer(unpd, "closed", OTHER) == b"x"
    assert answer(unpd, "open") == answer(unpd, "open", OTHER) == b"x"
    assert answer(unpd, "open", "127.0.0.7") == b""
    unpd.metric_becomes(1, REFUSED, service="closed", reason="allow")
    unpd.metric_becomes(1, REFUSED, service="open", reason="deny")
    with clients.asking((HOME, unpd.port("closed", 1))) as sock:
        sock.send(b"x")
        unpd.metric_becomes(2, REFUSED, service="closed", reason="allow")
    with clients.asking((HOME, unpd.port("open", 1))) as sock:
        sock.send(b"x")
        assert sock.recv(9) == b"x"
    assert unpd.total(REFUSED, service="open") == 1


ECHOING = "def serve(sock):\n    while data := sock.recv(9):\n        sock.sendall(data)\n"
"""A module whose function echoes."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*MODELS, "exec", "python"])
def test_a_changed_limit_cuts_no_connection(launch: Launch, public: Path, kind: str) -> None:
    """A connection outlasts reload_grace_s where max_connections alone has changed. A
    service with model = "fork" is the exception, because its dispatcher is born with
    the limit; programs and functions last whatever has changed.
    """
    (public / "echoing.py").write_text(ECHOING)
    typed = {
        "exec": 'type = "exec"\ncommand = ["/bin/cat"]',
        "python": f'type = "python"\nhandler = "echoing:serve"\npath = ["{public}"]',
    }.get(kind, f'type = "echo"\nmodel = "{kind}"')
    text = f'[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n{typed}\nmax_connections = '
    head = "[daemon]\nreload_grace_s = 0.5\n"
    unpd = launch(f"{head}{text}5\n")
    with come(unpd, "echo") as sock:
        greet(sock)
        reload(unpd, f"{head}{text}6\n")
        if kind == "fork":
            assert clients.read_all(sock) == b""
            return
        holds(lambda: not select.select([sock], [], [], 0.0)[0], 1.5, "the connection was ended")
        greet(sock)
