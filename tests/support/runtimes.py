"""The runtime of a master without children: real listeners and a real scoreboard. The
tests of the performers and of the watchdog work on one.
"""

import contextlib
import os
from collections.abc import Iterator

from unpd.board import memory
from unpd.board import sources as sources_of_clients
from unpd.board.memory import Scoreboard
from unpd.config.host import this_host
from unpd.config.load import loads
from unpd.kernel.signals import Reaper, SignalQueue
from unpd.logs import Log
from unpd.loop import Loop
from unpd.master.columns import BoardColumns
from unpd.master.listening.sources import ListenerSources
from unpd.master.listening.table import Listeners
from unpd.master.runtime import Deployment, Runtime


@contextlib.contextmanager
def running(text: str, log: Log) -> Iterator[Runtime]:
    """Open the listeners of the configuration ``text`` for the length of the block. A
    reload reads an empty file unless the test says otherwise. ``text`` says where the
    metrics are: by default they have a port that only one test could have.
    """
    config = loads(text, this_host()).config
    assert "listen" in config.metrics.model_fields_set, "name metrics.listen"
    sources = ListenerSources()
    listeners = Listeners(sources)
    listeners.adopt(listeners.prepare(sources.wanted_listeners(config)))
    fd = memory.create()
    board = Scoreboard(fd)
    os.close(fd)
    counts = sources_of_clients.create()
    columns = BoardColumns(board)
    columns.take(config, listeners.wanted())
    runtime = Runtime(
        deployment=Deployment(config, listeners),
        load=lambda: loads("", this_host()),
        identity=None,
        log=log,
        board=board,
        sources=counts,
        columns=columns,
        loop=Loop(),
        reaper=Reaper(),
        signal_queue=SignalQueue(),
        on_ready=lambda: None,
        master_pid=os.getpid(),
        started_at=0.0,
    )
    yield runtime
    if runtime.candidate is not None:
        runtime.deployment.listeners.drop(runtime.candidate.listeners)
    runtime.deployment.listeners.close()
    counts.close()
