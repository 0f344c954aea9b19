"""Live denials as an operator makes them: the commands, what outlasts a reload and a
restart, and the end of connections that are open.
"""

import contextlib
import json
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import pytest

from tests.support import clients
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, degraded, refused_reload, reload, wait_all_ready
from tests.support.sessions import FORK, dispatcher, greet, kill_dispatcher, wait_over, works
from tests.support.waiting import until
from unpd.names import ExitCode

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""
DENIED, INNOCENT = "127.0.0.2", "127.0.0.1"
"""Two addresses of clients."""


def unpd_says(unpd: Unpd, *words: str, code: int = 0) -> str:
    """What ``unpd WORDS`` prints, on standard error if it fails."""
    ended = unpd.run(words[0], "--control", str(unpd.control), *words[1:])
    assert ended.returncode == code, ended
    return (ended.stderr if code else ended.stdout).decode()


def denied(unpd: Unpd) -> list[str]:
    """The networks that are denied."""
    listed = json.loads(unpd_says(unpd, "denied", "--json"))["denials"]
    return [denial["network"] for denial in listed]


def is_served(unpd: Unpd, source: str) -> bool:
    """Whether a new client of a source is served."""
    with contextlib.closing(clients.connect(unpd.address("echo"), source=source)) as sock:
        return works(sock)


def test_a_network_is_denied_listed_and_taken_back(launch: Launch) -> None:
    """The list says why, until when and by whom; the metric how many there are. What is
    not listed cannot be taken back, and the answer names the network around it.
    """
    unpd = launch(ECHO)
    assert unpd_says(unpd, "denied") == "no network is denied\n"
    said = unpd_says(unpd, "deny", "192.0.2.0/24", "--for", "10m", "--why", "a scan")
    until_text = re.fullmatch(r"192\.0\.2\.0/24 is denied until (\S+)\n", said)
    assert until_text is not None
    said = unpd_says(unpd, "deny", "2001:db8::7")
    assert said == "2001:db8::7 is denied until it is taken back\n"
    header, first, second = unpd_says(unpd, "denied").splitlines()
    assert header.split() == ["NETWORK", "REASON", "SINCE", "UNTIL", "BY"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"192\.0\.2\.0/24  a scan  {stamp}  {until_text[1]}  \w+", first)
    assert re.fullmatch(rf"2001:db8::7   -       {stamp}  taken back            \w+", second)
    unpd.metric_becomes(2, "unpd_denied_addresses")
    (added, _) = unpd.log_events("denial.added")
    assert added.matches({"network": "192.0.2.0/24", "why": "a scan", "until": until_text[1]})
    assert added.matches({"by_uid": os.geteuid()})
    said = unpd_says(unpd, "undeny", "192.0.2.7", code=1)
    assert said == (
        "unpd: 192.0.2.7 is not denied itself, but lies in 192.0.2.0/24, which is: unpd undeny"
        " 192.0.2.0/24 takes that back\n"
    )
    said = unpd_says(unpd, "deny", "192.0.2.0/24")
    assert said.endswith("taken back, in the place of its denial before\n")
    assert unpd_says(unpd, "undeny", "192.0.2.0/24") == "192.0.2.0/24 is no longer denied\n"
    assert denied(unpd) == ["2001:db8::7"]
    unpd.metric_becomes(1, "unpd_denied_addresses")
    assert unpd_says(unpd, "undeny", "192.0.2.0/24", code=1).startswith("unpd: 192.0.2.0/24 is not")
    assert [event.fields["network"] for event in unpd.log_events("denial.removed")] == [
        "192.0.2.0/24"
    ]


def test_an_address_that_looks_like_a_network_is_warned_of(launch: Launch) -> None:
    """It is denied as it was written, and the warning is that of the configuration."""
    unpd = launch(ECHO)
    for network, warning in (
        ("203.0.113.0", '"203.0.113.0" is one address, and no network: for the network write'),
        ("203.0.113.0/32", ""),
    ):
        ended = unpd.run("deny", network, "--control", str(unpd.control))
        assert ended.returncode == 0
        assert ended.stdout.startswith(b"203.0.113.0 is denied until it is taken back")
        assert ended.stderr.decode().startswith(f"warning: {warning}" if warning else "")
        assert bool(ended.stderr) == bool(warning)


