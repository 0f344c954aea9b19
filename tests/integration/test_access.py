"""Access rules and limits: who may come in, what the others get, and what the log and
the metrics say about them. Each holds in every model, for datagrams, and over all
processes.
"""

import contextlib
import http.client
import os
import socket
import time
from pathlib import Path

import pytest

from tests.support import clients, procs
from tests.support.access import (
    HOME,
    MODELS,
    OTHER,
    RESUMED_S,
    come,
    echo,
    inside,
    outcome,
    refusals_become,
    refused,
)
from tests.support.counts import service_counts, wait_active, wait_ended
from tests.support.launch import Launch
from tests.support.operating import reload, renew
from tests.support.rules import closed_now
from tests.support.sessions import greet, served
from tests.support.waiting import holds, until
from unpd.names import ChildKind

# --- rules ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_deny_refuses_whatever_allow_says(launch: Launch, model: str) -> None:
    """A refused client is counted and logged with the rule and its line, and costs no
    session; another one is served.
    """
    unpd = launch(echo('allow = ["all"]', 'deny = ["127.0.0.8/29"]', model=model))
    assert refused(come(unpd, OTHER)) == b""
    with inside(unpd):
        wait_active(unpd, 1)
    line = unpd.wait_event("connection.refused")
    fields = {key: line.fields[key] for key in ("service", "peer", "reason", "rule", "count")}
    assert fields == {
        "service": "echo",
        "peer": OTHER,
        "reason": "deny",
        "rule": "127.0.0.8/29",
        "count": 1,
    }
    assert line.fields["file"] == str(unpd.config_path)
    text = unpd.config_path.read_text().splitlines()[int(line.fields["line"]) - 1]
    assert "127.0.0.8/29" in text
    refusals_become(unpd, 1, "deny")
    assert wait_ended(unpd, {"client_fin": 1}).accepted == 1


def test_only_who_is_allowed_comes_in(launch: Launch) -> None:
    """An address outside `allow` is refused; one inside is served, also as a v4-mapped
    peer of an IPv6 listener.
    """
    unpd = launch('[services.echo]\nlisten = ["tcp://[::]:0"]\nallow = ["127.0.0.9"]\n')
    assert refused(come(unpd)) == b""
    with inside(unpd, OTHER):
        refusals_become(unpd, 1, "allow")
    assert unpd.wait_event("connection.refused").fields["reason"] == "allow"


def test_users_of_a_unix_socket(launch: Launch, tmp_path: Path) -> None:
    """uid: and gid: name the process at the other end."""
    paths = [tmp_path / "mine.sock", tmp_path / "his.sock"]
    unpd = launch(
        f'[services.echo]\nlisten = ["unix://{paths[0]}"]\nallow = ["uid:{os.getuid()}"]\n'
        f'[services.other]\ntype = "echo"\nlisten = ["unix://{paths[1]}"]\n'
        f'deny = ["gid:{os.getgid()}"]\n'
    )
    assert clients.converse(str(paths[0]), b"x") == b"x"
    assert refused(clients.connect(str(paths[1]))) == b""
    assert unpd.wait_event("connection.refused").fields["peer"] == f"uid:{os.getuid()}"
    refusals_become(unpd, 1, "deny", "other")


def test_a_list_in_a_file(launch: Launch, public: Path) -> None:
    """The log names the file and the line of the entry. A reload reads it again."""
    listed = public / "deny.list"
    listed.write_text("# bad hosts\n\n192.0.2.0/24\n127.0.0.9  # noisy\n")
    text = echo(f'deny = ["file:{listed}"]')
    unpd = launch(text)
    assert refused(come(unpd, OTHER)) == b""
    fields = unpd.wait_event("connection.refused").fields
    assert (fields["rule"], fields["file"], fields["line"]) == ("127.0.0.9", str(listed), 4)
    listed.write_text("127.0.0.1\n")
    with inside(unpd) as (sock,):
        renew(unpd, text)
        assert refused(come(unpd)) == b""
        with inside(unpd, OTHER):
            greet(sock)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["event", "fork", "iterative"])
def test_new_rules_cut_no_connection(launch: Launch, model: str) -> None:
    """The client of a connection that is open would be refused now, and stays for
    longer than reload_grace_s. A change of more than the rules then ends it.
    """
    head = "[daemon]\nreload_grace_s = 0.5\n"
    unpd = launch(head + echo(model=model))
    rule = f'deny = ["{HOME}"]'
    with inside(unpd) as (sock,):
        reload(unpd, head + echo(rule, model=model))
        holds(lambda: not unpd.log_events("connection.ended"), 1.5, "the connection was ended")
        greet(sock)
        reload(unpd, head + echo(rule, "idle_timeout_s = 5", model=model))
        assert clients.read_all(sock) == b""


