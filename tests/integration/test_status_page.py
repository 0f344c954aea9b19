"""The status page of a whole daemon: live numbers, events of the master, and a history
that outlasts reloads and exporters.
"""

import contextlib
import json
import os
import re
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest

from tests.support import clients
from tests.support.counts import wait_active
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, reload
from tests.support.waiting import until
from unpd.control.answer_fields import mismatch
from unpd.control.page_fields import PAGE
from unpd.control.status_fields import STATUS

LIMITED = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
max_connections = 50
"""
STRANGERS = """
[access]
never_deny = []
[services.echo]
listen = ["tcp://127.0.0.1:0"]
deny = ["127.0.0.6"]
[services.trap]
type = "sensor"
listen = ["tcp://127.0.0.1:0"]
"""


def status(unpd: Unpd) -> dict[str, Any]:
    """What /status.json says."""
    answer = unpd.get("/status.json")
    assert answer.status == 200
    found: dict[str, Any] = json.loads(answer.body)
    assert not mismatch(found, PAGE), mismatch(found, PAGE)
    return found


def becomes(unpd: Unpd, path: str, expected: object) -> dict[str, Any]:
    """Wait until a value is as expected; return the whole status."""
    last: list[dict[str, Any]] = []

    def there() -> bool:
        last[:] = [status(unpd)]
        value: Any = last[0]
        for part in path.split("."):
            value = value[int(part) if part.isdigit() else part]
        return bool(value == expected)

    until(there, 20, lambda: f"{path} to become {expected}; it is {last}")
    return last[0]


def test_limits_and_targets_follow_a_reload(launch: Launch) -> None:
    """A reload that changes a limit alone keeps the exporter, whose metric and page
    have the new limit at once, or none; a new target of a redirect has its series.
    """
    web = '[services.web]\ntype = "redirect"\nlisten = ["tcp://127.0.0.1:0"]\nto = ["{}"]\n'
    unpd = launch(LIMITED + web.format("tcp://127.0.0.1:9"))
    exporter = unpd.exporter()

    def limits() -> tuple[float | None, float | None]:
        metric = unpd.metrics().get(("unpd_connections_limit", frozenset({("service", "echo")})))
        return metric, status(unpd)["services"][0]["limit"]

    assert limits() == (50, 50)
    for text, limit in ((LIMITED.replace("50", "60"), 60), (LIMITED.replace("50", "0"), None)):
        reload(unpd, text + web.format("tcp://127.0.0.1:9"))
        until(lambda limit=limit: limits() == (limit, limit), 20, f"the limit {limit}")  # type: ignore[misc]
    assert unpd.exporter() == exporter
    reload(unpd, LIMITED + web.format("tcp://127.0.0.1:99"))
    labels = {("service", "web"), ("target", "tcp://127.0.0.1:99")}
    target = "unpd_target_connections_total", frozenset(labels)
    until(lambda: target in unpd.metrics(), 20, "the series of the new target")


@pytest.mark.slow
def test_a_pause_is_on_the_page(launch: Launch) -> None:
    """A service that an operator has paused is shown as such, with the change that is
    not saved, and the event says nothing of who asked.
    """
    unpd = launch(LIMITED)
    assert unpd.run("pause", "echo", "--control", str(unpd.control)).returncode == 0
    becomes(unpd, "services.0.halted", "paused")
    (change,) = until(lambda: status(unpd)["live_changes"], 20, "the change is told")
    assert (change["change"], change["subject"], change["value"]) == ("halt", "echo", "paused")
    until(lambda: events(status(unpd), "service.halted"), 20, "the pause is an event")
    (event,) = [one for one in status(unpd)["events"] if one["event"] == "service.halted"]
    assert event["fields"] == {"service": "echo", "halted": "paused", "until": ""}


def test_children_have_the_figures_of_the_status(launch: Launch) -> None:
    """Processor time and memory of each child, as ``unpd workers`` has them."""
    unpd = launch(LIMITED)
    until(
        lambda: all(child["memory_bytes"] for child in status(unpd)["children"]),
        20,
        "the memory of all children",
    )
    page = {child["pid"]: child for child in status(unpd)["children"]}
    workers = ask(unpd.control, verb="workers")["children"]
    assert page.keys() == {child["pid"] for child in workers}
    for child in workers:
        for name in ("kind", "pool", "index", "service", "phase", "generation", "birth"):
            assert page[child["pid"]][name] == child[name]
        assert page[child["pid"]]["memory_bytes"] == pytest.approx(child["memory_bytes"], rel=0.5)


def events(found: dict[str, Any], name: str) -> list[str]:
    """The texts of the events of a name, the newest first."""
    return [event["text"] for event in found["events"] if event["event"] == name]


def test_the_page_of_a_daemon(launch: Launch) -> None:
    """The exporter has heard of the limits and of the start from the master, and counts
    the open connections. No page shows an address of a client.
    """
    unpd = launch(LIMITED)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(clients.connect(unpd.address("echo"))) for _ in range(3)]
        wait_active(unpd, 3)
        found = becomes(unpd, "services.0.limit", 50)
        echo = becomes(unpd, "totals.active", 3)["services"][0]
        assert (echo["active"], echo["queued_limit"]) == (3, echo["listeners"][0]["queue"]["limit"])
        assert (found["answering"], found["not_ready"], found["faults"]) == (True, "", 0)
        assert events(found, "master.started")
        ports = [f":{sock.getsockname()[1]}" for sock in socks]
        for path in ("/", "/status.json"):
            body = unpd.get(path).body.decode()
            assert not [port for port in ports if port in body]


@pytest.mark.slow
def test_no_page_has_an_address_of_a_client(launch: Launch) -> None:
    """Neither of one that is connected, nor of those that were kicked, denied, sensed
    or refused. The log has them.
    """
    unpd = launch(STRANGERS)
    guest, kicked, denied, sensed, refused = (f"127.0.0.{last}" for last in range(2, 7))
    with contextlib.ExitStack() as stack:

        def come(source: str, service: str = "echo") -> None:
            stack.enter_context(clients.connect(unpd.address(service), source=source))

        for source in (guest, kicked, denied):
            come(source)
        wait_active(unpd, 3)
        assert ask(unpd.control, verb="kick", peer=kicked)["kicked"] == 1
        why = f"seen from {denied}"
        assert ask(unpd.control, verb="deny", network=denied, why=why, kick=True)["kicked"] == 1
        come(sensed, "trap")
        come(refused)
        logged: dict[str, dict[str, Any]] = {
            "connections.kicked": {"network": kicked},
            "denial.kicked": {"network": denied},
            "denial.sensed": {"network": sensed},
            "connection.refused": {"peer": refused},
        }
        for event, fields in logged.items():
            unpd.wait_event(event, **fields)
        assert ask(unpd.control, verb="pause", service="trap")["ok"]
        until(lambda: events(status(unpd), "service.halted"), 20, "the last event on the page")
        becomes(unpd, "denials", 2)
        wait_active(unpd, 1)
        for path in ("/", "/status.json"):
            body = unpd.get(path).body.decode()
            assert not re.findall(r"127\.0\.0\.[2-6]\b", body), path


@pytest.mark.slow
def test_the_status_page_is_live(launch: Launch) -> None:
    """Connections move the charts, a killed worker shows as killed and comes back, and
    a reload that replaces the exporter loses neither the history nor the events.
    """
    unpd = launch(LIMITED)
    with contextlib.closing(clients.connect(unpd.address("echo"))):
        until(lambda: max(status(unpd)["history"]["active"], default=0) == 1, 20, "a sample has 1")
    victim = unpd.workers()[0]
    os.kill(victim, SIGKILL)
    until(lambda: len({*unpd.workers()} - {victim}) == 2, 20, "another worker")
    until(lambda: events(status(unpd), "worker.died"), 20, "the death is an event")
    found = status(unpd)
    (text,) = events(found, "child.reaped")
    assert f"pid {victim}: killed by SIGKILL" in text
    ends = [child["last_end"] for child in found["children"] if child["last_end"]]
    assert [end["pid"] for end in ends] == [victim]
    pids = {child["pid"] for child in becomes_ready(unpd)["children"]}
    assert set(unpd.workers()) <= pids
    assert victim not in pids
    first_s, exporter = found["history"]["at_s"][0], unpd.exporter()
    reload(unpd, every_pool=True)
    until(lambda: unpd.exporter() not in (exporter, None), 20, "another exporter")
    found = becomes(unpd, "generation", 2)
    assert found["history"]["at_s"][0] == first_s
    assert text in events(found, "child.reaped")
    until(lambda: events(status(unpd), "reload.succeeded"), 20, "the reload is an event")
    until(lambda: status(unpd)["last_reload"], 20, "the reload is the last one")
    until(
        lambda: {child["generation"] for child in status(unpd)["children"]} == {2},
        20,
        "the old children are gone",
    )
    assert_told_on_the_control_socket(unpd)


def assert_told_on_the_control_socket(unpd: Unpd) -> None:
    """The answer to ``status`` has the same samples and events where it was asked for
    them, and nulls where it was not. It always has the same facts at its top, and the
    same end of the last child of each slot.
    """
    names = ("totals", "history", "events")
    short = ask(unpd.control, verb="status")["status"]
    assert [short[name] for name in names] == [None] * 3
    page, told = status(unpd), ask(unpd.control, verb="status", history=True)["status"]
    assert not mismatch(told, STATUS), mismatch(told, STATUS)
    assert [told[name].keys() for name in names[:2]] == [page[name].keys() for name in names[:2]]
    assert told["events"] == page["events"]
    for name in ("zombies", "denials", "log_lines_dropped"):
        assert told[name] == page[name] == 0, name
    ended, shown = (
        {one["birth"]: one["last_end"] for one in of["children"]} for of in (told, page)
    )
    assert ended == shown
    assert any(ended.values())
    assert told["services"][0]["active_max_10min"] == 1
    mine, its = (samples(one["history"]) for one in (told, page))
    common = mine.keys() & its.keys()
    assert len(common) >= 2
    assert [mine[at_s] for at_s in sorted(common)] == [its[at_s] for at_s in sorted(common)]
    assert told["totals"]["active_max_10min"] == page["totals"]["active_max_10min"] == 1


def samples(history: dict[str, Any]) -> dict[float, list[Any]]:
    """The samples of a history by their times."""
    lists = [history[name] for name in history if name not in ("now_s", "at_s")]
    rows = [list(row) for row in zip(*lists, strict=True)]
    return dict(zip(history["at_s"], rows, strict=True))


def becomes_ready(unpd: Unpd) -> dict[str, Any]:
    """Wait until all children are ready; return the status."""
    last: list[dict[str, Any]] = []

    def there() -> bool:
        last[:] = [status(unpd)]
        return all(child["phase"] == "ready" for child in last[0]["children"])

    until(there, 20, lambda: f"all children are ready: {last}")
    return last[0]


@pytest.mark.slow
def test_a_stopped_master_is_shown(launch: Launch) -> None:
    """The exporter goes on while the main process stands still, and says so; the time
    is a gap in the history, over which no rate is computed.
    """
    unpd = launch(LIMITED)
    until(lambda: len(status(unpd)["history"]["at_s"]) > 1, 20, "two samples")
    os.kill(unpd.pid, SIGSTOP)
    try:
        found = becomes(unpd, "answering", expected=False)
        assert found["heartbeat_age_s"] > 5
        assert "has given no sign of life" in unpd.get("/").body.decode()
    finally:
        os.kill(unpd.pid, SIGCONT)
    becomes(unpd, "answering", expected=True)
    history = status(unpd)["history"]
    spans = [
        later - sooner for sooner, later in zip(history["at_s"], history["at_s"][1:], strict=False)
    ]
    behind = spans.index(max(spans)) + 1
    assert max(spans) > 5
    assert history["accepted_per_s"][behind] is None