def test_a_denial_ends_without_help(launch: Launch) -> None:
    """The list, and what children see, forget it."""
    unpd = launch(ECHO)
    unpd_says(unpd, "deny", "192.0.2.8", "--for", "1d")
    unpd_says(unpd, "deny", "192.0.2.7", "--for", "1s")
    until(lambda: denied(unpd) == ["192.0.2.8"], 10.0, "the end of a denial")
    unpd.metric_becomes(1, "unpd_denied_addresses")
    assert len(unpd.log_events("denial.added")) == 2


def test_bad_requests_are_refused_by_the_daemon(launch: Launch) -> None:
    """Whatever a program sends over the control socket, one sentence is the answer, and
    nothing is denied.
    """
    unpd = launch(ECHO)
    for arguments, reason in (
        ({}, "network must be text"),
        ({"network": ["::1"]}, "network must be text"),
        ({"network": "192.0.2.1/24"}, '"192.0.2.1/24" has bits beyond its prefix length'),
        ({"network": "::1", "for": "ever"}, '"ever" is no time: write'),
        ({"network": "::1", "why": "\x1b[2J"}, "the reason must be one line"),
        ({"network": "::1", "kick": "yes"}, "kick must be true or false"),
    ):
        answer = ask(unpd.control, verb="deny", **arguments)
        assert not answer["ok"]
        assert answer["reason"].startswith(reason)
    assert denied(unpd) == []


def test_denials_outlast_reloads(launch: Launch) -> None:
    """Also one that replaces every process: the new ones refuse the client, too."""
    unpd = launch(ECHO)
    unpd_says(unpd, "deny", DENIED)
    reload(unpd, every_pool=True)
    assert denied(unpd) == [DENIED]
    assert unpd.metric("unpd_denied_addresses") == 1
    assert not is_served(unpd, DENIED)
    assert is_served(unpd, INNOCENT)


@pytest.mark.slow
def test_denials_outlast_a_restart_with_a_file(launch: Launch, tmp_path: Path) -> None:
    """A stop loses nothing that was asked for before, and the next daemon refuses the
    same clients. A kill of the master loses at most a second.
    """
    path = tmp_path / "denials"
    text = f'{ECHO}\n[access]\nstate_file = "{path}"\n'
    unpd = launch(text)
    unpd_says(unpd, "deny", "192.0.2.7", "--why", "a scan")
    unpd_says(unpd, "deny", DENIED, "--for", "1h")
    unpd_says(unpd, "stop")
    again = launch(text)
    listed = json.loads(unpd_says(again, "denied", "--json"))["denials"]
    assert [(denial["network"], denial["reason"]) for denial in listed] == [
        (DENIED, ""),
        ("192.0.2.7", "a scan"),
    ]
    assert again.metric("unpd_denied_addresses") == 2
    assert not is_served(again, DENIED)
    assert is_served(again, INNOCENT)
    unpd_says(again, "undeny", "192.0.2.7")
    until(lambda: "192.0.2.7" not in path.read_text(), 10.0, "the change in the file")
    again.expect_exit(-SIGKILL)
    again.expect_leftover(again.pid_file)
    again.expect_leftover(again.control)
    again.signal(SIGKILL)
    third = launch(text)
    assert denied(third) == [DENIED]
    assert not is_served(third, DENIED)
    assert [each.name for each in tmp_path.glob("denials*")] == ["denials"]


def test_a_reload_may_name_the_file(launch: Launch, tmp_path: Path) -> None:
    """The denials that are live then are written to it."""
    path = tmp_path / "denials"
    unpd = launch(ECHO)
    unpd_says(unpd, "deny", "192.0.2.7")
    reload(unpd, f'{ECHO}\n[access]\nstate_file = "{path}"\n')
    until(lambda: path.exists() and "192.0.2.7" in path.read_text(), 10.0, "the file")


def test_a_damaged_file_keeps_no_daemon_from_its_work(launch: Launch, tmp_path: Path) -> None:
    """The start warns, with file and line, and keeps the file."""
    path = tmp_path / "denials"
    path.write_text('{"unpd_denials": 1, "count": 1}\n{"network": "here"}\n')
    unpd = launch(f'{ECHO}\n[access]\nstate_file = "{path}"\n')
    (warning,) = unpd.log_events("denials.damaged", level="warning")
    assert warning.matches({"file": str(path), "line": 2, "kept": f"{path}.broken"})
    assert '"here"' in Path(f"{path}.broken").read_text()
    assert degraded(unpd) == []


