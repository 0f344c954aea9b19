"""What a reload would change, of a master without children: real listeners and a real
scoreboard.
"""

import errno
import gc
import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.memory_sink import MemorySink
from tests.support.ports import free_port
from tests.support.runtimes import running
from unpd import logs
from unpd.config.host import this_host
from unpd.config.load import loads
from unpd.control.answer_fields import mismatch
from unpd.control.reload_fields import PREVIEW
from unpd.control.verb import VerbError
from unpd.core.model import Child, Scale, Slot, State
from unpd.master.children.kinds import wanted_children
from unpd.master.reload_preview import preview
from unpd.names import ENDING_PHASES, ChildKind, ChildPhase, MasterPhase

CONFIG = """
[metrics]
listen = false
[pools.default]
workers = 2
[services.echo]
listen = ["unix://{path}/echo"]
"""
LASTING = "[daemon]\nreload_grace_s = 0\n"
MORE = """
[services.more]
type = "echo"
listen = ["unix://{path}/more", "tcp://127.0.0.1:0"]
"""


def previewed(
    tmp_path: Path, new: str, *, every_pool: bool = False, scale: Scale | None = None
) -> dict[str, Any]:
    """The preview of a change from CONFIG to ``new``, with two workers, or with as many
    as an operator wants.
    """
    log = logs.Log(MemorySink().sink, "info", "text")
    with running(CONFIG.format(path=tmp_path), log) as runtime:
        runtime.load = lambda: loads(new.format(path=tmp_path), this_host())
        state = State(wanted_children(runtime.deployment))
        if scale:
            state.scales = {"default": scale}
            state.wanted = state.wanted.with_workers("default", scale.workers)
        for birth in (1, 2):
            slot = Slot(ChildKind.WORKER, "default", birth - 1)
            state.children[birth] = Child(birth, slot, 1, ChildPhase.READY, born_at=0.0)
        state.children[3] = replace(state.children[1], birth=3, retired_by=1)
        gc.collect()  # descriptors that earlier tests left
        before, files = len(os.listdir("/proc/self/fd")), sorted(tmp_path.iterdir())
        found = preview(runtime, state, every_pool=every_pool)
        assert (len(os.listdir("/proc/self/fd")), sorted(tmp_path.iterdir())) == (before, files)
        assert runtime.candidate is None
        assert mismatch(found, PREVIEW) == ""
        assert list(found) == [field.name for field in PREVIEW]
        return found


@pytest.mark.parametrize(
    ("new", "every_pool", "outcome", "replaced"),
    [
        (CONFIG, False, "unchanged", []),
        (CONFIG, True, "respawned", [(0, 60.0), (1, 60.0)]),
        (CONFIG + "backlog = 7\n", False, "respawned", [(0, 60.0), (1, 60.0)]),
        (CONFIG + 'deny = ["10.0.0.0/8"]\n', False, "respawned", [(0, None), (1, None)]),
        (LASTING + CONFIG + "backlog = 7\n", False, "respawned", [(0, None), (1, None)]),
        (CONFIG.replace("workers = 2", "workers = 1"), False, "resized", [(1, 60.0)]),
        (CONFIG + MORE, False, "respawned", [(0, 60.0), (1, 60.0)]),
    ],
    ids=["same", "all", "key", "rules", "no-limit", "fewer", "service"],
)
def test_the_children_that_would_be_replaced_are_those_of_changed_pools(
    tmp_path: Path, new: str, every_pool: bool, outcome: str, replaced: list[Any]
) -> None:
    """With the time that their connections would have. A retired child is none."""
    found = previewed(tmp_path, new, every_pool=every_pool)
    assert [pool["outcome"] for pool in found["pools"]] == [outcome]
    assert [(child["index"], child["drain_s"]) for child in found["replaced"]] == replaced


def test_listeners_are_planned_and_not_opened(tmp_path: Path) -> None:
    """What would be opened and closed is told by its address; nothing is bound."""
    found = previewed(tmp_path, CONFIG.replace("/echo", "/other") + MORE)
    assert found["listeners_opened"] == [
        f"unix://{tmp_path}/other",
        f"unix://{tmp_path}/more",
        "tcp://127.0.0.1:0",
    ]
    assert found["listeners_closed"] == [f"unix://{tmp_path}/echo"]
    assert previewed(tmp_path, CONFIG + "backlog = 7\n")["listeners_changed"] == [
        f"unix://{tmp_path}/echo"
    ]


