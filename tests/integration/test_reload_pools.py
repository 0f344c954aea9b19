"""A reload replaces the processes of the pools whose configuration changed, and no
others. Retired processes drain side by side.
"""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, reconfigure, reload, status
from tests.support.waiting import until
from unpd.control.answer_fields import mismatch
from unpd.control.reload_fields import PREVIEW
from unpd.core.converge import MAX_RETIRED_GENERATIONS

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

APART = (
    ECHO
    + """
[pools.slow]
workers = 1

[services.daytime]
listen = ["tcp://127.0.0.1:0"]
pool = "slow"
"""
)
"""The service echo in the pool default, the service daytime in the pool slow."""

LASTING = "[daemon]\nreload_grace_s = 0\n"


def backlogs(number: int) -> str:
    """Return a configuration of echo that differs for each number."""
    return LASTING + ECHO + f"backlog = {100 + number}\n"


def places(unpd: Unpd) -> dict[int, str]:
    """Return the kind and the pool of each living child that does not drain."""
    found = (
        (child.pid, re.match(r"unpd: (worker [a-z]+/\d+|exporter) (?!draining)", child.title))
        for child in procs.children(unpd.pid)
        if not child.zombie
    )
    return {pid: match[1] for pid, match in found if match}


def wait_replaced(unpd: Unpd, old: set[int]) -> None:
    """Wait until none of the children ``old`` accepts connections any more."""
    until(lambda: not old & set(places(unpd)), 10.0, "the old processes to drain")


def without_log(shown: str) -> tuple[list[str], list[str]]:
    """Return the lines that ``unpd reload`` prints before the log, and those of it."""
    lines = shown.splitlines()
    at = lines.index("log:")
    return lines[:at], lines[at + 1 :]


def generations(unpd: Unpd, phase: str) -> list[int]:
    """Return the generations of the workers that are in ``phase``, by the status."""
    return sorted(
        child["generation"]
        for child in status(unpd)["children"]
        if child["phase"] == phase and child["kind"] == "worker"
    )


def test_connections_without_a_limit_outlast_two_reloads(launch: Launch) -> None:
    """With ``reload_grace_s = 0`` a connection goes on over two reloads that change its
    service. The status shows the generations that drain.
    """
    unpd = launch(backlogs(0))
    with clients.connect(unpd.address("echo")) as session:
        session.sendall(b"before")
        assert clients.read_exactly(session, 6) == b"before"
        for number in (1, 2):
            old = set(unpd.workers())
            assert reload(unpd, backlogs(number)) == number + 1
            wait_replaced(unpd, old)
            with clients.connect(unpd.address("echo")) as other:
                other.sendall(b"new")
                assert clients.read_exactly(other, 3) == b"new"
            session.sendall(b"still here")
            assert clients.read_exactly(session, 10) == b"still here"
        until(
            lambda: generations(unpd, "draining") == [1],
            10.0,
            lambda: f"only generation 1 to drain; {generations(unpd, 'draining')} do",
        )
        assert set(generations(unpd, "ready")) == {3}


def test_a_ninth_retired_generation_ends_the_oldest(launch: Launch) -> None:
    """With ``reload_grace_s = 0`` the connections of eight retired generations go on.
    The ninth ends those of the oldest with a FIN, and no others.
    """
    unpd = launch(backlogs(0))
    sessions = []
    for number in range(1, MAX_RETIRED_GENERATIONS + 2):
        session = clients.connect(unpd.address("echo"))
        session.sendall(b"1")
        assert clients.read_exactly(session, 1) == b"1"
        sessions.append(session)
        old = set(unpd.workers())
        reload(unpd, backlogs(number))
        wait_replaced(unpd, old)
    assert clients.read_all(sessions[0]) == b""
    for session in sessions[1:]:
        session.sendall(b"still here")
        assert clients.read_exactly(session, 10) == b"still here"
    for session in sessions:
        session.close()
    assert unpd.wait_event("worker.drain_cut").fields["generation"] == 1


def test_a_reload_keeps_the_connections_of_unchanged_services(launch: Launch) -> None:
    """A reload that changes one pool leaves the processes and the connections of the
    other one alone, however short ``reload_grace_s`` is.
    """
    unpd = launch("[daemon]\nreload_grace_s = 0.1\n" + APART)
    before = places(unpd)
    with clients.connect(unpd.address("echo")) as session:
        session.sendall(b"before")
        assert clients.read_exactly(session, 6) == b"before"
        changed = "[daemon]\nreload_grace_s = 0.1\n" + APART + 'format = "iso8601"\n'
        assert reload(unpd, changed) == 2
        wait_replaced(unpd, {pid for pid, place in before.items() if "slow" in place})
        assert re.match(rb"\d{4}-", clients.ask(unpd.address("daytime")))
        session.sendall(b"still here")
        assert clients.read_exactly(session, 10) == b"still here"
    after = places(unpd)
    assert {pid for pid, place in after.items() if "default" in place} == {
        pid for pid, place in before.items() if "default" in place
    }
    generations = {child["pool"]: child["generation"] for child in status(unpd)["children"]}
    assert (generations["default"], generations["slow"]) == (1, 2)
    succeeded = unpd.wait_event("reload.succeeded")
    assert succeeded.fields["replaced"] == "slow"