def test_times_close_a_service(launch: Launch) -> None:
    """Outside its times a service refuses, and the log names the times."""
    times, zone = closed_now().splitlines()
    unpd = launch(echo(times, zone))
    assert refused(come(unpd)) == b""
    assert unpd.wait_event("connection.refused").fields["rule"] == times
    refusals_become(unpd, 1, "access_times")


# --- limits ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["event", "fork"])
def test_a_source_has_no_more_than_its_share(launch: Launch, model: str) -> None:
    """Over all workers, exactly, and again after its connections have ended. Another
    source does not notice.
    """
    unpd = launch(echo("max_per_source = 3", model=model))
    for _ in range(2):
        with inside(unpd, count=3) as socks:
            assert refused(come(unpd)) == b""
            with inside(unpd, OTHER, 3):
                greet(socks[0])
        wait_active(unpd, 0)
    fields = unpd.wait_event("connection.refused").fields
    assert (fields["reason"], fields["value"], fields["limit"]) == ("max_per_source", 3, 3)
    refusals_become(unpd, 2, "max_per_source")


def test_a_killed_worker_frees_what_its_clients_held(launch: Launch) -> None:
    """A source at its limit may connect again as soon as the worker with its
    connections is reaped.
    """
    unpd = launch(echo("max_per_source = 20", workers=1))
    (worker,) = unpd.workers()
    with inside(unpd, count=20):
        assert refused(come(unpd)) == b""
        procs.kill([worker])
        unpd.wait_respawned([worker])
        with inside(unpd, count=20):
            assert refused(come(unpd)) == b""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["event", "fork"])
def test_at_the_limit_of_a_service_clients_wait(launch: Launch, model: str) -> None:
    """They are served in their order, soon after others leave, and the children
    rest.
    """
    unpd = launch(echo("max_connections = 3", model=model))
    with contextlib.ExitStack() as stack:
        first = served(stack, (HOME, unpd.port("echo")), 3)
        waiting = [stack.enter_context(come(unpd)) for _ in range(2)]
        unpd.metric_becomes(2, "unpd_listen_queue_length", service="echo")
        children = [*unpd.workers(), *unpd.children(ChildKind.DISPATCHER)]
        used_s = sum(map(procs.cpu_s, children))
        holds(lambda: service_counts(unpd).active == 3, 0.5, "the limit did not hold")
        assert sum(map(procs.cpu_s, children)) - used_s < 0.2
        for sock, late in zip(first, waiting, strict=False):
            began = time.monotonic()
            sock.close()
            assert clients.read_exactly(late, 1) == b"x"
            assert time.monotonic() - began < RESUMED_S
    wait_ended(unpd, {"client_fin": 5})


@pytest.mark.parametrize("model", ["event", "fork"])
@pytest.mark.parametrize(
    ("key", "reason"),
    [("max_connections = 2", "max_connections"), ('accept_rate = "2/h"', "accept_rate")],
)
def test_the_log_says_that_clients_wait(launch: Launch, model: str, key: str, reason: str) -> None:
    """As long as nobody waits, it does not. The client that waits for a place is served
    once one is free.
    """
    unpd = launch(echo(key, model=model, workers=1))
    with inside(unpd, count=2) as (leaver, _):
        holds(lambda: not unpd.log_events("service.at_limit"), 0.3, "nobody waits yet")
        with come(unpd) as late:
            line = unpd.wait_event("service.at_limit", service="echo", reason=reason).fields
            assert (line["value"], line["limit"], line["waiting"]) == (2, 2, 1)
            assert (line["file"], line["rule"]) == (str(unpd.config_path), key)
            if reason == "max_connections":
                leaver.close()
                assert clients.read_exactly(late, 1) == b"x"


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_the_limit_of_a_service_is_exact_for_one_after_the_other(
    launch: Launch, workers: int
) -> None:
    """Clients that come one after the other: the last place is given, the next client
    is refused, and a place that is freed is given again.
    """
    unpd = launch(echo("max_connections = 8", 'on_limit = "refuse"', workers=workers))
    with inside(unpd, count=8) as socks:
        for _ in range(3):
            assert refused(come(unpd)) == b""
            socks.pop().close()
            wait_active(unpd, 7)
            socks.extend([greet(come(unpd))])
    refusals_become(unpd, 3, "max_connections")
    for sock in socks:
        sock.close()