def test_a_key_that_needs_a_restart_is_listed(tmp_path: Path) -> None:
    """And the rest of the difference too."""
    found = previewed(tmp_path, '[log]\nformat = "json"\n' + CONFIG + "backlog = 7\n")
    assert found["restart"] == ["log.format"]
    assert [one["key"] for one in found["keys"]] == ["log.format", "services.echo.backlog"]
    assert found["services_changed"] == ["echo"]


def test_a_faulty_file_is_refused_with_every_reason(tmp_path: Path) -> None:
    """As a reload refuses it."""
    faulty = CONFIG.format(path=tmp_path) + "backlog = 0\nkeepalive = 7\n"
    log = logs.Log(MemorySink().sink, "info", "text")
    with running(CONFIG.format(path=tmp_path), log) as runtime:
        runtime.load = lambda: loads(faulty, this_host())
        state = State(wanted_children(runtime.deployment))
        with pytest.raises(VerbError, match=r"echo\.backlog.*\n.*echo\.keepalive"):
            preview(runtime, state, every_pool=False)


@pytest.mark.parametrize(
    ("new", "outcome"), [(CONFIG, "unchanged"), (CONFIG.replace("= 2", "= 3"), "resized")]
)
def test_the_number_of_workers_that_an_operator_wants_is_kept(
    tmp_path: Path, new: str, outcome: str
) -> None:
    """As a reload keeps it, unless the file has another number now."""
    found = previewed(tmp_path, new, scale=Scale(workers=1, configured=2))
    assert [pool["outcome"] for pool in found["pools"]] == [outcome]


@pytest.mark.parametrize(
    "listen",
    [
        ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"],
        ["tcp://[::]:{port}", "tcp://0.0.0.0:{port}"],
    ],
    ids=["two-free-ports", "both-families"],
)
def test_planned_listeners_do_not_stand_in_each_others_way(
    tmp_path: Path, listen: list[str]
) -> None:
    """What a reload opens, its preview takes."""
    port = free_port()
    addresses = [address.format(port=port) for address in listen]
    more = f"[services.more]\ntype = 'echo'\nipv6_only = true\nlisten = {addresses}\n"
    assert previewed(tmp_path, CONFIG + more)["listeners_opened"] == [*dict.fromkeys(addresses)]


def test_without_a_free_descriptor_a_preview_is_refused(tmp_path: Path) -> None:
    """In a sentence, and what it has opened until then is closed: a question must not
    end the master.
    """
    log = logs.Log(MemorySink().sink, "info", "text")
    with running(CONFIG.format(path=tmp_path), log) as runtime:
        loaded = loads((CONFIG + MORE).format(path=tmp_path), this_host())
        runtime.load = lambda: loaded
        state = State(wanted_children(runtime.deployment))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        gc.collect()
        free = os.dup(0)  # the lowest free number
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
        try:
            with pytest.raises(VerbError, match=f"127.0.0.1:0: {os.strerror(errno.EMFILE)}"):
                preview(runtime, state, every_pool=False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        again = os.dup(0)
        os.close(again)
        assert again == free
        assert preview(runtime, state, every_pool=False)["listeners_opened"]


@pytest.mark.parametrize("phase", ENDING_PHASES)
def test_a_daemon_that_stops_reloads_no_more(tmp_path: Path, phase: MasterPhase) -> None:
    """The reason is that of a reload, and the answer has the fields of a preview."""
    log = logs.Log(MemorySink().sink, "info", "text")
    with running(CONFIG.format(path=tmp_path), log) as runtime:
        state = State(wanted_children(runtime.deployment), phase=phase)
        with pytest.raises(VerbError, match="the daemon is stopping") as caught:
            preview(runtime, state, every_pool=False)
    found = caught.value.fields["preview"]
    assert mismatch(found, PREVIEW) == ""
    assert (found["result"], found["reason"]) == ("refused", "the daemon is stopping")