def test_a_reload_that_changes_nothing_replaces_nothing(launch: Launch) -> None:
    """A reload of the same file succeeds and counts, and every process stays. So does a
    reload of another order of the same services, and of limits that only the master
    reads.
    """
    unpd = launch(APART)
    before = places(unpd)
    assert reload(unpd) == 2
    limits = "[daemon]\nreload_grace_s = 7\nstart_timeout_s = 7\nheartbeat_timeout_s = 7\n"
    assert reload(unpd, limits + APART) == 3
    first, _, second = APART.partition("[pools.slow]")
    assert reload(unpd, "[pools.slow]" + second + first) == 4
    unpd.signal(signal.SIGHUP)
    unpd.wait_event("reload.succeeded", generation=5)
    assert places(unpd) == before
    assert unpd.metric("unpd_generation") == 5
    assert unpd.metric("unpd_config_reloads_total", result="success") == 4
    assert clients.converse(unpd.address("echo"), b"as before") == b"as before"


def test_reload_all_replaces_every_process(launch: Launch) -> None:
    """``unpd reload --all`` replaces the processes of unchanged pools too; the old ones
    drain.
    """
    unpd = launch(APART)
    before = places(unpd)
    with clients.connect(unpd.address("echo")) as session:
        session.sendall(b"before")
        assert clients.read_exactly(session, 6) == b"before"
        done = unpd.run("reload", "--all", "--control", str(unpd.control))
        assert done.returncode == 0
        assert without_log(done.stdout.decode())[0] == [
            "exporter: respawned with 1 process, generation 2",
            "pool default: respawned with 2 workers, generation 2",
            "pool slow: respawned with 1 worker, generation 2",
            "reloaded: generation 2",
        ]
        wait_replaced(unpd, set(before))
        assert sorted(places(unpd).values()) == sorted(before.values())
        session.sendall(b"still here")
        assert clients.read_exactly(session, 10) == b"still here"


def test_another_number_of_workers_keeps_the_others(launch: Launch) -> None:
    """A pool that grows or shrinks keeps its other workers. The reload is answered when
    the new ones are ready.
    """
    unpd = launch("[pools.default]\nworkers = 1\n" + ECHO)
    (first,) = unpd.workers()
    assert reload(unpd, "[pools.default]\nworkers = 3\n" + ECHO) == 2
    assert generations(unpd, "ready") == [1, 1, 1]
    assert first in unpd.workers()
    assert reload(unpd, "[pools.default]\nworkers = 1\n" + ECHO) == 3
    until(lambda: unpd.workers() == [first], 10.0, "the surplus workers to leave")


def test_a_worker_of_an_unchanged_pool_is_replaced_by_its_equal(launch: Launch) -> None:
    """A worker that dies after a reload left its pool alone is replaced in the pool's
    generation, with the same listener, and serves.
    """
    unpd = launch(APART)
    assert reload(unpd, APART + 'format = "iso8601"\n') == 2
    default = [pid for pid, place in places(unpd).items() if "default" in place]
    os.kill(default[0], signal.SIGKILL)
    unpd.wait_event("worker.died", pool="default", generation=1)
    for pid in default[1:]:
        os.kill(pid, signal.SIGKILL)
    until(
        lambda: len([1 for place in places(unpd).values() if "default" in place]) == len(default),
        10.0,
        "the workers to be replaced",
    )
    assert clients.converse(unpd.address("echo"), b"again") == b"again"


@pytest.mark.parametrize("argument", ['"yes"', "1", "null"])
def test_all_is_true_or_false(launch: Launch, argument: str) -> None:
    """A request with another value of ``all`` is refused with what would be right."""
    unpd = launch(ECHO)
    answer = ask(unpd.control, verb="reload", all={"null": None}.get(argument, argument))
    assert (answer["ok"], answer["reason"]) == (False, "all must be true or false")


def test_a_listener_that_came_back_gets_new_workers(launch: Launch, tmp_path: Path) -> None:
    """A service that a reload removes and another one brings back is served by new
    processes, on the new listener.
    """
    path = tmp_path / "echo.sock"
    echo = f'[services.echo]\nlisten = ["unix://{path}"]\n'
    daytime = '[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\n'
    unpd = launch(echo)
    assert reload(unpd, daytime) == 2
    reconfigure(unpd, echo)
    assert reload(unpd) == 3
    with clients.connect(str(path)) as session:
        session.sendall(b"back")
        assert clients.read_exactly(session, 4) == b"back"