def test_a_client_gets_the_banner_of_a_limit(launch: Launch) -> None:
    """With CR LF as configured; a client that is let in gets the other one."""
    unpd = launch(
        echo(
            "max_connections = 1",
            'on_limit = "banner"',
            'banner_refused = "421 too many\\r\\n"',
            'banner_accepted = "220 welcome\\r\\n"',
        )
    )
    with clients.connect((HOME, unpd.port("echo"))) as sock:
        assert clients.read_exactly(sock, 13) == b"220 welcome\r\n"
        greet(sock)
        assert refused(come(unpd)) == b"421 too many\r\n"


def test_a_rate_refuses_and_heals(launch: Launch) -> None:
    """More clients of a source than its rate allows are refused for a while, others
    not.
    """
    unpd = launch(echo('accept_rate_per_source = "2/s"'))
    outcomes = []
    for _ in range(4):
        with come(unpd) as sock:
            outcomes.append(outcome(sock))
    assert outcomes.count(b"") >= 1
    with inside(unpd, OTHER):
        pass

    def lets_in() -> bool:
        with come(unpd) as sock:
            return outcome(sock) == b"x"

    until(lets_in, 10.0, "the rate to heal")
    assert unpd.log_events("connection.refused", reason="accept_rate_per_source")


@pytest.mark.slow
def test_a_rate_of_the_service_makes_clients_wait(launch: Launch) -> None:
    """No client is lost: the later ones are served when the window has moved on."""
    unpd = launch(echo('accept_rate = "20/s"'))
    began = time.monotonic()
    for _ in range(60):
        with inside(unpd):
            pass
    assert time.monotonic() - began > 1.0
    assert wait_ended(unpd, {"client_fin": 60}).accepted == 60


# --- observed -------------------------------------------------------------------------


def test_observe_first_and_enforce_later(launch: Launch) -> None:
    """What would have been refused is counted and logged, and served. After a reload it
    is refused, and the numbers agree.
    """
    rules = ("max_per_source = 2",)
    unpd = launch(echo(*rules, 'mode = "observe"'))
    with inside(unpd, count=5):
        would = unpd.metric("unpd_would_refuse_total", service="echo", reason="max_per_source")
    assert would == 3
    assert unpd.wait_event("connection.would_be_refused").fields["limit"] == 2
    wait_active(unpd, 0)
    renew(unpd, echo(*rules))
    with inside(unpd, count=2):
        for _ in range(3):
            assert refused(come(unpd)) == b""
    refusals_become(unpd, 3, "max_per_source")


# --- datagrams ------------------------------------------------------------------------


