"""unpd explain says what a worker would decide now, and what the log and the metrics
say of a real refusal.
"""

import json
import re
import socket
import time
from typing import Any

import pytest

from tests.support import clients
from tests.support.access import HOME, OTHER, come, echo, inside, outcome
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.rules import closed_now, make_busy
from tests.support.waiting import until


def explained(unpd: Unpd, peer: str, *options: str) -> dict[str, Any]:
    """The explanation of the daemon, as JSON."""
    options = options or ("--control", str(unpd.control))
    ended = unpd.run("explain", peer, "echo", "--json", *options)
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def agree(
    unpd: Unpd,
    peer: str,
    reason: str,
    rule: str,
    *,
    line: str = "",
    compared: tuple[float, float] | tuple[None, None] = (None, None),
    busy: bool = False,
    times: int = 1,
) -> dict[str, Any]:
    """Assert that the explanation, the log line and the metric of the next refusal say
    the same: the ``rule``, the ``line`` of the configuration in which it stands, and
    the two values that are ``compared``. Return the check that refuses. ``busy``: the
    machine is, but for moments. ``times``: so often the reason has refused then.
    """

    def refusing() -> list[dict[str, Any]]:
        if busy:
            make_busy(unpd)
        answer = explained(unpd, peer)
        found = [each for each in answer["checks"] if each["refuses"]]
        assert (answer["outcome"] == "refused") is bool(found)
        return found

    def is_refused() -> bool:
        if busy:
            make_busy(unpd)
        return outcome_of(unpd, peer) == b""

    timeout_s = 10.0 if busy else 0.0  # it refuses at once
    (check,) = until(refusing, timeout_s, f"{reason} to be explained")
    until(is_refused, timeout_s, f"{reason} to refuse")
    said = unpd.wait_event("connection.refused", peer=peer).fields
    lines = unpd.config_path.read_text().splitlines()
    expected = {
        "reason": reason,
        "rule": rule,
        "file": str(unpd.config_path) if line else None,
        "line": lines.index(line) + 1 if line else None,
        "value": compared[0],
        "limit": compared[1],
    }
    assert {name: check[name] for name in expected} == expected
    assert {name: said.get(name) for name in expected} == expected
    unpd.metric_becomes(times, "unpd_refused_total", service="echo", reason=reason)
    return check


def outcome_of(unpd: Unpd, peer: str) -> bytes:
    """What a client gets."""
    with come(unpd, peer) as sock:
        return outcome(sock)


def test_each_reason_is_explained_as_it_refuses(launch: Launch) -> None:
    """By rule, by time, by limit, by rate and by a live denial."""
    deny, share = 'deny = ["127.0.0.8/29"]', "max_per_source = 2"
    unpd = launch(echo(deny, share))
    agree(unpd, OTHER, "deny", "127.0.0.8/29", line=deny)
    assert explained(unpd, HOME)["outcome"] == "admitted"
    with inside(unpd, count=2):
        agree(unpd, HOME, "max_per_source", share, line=share, compared=(2, 2))
    control = ("--control", str(unpd.control))
    unpd.run("deny", "127.0.0.4/30", "--for", "10m", *control)
    unpd.run("deny", "127.0.0.5", "--for", "5m", *control)  # the widest is named, the last end
    until(lambda: outcome_of(unpd, "127.0.0.6") == b"", 10.0, "the denial to hold")
    check = agree(unpd, "127.0.0.5", "denied", "127.0.0.4/30", times=2)
    assert 590 < check["frees_in_s"] <= 600
    unpd.stop()

    allow, rate = f'allow = ["{OTHER}"]', 'accept_rate_per_source = "1/h"'
    unpd = launch(echo(allow, rate))
    agree(unpd, HOME, "allow", allow, line=allow)
    with inside(unpd, OTHER):
        check = agree(unpd, OTHER, "accept_rate_per_source", rate, line=rate, compared=(1, 1))
        assert check["frees_in_s"] > 0
    unpd.stop()

    times, zone = closed_now().splitlines()
    unpd = launch(echo(times, zone))
    check = agree(unpd, HOME, "access_times", times, line=times)
    assert 3600 <= check["frees_in_s"] <= 7200


@pytest.mark.slow
def test_each_limit_of_the_service_is_explained_as_it_refuses(launch: Launch) -> None:
    """By the pressure, of which each resource is shown, by the load, and by the rate of
    all its clients.
    """
    pressure = "max_pressure = { cpu = 100, memory = 80 }"
    unpd = launch(echo(pressure))
    rule = "max_pressure.memory = 80"
    agree(unpd, HOME, "max_pressure", rule, line=pressure, compared=(90, 80), busy=True)
    checks = [each for each in explained(unpd, HOME)["checks"] if each["resource"]]
    assert [(each["resource"], each["limit"]) for each in checks] == [("cpu", 100), ("memory", 80)]
    assert all(isinstance(each["value"], float | int) for each in checks)
    unpd.stop()

    load = "max_load = 80.5"
    unpd = launch(echo(load))
    agree(unpd, HOME, "max_load", load, line=load, compared=(90, 80.5), busy=True)
    unpd.stop()

    rate = 'accept_rate = "1/h"'
    unpd = launch(echo(rate, 'on_limit = "refuse"'))
    with inside(unpd, OTHER):
        check = agree(unpd, HOME, "accept_rate", rate, line=rate, compared=(1, 1))
        assert check["frees_in_s"] > 0


