"""The last step before the loop."""

import gc
from types import SimpleNamespace
from typing import cast

from unpd.master.boot import _run
from unpd.master.runtime import Runtime
from unpd.master.shell import Shell


def test_the_collector_is_on_while_the_daemon_serves() -> None:
    """It is on, and everything that was made before is frozen."""
    seen: list[tuple[bool, bool]] = []
    shell = cast(
        Shell, SimpleNamespace(run=lambda: seen.append((gc.isenabled(), gc.get_freeze_count() > 0)))
    )
    runtime = cast(Runtime, SimpleNamespace(log=SimpleNamespace(info=lambda *_, **__: None)))
    try:
        _run(shell, runtime)
    finally:
        gc.unfreeze()
    assert seen == [(True, True)]
