"""The last step before the loop."""

import gc
from types import SimpleNamespace
from typing import cast

from unpd.master.boot import _run
from unpd.master.runtime import Runtime
from unpd.master.shell import Shell


def test_the_collector_is_on_while_the_daemon_serves() -> None:
    """It is off from the first import on, and what was made until then is frozen."""
    seen: list[tuple[bool, bool]] = []
    shell = cast(
        Shell, SimpleNamespace(run=lambda: seen.append((gc.isenabled(), gc.get_freeze_count() > 0)))
    )
    runtime = cast(Runtime, SimpleNamespace(log=SimpleNamespace(info=lambda *_, **__: None)))
    gc.disable()
    try:
        _run(shell, runtime)
    finally:
        gc.unfreeze()
        gc.enable()
    assert seen == [(True, True)]