def test_a_reload_tells_what_it_has_changed(launch: Launch) -> None:
    """``unpd reload`` prints what became of each pool, and which services and listeners
    came or went; ``--json`` and the log line have the same.
    """
    unpd = launch(APART)
    old = bound_address(unpd, "daytime")
    less = APART.replace("services.daytime", "services.new").replace(
        "pool = ", "type='echo'\npool = "
    )
    reconfigure(unpd, less)
    done = unpd.run("reload", "--control", str(unpd.control)).stdout.decode()
    told, log = without_log(done)
    new = bound_address(unpd, "new")
    assert any(" reload.succeeded generation=2 " in line for line in log), done
    assert told == [
        "exporter: respawned with 1 process, generation 2",
        "pool slow: respawned with 1 worker, generation 2",
        "pool default: unchanged",
        "services: added new; removed daytime",
        f"listeners: opened {new}; closed {old}",
        "reloaded: generation 2",
    ]
    line = unpd.wait_event("reload.succeeded", generation=2).fields
    assert (line["replaced"], line["resized"], line["removed"]) == ("exporter, slow", "", "")
    assert (line["services_added"], line["services_removed"]) == ("new", "daytime")
    assert (line["opened"], line["closed"]) == (new, old)
    reconfigure(unpd, less.replace("[pools.slow]\nworkers = 1", "[pools.slow]\nworkers = 3"))
    shown = unpd.run("reload", "--json", "--control", str(unpd.control)).stdout
    changes = json.loads(shown)["changes"]
    assert {one["pool"]: (one["outcome"], one["children"]) for one in changes["pools"]} == {
        "exporter": ("unchanged", 1),
        "default": ("unchanged", 2),
        "slow": ("resized", 3),
    }
    assert changes["services_added"] == changes["listeners_closed"] == []


def test_a_dry_run_tells_what_a_reload_would_change_and_changes_nothing(launch: Launch) -> None:
    """``unpd reload --dry-run`` names keys, services, pools and the workers that would
    be replaced with their connections; afterwards all is as before. It fails where a
    reload would be refused: a faulty file, and a key that needs a restart.
    """
    unpd = launch(APART)
    before, old = places(unpd), bound_address(unpd, "daytime")
    changed = APART.replace("[services.echo]", "[services.echo]\nidle_timeout_s = 5")
    reconfigure(unpd, changed.replace("services.daytime", "services.discard"))
    dry_run = ("reload", "--dry-run", "--control", str(unpd.control))
    with clients.connect(unpd.address("echo")) as session:
        session.sendall(b"before")
        assert clients.read_exactly(session, 6) == b"before"
        shown = json.loads(unpd.run(*dry_run, "--json").stdout)
        assert mismatch(shown, PREVIEW) == ""
        assert shown["keys"] == [
            {"key": "services.echo.idle_timeout_s", "before": "600", "after": "5"}
        ]
        assert (shown["services_added"], shown["services_removed"]) == (["discard"], ["daytime"])
        assert shown["listeners_closed"] == [old]
        workers = [one for one in shown["replaced"] if one["kind"] == "worker"]
        assert {one["pid"] for one in workers} == set(unpd.workers())
        assert sum(one["connections"] for one in workers) == 1
        assert "services.echo.idle_timeout_s: 600 -> 5\n" in unpd.run(*dry_run).stdout.decode()
        assert clients.converse(unpd.address("daytime"), b"") != b""
    assert (places(unpd), status(unpd)["generation"]) == (before, 1)
    reconfigure(unpd, "[log]\nformat = 'text'\n" + APART)
    refused = unpd.run(*dry_run)
    assert (refused.returncode, refused.stderr.decode()) == (
        1,
        "unpd: reload would fail: log.format cannot be changed by a reload: restart unpd\n",
    )
    reconfigure(unpd, b"[services.echo]\nlisten = 7\n")
    refused = unpd.run(*dry_run, "--json")
    assert refused.returncode == 1
    assert b"unpd: reload would fail: " in refused.stderr
    sentence = "unpd.toml:2: services.echo.listen: must be"
    assert sentence in refused.stderr.decode()
    shown = json.loads(refused.stdout)
    assert mismatch(shown, PREVIEW) == ""
    assert (shown["result"], shown["keys"]) == ("refused", [])
    assert sentence in shown["reason"]
    assert unpd.log_events("control.asked") == []


def test_a_request_that_begins_no_reload_has_no_result(launch: Launch) -> None:
    """A daemon of another configuration refuses it: only standard error says why."""
    unpd, other = launch(ECHO), launch(ECHO)
    control = f'control = "{other.control}"'
    text = other.config_path.read_text()
    other.config_path.write_text(text.replace(control, f'control = "{unpd.control}"'))
    for options in ((), ("--dry-run",)):
        done = unpd.run("reload", *options, "--json", "--config", str(other.config_path))
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"runs with the configuration" in done.stderr


def bound_address(unpd: Unpd, service: str) -> str:
    """Return the address of the one listener of a service."""
    (found,) = [one for one in status(unpd)["services"] if one["name"] == service]
    (listener,) = found["listeners"]
    return str(listener["address"])