def test_a_file_that_cannot_be_written_is_shown(launch: Launch, tmp_path: Path) -> None:
    """The start makes its directory. Once that is gone, the daemon is degraded, and
    serves on; the network is denied.
    """
    path = tmp_path / "state" / "denials"
    unpd = launch(f'{ECHO}\n[access]\nstate_file = "{path}"\n')
    path.parent.rmdir()
    unpd.expect_errors("denials.not_saved")
    unpd_says(unpd, "deny", "192.0.2.7")
    unpd.wait_event("denials.not_saved")
    assert degraded(unpd) == [
        f"the live denials cannot be written to {path}: No such file or directory"
    ]
    unpd.metric_becomes(1, "unpd_degraded", reason="denials_not_saved")
    assert denied(unpd) == ["192.0.2.7"]


@pytest.mark.slow
def test_no_other_file_is_replaced(launch: Launch, tmp_path: Path) -> None:
    """A state file that is a directory with content, the file of somebody else, the
    configuration itself or in no place at all: check, start and reload refuse each, and
    leave it as it was.
    """
    directory, foreign = tmp_path / "varlib", tmp_path / "passwd"
    directory.mkdir()
    foreign.write_text("root:x:0:0\n")
    (directory / "kept").write_text("kept")
    unpd = launch(ECHO)
    for place, sentence in (
        (directory, f"{directory} is a directory: name a file in it, such as {directory}/denials"),
        (foreign, f"{foreign} holds something else than live denials"),
        (unpd.config_path, f"{unpd.config_path} holds something else than live denials"),
        (tmp_path / "no" / "such" / "denials", f"there is no directory {tmp_path}/no/such"),
    ):
        text = f'{ECHO}\n[access]\nstate_file = "{place}"\n'
        assert sentence in refused_reload(unpd, text)
        ended = unpd.run("check", "--config", str(unpd.config_path))
        assert ended.returncode == ExitCode.CONFIGURATION
        assert sentence in ended.stderr.decode()
        started = launch(text, ready=False)
        started.expect_exit(ExitCode.CONFIGURATION)
        started.wait_exit()
        assert sentence in started.stderr()
    assert (directory / "kept").read_text() == "kept"
    assert foreign.read_text() == "root:x:0:0\n"
    assert list(tmp_path.glob("*.broken*")) == []


def test_a_denial_holds_at_a_service_that_observes(launch: Launch) -> None:
    """The keys mode and observe try out the rules of the configuration; a denial is the
    order of somebody. It does not concern the metrics: a mistake hides nothing there.
    """
    unpd = launch(f'{ECHO}mode = "observe"\n')
    unpd_says(unpd, "deny", INNOCENT)
    until(lambda: not is_served(unpd, INNOCENT), 10.0, "the denial to hold")
    unpd.metric_becomes(1, "unpd_denied_addresses")
    assert unpd.metric("unpd_would_refuse_total", service="echo", reason="denied") == 0


@pytest.mark.slow
def test_a_long_list_comes_whole(launch: Launch) -> None:
    """More than a page, and the daemon answers others meanwhile."""
    unpd = launch(ECHO)
    networks = [f"10.0.{number >> 8}.{number & 255}" for number in range(2500)]
    for network in networks:
        assert ask(unpd.control, verb="deny", network=network)["ok"]
    assert denied(unpd) == networks
    unpd.metric_becomes(2500, "unpd_denied_addresses")


# --- connections that are open --------------------------------------------------------


def client(stack: contextlib.ExitStack, unpd: Unpd, source: str) -> socket.socket:
    """A client of the echo service that has had an answer."""
    return greet(stack.enter_context(clients.connect(unpd.address("echo"), source=source)))


MODELS = ("event", "fork", "iterative")