def test_a_refused_datagram_has_no_answer(launch: Launch) -> None:
    """It is counted by reason, and among those without an answer."""
    unpd = launch('[services.echo]\nlisten = ["udp://0.0.0.0:0"]\ndeny = ["127.0.0.9"]\n')
    address = (HOME, unpd.port("echo"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((OTHER, 0))
        sock.sendto(b"x", address)
        unpd.metric_becomes(1, "unpd_refused_total", service="echo", reason="deny")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10.0)
        sock.sendto(b"y", address)
        assert sock.recv(9) == b"y"
    unpd.metric_becomes(1, "unpd_datagrams_unanswered_total", service="echo", reason="refused")


# --- sensors, and the metrics ---------------------------------------------------------


def test_who_connects_to_a_sensor_is_denied_everywhere(launch: Launch) -> None:
    """It gets no answer there, and no other service from then on, for a while. Others
    are served, and so are sources that no sensor denies.
    """
    unpd = launch(
        echo() + '[access]\nnever_deny = ["127.0.0.5"]\n[services.trap]\ntype = "sensor"\n'
        'listen = ["tcp://0.0.0.0:0"]\ndeny_time_s = 2\n'
    )

    def spring(source: str) -> None:
        with clients.connect((HOME, unpd.port("trap")), source=source) as sock:
            assert clients.read_all(sock) == b""

    def is_served(source: str) -> bool:
        with come(unpd, source) as sock:
            return outcome(sock) == b"x"

    spring(OTHER)
    spring("127.0.0.5")
    line = unpd.wait_event("denial.sensed")
    assert (line.fields["service"], line.fields["network"]) == ("trap", OTHER)
    until(lambda: not is_served(OTHER), 10.0, "the denial to hold")
    assert is_served("127.0.0.5")
    assert is_served(HOME)
    until(lambda: is_served(OTHER), 10.0, "the denial to end")
    assert unpd.log_events("connection.refused", reason="denied", peer=OTHER)
    assert len(unpd.log_events("denial.sensed")) == 1
    sources = [f"127.0.1.{number}" for number in range(1, 5)]
    for source in sources:
        spring(source)
    for source in sources:  # within a second, and each has its line
        assert unpd.wait_event("denial.sensed", network=source).fields["count"] == 1


@pytest.mark.slow
def test_a_sensor_spares_the_neighbours_that_nobody_denies(launch: Launch) -> None:
    """Where the source of a client holds an address of never_deny, the client alone is
    denied. With mode = "observe" nobody is: the log and the metric say who would be.
    """
    trap = (
        '[access]\nnever_deny = ["127.0.0.5"]\n[services.trap]\ntype = "sensor"\n'
        'listen = ["tcp://0.0.0.0:0"]\nsource_prefix_v4 = 24\n'
    )
    unpd = launch(echo() + trap)
    with clients.connect((HOME, unpd.port("trap")), source=OTHER) as sock:
        assert clients.read_all(sock) == b""
    assert unpd.wait_event("denial.sensed").fields["network"] == OTHER
    with inside(unpd, "127.0.0.5"):
        unpd.stop()
    unpd = launch(echo() + f'{trap}mode = "observe"\n')
    with clients.connect((HOME, unpd.port("trap")), source=OTHER) as sock:
        assert clients.read_all(sock) == b""
    line = unpd.wait_event("connection.would_be_refused", service="trap")
    assert [line.fields[key] for key in ("peer", "reason", "rule")] == [OTHER, "denied", OTHER]
    unpd.metric_becomes(1, "unpd_would_refuse_total", service="trap", reason="denied")
    with inside(unpd, OTHER):
        assert not unpd.log_events("denial.sensed")
    assert unpd.metric("unpd_denied_addresses") == 0


def test_a_datagram_to_a_sensor_denies_nobody(launch: Launch) -> None:
    """Its source can be forged: it is counted, and gets no answer."""
    unpd = launch(
        echo() + '[access]\nnever_deny = []\n[services.trap]\ntype = "sensor"\n'
        'listen = ["udp://0.0.0.0:0"]\n'
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (HOME, unpd.port("trap")))
    unpd.metric_becomes(1, "unpd_datagrams_unanswered_total", service="trap", reason="no_answer")
    with inside(unpd):
        assert unpd.metric("unpd_denied_addresses") == 0


def test_the_metrics_have_a_list_of_their_own(launch: Launch) -> None:
    """Others are turned away, with a line in the log. A reload changes the list. The
    metrics count what the lines say, also when the exporter that wrote them has gone.
    """
    text = '[metrics]\nlisten = "tcp://127.0.0.1:0"\nallow = ["{}"]\n' + echo()
    unpd = launch(text.format(OTHER), verbatim=False)
    port = unpd.port("metrics")
    with clients.connect((HOME, port)) as sock:
        assert refused(sock) == b""
    line = unpd.wait_event("connection.refused", service="metrics")
    assert (line.fields["peer"], line.fields["reason"]) == (HOME, "allow")
    assert line.fields["rule"] == f'allow = ["{OTHER}"]'
    assert line.fields["file"] == str(unpd.config_path)
    row = unpd.config_path.read_text().splitlines()[int(line.fields["line"]) - 1]
    assert row == line.fields["rule"]
    refusing = unpd.exporter()
    reload(unpd, text.format(HOME))
    unpd.wait_event("child.reaped", pid=refusing)  # until then it may be asked

    def is_shown() -> bool:
        with contextlib.suppress(ConnectionResetError, http.client.RemoteDisconnected):
            return unpd.get("/metrics").status == 200
        return False

    def logged() -> int:
        events = unpd.log_events("connection.refused", service="metrics")
        return sum(int(event.fields["count"]) for event in events)

    def counted() -> float:
        return unpd.metric("unpd_refused_total", service="metrics", reason="allow")

    until(is_shown, 10.0, "the next exporter to answer alone")
    until(lambda: counted() == logged() > 0, 10.0, "the refusals of the one before")
    killed = unpd.exporter()
    assert killed is not None
    procs.kill([killed])
    assert unpd.wait_event("child.reaped", pid=killed).fields["reason"] == "sigkill"
    until(is_shown, 10.0, "the exporter after that")
    assert counted() == logged()