def test_a_client_that_would_wait(launch: Launch) -> None:
    """It is not refused: it stays in the accept queue."""
    unpd = launch(echo("max_connections = 1"))
    with inside(unpd):
        assert explained(unpd, HOME)["outcome"] == "waits"
    until(lambda: explained(unpd, HOME)["outcome"] == "admitted", 10.0, "a free place")


def test_datagrams_have_counts_of_their_own(launch: Launch) -> None:
    """A service without connections is explained by those; with both, by those of
    connections, and the answer says so.
    """
    rate = 'accept_rate = "1/h"\naccept_rate_per_source = "1/h"\non_limit = "refuse"\n'
    unpd = launch(f'[services.echo]\nlisten = ["udp://127.0.0.1:0"]\n{rate}')
    assert explained(unpd, HOME)["outcome"] == "admitted"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10.0)
        sock.sendto(b"x", unpd.address("echo"))
        assert sock.recv(10) == b"x"
    answer = explained(unpd, HOME)
    assert (answer["outcome"], answer["about"]) == ("refused", "datagrams")
    assert [check["reason"] for check in answer["checks"] if check["refuses"]] == [
        "accept_rate",
        "accept_rate_per_source",
    ]
    unpd.stop()
    addresses = 'listen = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"]\n'
    unpd = launch(f"[services.echo]\n{addresses}{rate}")
    said = unpd.run("explain", HOME, "echo", "--control", str(unpd.control)).stdout.decode()
    assert "this is about connections, not datagrams" in said


def test_rules_alone(launch: Launch) -> None:
    """With --config no daemon is asked. What makes no sense gets a sentence."""
    unpd = launch(echo('deny = ["192.0.2.0/24"]'))
    config = ("--config", str(unpd.config_path))
    unpd.stop()
    answer = explained(unpd, "192.0.2.9", *config)
    assert (answer["outcome"], answer["rules_of"]) == ("refused", str(unpd.config_path))
    said = unpd.run("explain", "192.0.2.9", "echo", *config).stdout.decode().splitlines()
    assert said[:3] == [
        f"by the rules of {unpd.config_path} alone; no daemon was asked",
        "192.0.2.9 may not use echo",
        "  denied: not known",
    ]
    for words, part in (
        (("192.0.2.300", "echo"), "192.0.2.300"),
        (("192.0.2.0/24", "echo"), "name one address of it"),
        (("192.0.2.1", "ech"), 'has no service "ech"; it has "echo"'),
        (("uid:nobody-of-this-host", "echo"), "this host has no user"),
        (("192.0.2.1", "metrics"), "metrics is no service: allow in [metrics] alone says"),
    ):
        ended = unpd.run("explain", *words, *config)
        assert ended.returncode == 2
        assert part in ended.stderr.decode()


def test_how_long_a_refusal_lasts_is_said_for_people(launch: Launch) -> None:
    """In hours and minutes, and not in thousands of seconds."""
    hour = (time.gmtime().tm_hour + 3) % 24
    unpd = launch(echo(f'access_times = ["{hour:02}:00-{hour:02}:59"]', 'times_zone = "UTC"'))
    unpd.stop()
    said = unpd.run("explain", HOME, "echo", "--config", str(unpd.config_path)).stdout.decode()
    assert re.search(r"access_times: refuses.*, for [123] h( \d+ min)?$", said, re.MULTILINE), said


def test_a_denial_is_explained_whole(launch: Launch) -> None:
    """Which network, who denied it and why: more than the worker that refuses knows.
    The metrics are no service, and the answer says what decides there.
    """
    unpd = launch(
        echo() + '[access]\nnever_deny = []\n[services.trap]\ntype = "sensor"\n'
        'listen = ["tcp://0.0.0.0:0"]\n'
    )
    control = ("--control", str(unpd.control))
    unpd.run("deny", "192.0.2.0/24", "--why", "a scan", *control)
    answer = explained(unpd, "192.0.2.7")
    assert answer["denial"]["reason"] == "a scan"
    assert answer["denial"]["network"] == "192.0.2.0/24"
    said = unpd.run("explain", "192.0.2.7", "echo", *control).stdout.decode()
    assert ": a scan\n" in said
    with clients.connect((HOME, unpd.port("trap")), source=OTHER) as sock:
        clients.read_all(sock)
    unpd.wait_event("denial.sensed")
    assert explained(unpd, OTHER)["denial"]["service"] == "trap"
    assert explained(unpd, HOME)["denial"] is None
    ended = unpd.run("explain", HOME, "metrics", *control)
    assert ended.returncode == 2
    assert b"metrics is no service: allow in [metrics] alone says who may read" in ended.stderr
    ended = unpd.run("explain", "uid:nobody-of-this-host", "echo", *control)
    assert ended.returncode == 2
    assert b"this host has no user" in ended.stderr


def test_a_service_that_is_busy_makes_clients_wait(launch: Launch) -> None:
    """An iterative one while it serves a client, and one whose workers have as many
    connections as they may: no limit of the service says so.
    """
    unpd = launch(echo(model="iterative"))
    assert explained(unpd, HOME)["outcome"] == "admitted"
    with inside(unpd):
        answer = explained(unpd, HOME)
        assert answer["outcome"] == "waits"
        assert "one client at a time" in answer["waits_for"]
    until(lambda: explained(unpd, HOME)["outcome"] == "admitted", 10.0, "its end")
    unpd.stop()
    unpd = launch(
        "[pools.default]\nworkers = 1\nmax_connections_per_worker = 2\n"
        '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
    )
    with inside(unpd):
        assert explained(unpd, HOME)["outcome"] == "admitted"
        with inside(unpd):
            assert "max_connections_per_worker = 2" in explained(unpd, HOME)["waits_for"]
