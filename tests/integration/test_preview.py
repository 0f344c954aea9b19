"""What a reload would change, of a master without children: real listeners and a real
scoreboard.
"""

import gc
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.memory_sink import MemorySink
from tests.support.runtimes import running
from unpd import logs
from unpd.config.host import this_host
from unpd.config.load import loads
from unpd.control.answer_fields import mismatch
from unpd.control.reload_fields import PREVIEW
from unpd.control.verb import VerbError
from unpd.core.model import Child, Slot, State
from unpd.master.children.kinds import wanted_children
from unpd.master.reload_preview import preview
from unpd.names import ChildKind, ChildPhase

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


def previewed(tmp_path: Path, new: str, *, every_pool: bool = False) -> dict[str, Any]:
    """The preview of a change from CONFIG to ``new``, with two workers."""
    log = logs.Log(MemorySink().sink, "info", "text")
    with running(CONFIG.format(path=tmp_path), log) as runtime:
        runtime.load = lambda: loads(new.format(path=tmp_path), this_host())
        state = State(wanted_children(runtime.deployment))
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