@pytest.mark.parametrize("model", MODELS)
def test_a_kick_ends_the_open_connections_of_a_network(launch: Launch, model: str) -> None:
    """In every model. They end for the cause denied, those of others stay, and the
    answer says how many there were. Without --kick all stay.
    """
    unpd = launch(f'{ECHO}model = "{model}"\n')
    with contextlib.ExitStack() as stack:
        bad = [client(stack, unpd, DENIED) for _ in range(1 if model == "iterative" else 3)]
        good = [] if model == "iterative" else [client(stack, unpd, INNOCENT)]
        unpd_says(unpd, "deny", f"{DENIED}/32")
        assert all(map(works, [*bad, *good]))
        said = unpd_says(unpd, "deny", DENIED, "--kick")
        assert said.splitlines()[1] == (
            "3 open connections ended" if good else "1 open connection ended"
        )
        wait_over(*bad)
        assert all(map(works, good))
        unpd.metric_becomes(
            len(bad), "unpd_connections_ended_total", service="echo", cause="denied"
        )
        assert unpd.total("unpd_connections_active") == len(good)
    (event,) = unpd.log_events("denial.kicked")
    assert event.matches({"network": DENIED, "ended": len(bad), "silent": 0})


def test_a_kick_reaches_children_that_drain(launch: Launch) -> None:
    """Connections of a generation before the last reload end too."""
    unpd = launch(ECHO)
    with contextlib.ExitStack() as stack:
        old = client(stack, unpd, DENIED)
        reload(unpd, every_pool=True)
        new = client(stack, unpd, DENIED)
        assert "2 open connections ended" in unpd_says(unpd, "deny", DENIED, "--kick")
        wait_over(old, new)


def test_a_kick_reaches_sessions_whose_dispatcher_died(launch: Launch) -> None:
    """The next dispatcher has them, or the master while there is none."""
    unpd = launch(FORK)
    with contextlib.ExitStack() as stack:
        bad, good = client(stack, unpd, DENIED), client(stack, unpd, INNOCENT)
        kill_dispatcher(unpd, dispatcher(unpd))
        assert "1 open connection ended" in unpd_says(unpd, "deny", DENIED, "--kick")
        wait_over(bad)
        assert works(good)
        unpd.metric_becomes(1, "unpd_connections_ended_total", service="echo", cause="denied")


def test_a_kick_reaches_sessions_whose_dispatcher_dies_meanwhile(launch: Launch) -> None:
    """The master ends them, and counts them in the answer."""
    unpd = launch(FORK)
    with contextlib.ExitStack() as stack:
        bad, good = client(stack, unpd, DENIED), client(stack, unpd, INNOCENT)
        asked = dispatcher(unpd)
        os.kill(asked, SIGSTOP)
        executor = stack.enter_context(ThreadPoolExecutor(1))
        answer = executor.submit(unpd_says, unpd, "deny", DENIED, "--kick")
        unpd.wait_event("denial.added")
        kill_dispatcher(unpd, asked)
        assert "1 open connection ended" in answer.result()
        wait_over(bad)
        assert works(good)
    (event,) = unpd.log_events("denial.kicked")
    assert event.matches({"network": DENIED, "ended": 1, "silent": 0})


@pytest.mark.slow
def test_a_process_that_stands_still_holds_up_no_answer(launch: Launch) -> None:
    """The command complains after some seconds; the network is denied."""
    unpd = launch(f"{ECHO}\n[pools.default]\nworkers = 1\n")
    (worker,) = unpd.workers()
    os.kill(worker, SIGSTOP)
    ended = unpd.run("deny", "--control", str(unpd.control), DENIED, "--kick")
    assert ended.returncode == 0
    assert b"1 process did not answer: connections of 127.0.0.2 may be open there" in ended.stderr
    assert denied(unpd) == [DENIED]
    os.kill(worker, SIGKILL)
    unpd.expect_errors("worker.died")
    wait_all_ready(unpd)


@pytest.mark.parametrize("model", MODELS)
def test_a_denial_holds_at_every_worker(launch: Launch, model: str) -> None:
    """Soon after the answer (within 100 ms; the test allows tenfold), no worker serves
    the network, and all serve others. After it was taken back, all serve it.
    """
    unpd = launch(f'{ECHO}model = "{model}"\n\n[pools.default]\nworkers = 4\n')

    def served(source: str) -> int:
        """How many of 20 clients, one after the other, are served."""
        return sum(is_served(unpd, source) for _ in range(20))

    assert served(DENIED) == 20
    assert ask(unpd.control, verb="deny", network=DENIED)["ok"]
    until(lambda: served(DENIED) == 0, 1.0, "no worker to serve the network")
    assert served(INNOCENT) == 20
    assert ask(unpd.control, verb="undeny", network=DENIED)["ok"]
    until(lambda: served(DENIED) == 20, 1.0, "every worker to serve the network")
